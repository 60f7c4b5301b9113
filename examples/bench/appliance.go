package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const servedImage = "bench.pintle.dev/served:1"

// startAppliance runs the whole product with the image of the measured pods; stop takes it off the host.
func startAppliance(ctx context.Context, w *workshop) (p *process, client *kubernetes.Clientset, err error) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return nil, nil, errors.New("real containers need Linux and root")
	}
	program, err := w.build(ctx, ".", "./subject/appliance")
	if err != nil {
		return nil, nil, err
	}
	served, err := w.build(ctx, ".", "./subject/served")
	if err != nil {
		return nil, nil, err
	}
	archive := servedArchive(w)
	if err := packProgram(served, archive, servedImage, runtime.GOOS, runtime.GOARCH); err != nil {
		return nil, nil, fmt.Errorf("pack the image: %w", err)
	}
	dir, err := w.folder("appliance")
	if err != nil {
		return nil, nil, err
	}
	if p, err = start(program, freeName(), dir, archive); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	path, err := p.line(ctx, time.Minute)
	if err != nil {
		return nil, nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, nil, fmt.Errorf("kubeconfig: %w", err)
	}
	config.QPS, config.Burst = 1000, 1000 // the client's own brake isn't what is measured
	client, err = kubernetes.NewForConfig(config)
	return p, client, err
}

// servedArchive is where the image of the measured pods lies.
func servedArchive(w *workshop) string { return filepath.Join(w.dir, "served.tar") }

// packProgram writes an image archive whose root filesystem is the one static program.
func packProgram(program, archive, image, goos, goarch string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	var layerTar bytes.Buffer
	w := tar.NewWriter(&layerTar)
	err = w.WriteHeader(&tar.Header{Name: "served", Mode: 0o755, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layerTar.Bytes())), nil
	})
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = goos, goarch
	config.Config = v1.Config{Entrypoint: []string{"/served"}}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return err
	}
	tag, err := name.NewTag(image)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(archive, tag, img)
}
