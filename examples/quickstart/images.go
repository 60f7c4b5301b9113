package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// demoPackage is the application; its images are built here, nothing is pulled.
const demoPackage = "github.com/pintle/pintle/examples/quickstart/demoserver"

// buildImage compiles the demo server in a version and returns an image archive: a root filesystem
// with one static binary, or with one WASI module that is its entrypoint.
func buildImage(ctx context.Context, dir, version string, wasm bool) (archive []byte, reference string, err error) {
	binary, goos, goarch := "demoserver", "linux", runtime.GOARCH
	if wasm {
		binary, goos, goarch = "demoserver.wasm", "wasip1", "wasm"
	}
	path := filepath.Join(dir, version+"-"+binary)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", path, demoPackage)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("build the demo server: %w %s", err, bytes.TrimSpace(out))
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, "", fmt.Errorf("read the demo server: %w", err)
	}
	reference = "demo.pintle.dev/demoserver:" + version
	archive, err = packImage(content, binary, reference, goos, goarch)
	return archive, reference, err
}

func packImage(content []byte, binary, reference, goos, goarch string) ([]byte, error) {
	var layerTar bytes.Buffer
	w := tar.NewWriter(&layerTar)
	if err := w.WriteHeader(&tar.Header{Name: binary, Mode: 0o755, Size: int64(len(content))}); err != nil {
		return nil, fmt.Errorf("pack %s: %w", binary, err)
	}
	if _, err := w.Write(content); err != nil {
		return nil, fmt.Errorf("pack %s: %w", binary, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack %s: %w", binary, err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layerTar.Bytes())), nil
	})
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", binary, err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", binary, err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", binary, err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = goos, goarch
	config.Config = v1.Config{Entrypoint: []string{"/" + binary}, User: "65532:65532"}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, fmt.Errorf("pack %s: %w", binary, err)
	}
	tag, err := name.NewTag(reference)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", binary, err)
	}
	var out bytes.Buffer
	if err := tarball.Write(tag, image, &out); err != nil {
		return nil, fmt.Errorf("pack %s: %w", binary, err)
	}
	return out.Bytes(), nil
}
