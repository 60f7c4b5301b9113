// Package wasmtest makes small WASI images for tests and demos: it compiles Go source for wasip1 with the
// go command of the machine, caches the module in the user's cache folder, and packs it as an OCI archive.
package wasmtest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	_ "embed"

	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/opencontainers/go-digest"
)

//go:embed server.go.src
var server string

// Server is the demo HTTP server's source. It serves on the pod's first containerPort:
//
//	/            VERSION, the pod's name (HOSTNAME) and a newline
//	/healthz     200, or 500 once /fail was asked
//	/exit?code=N ends the program
//	/env?name=N  an environment variable
//	/file?path=P a file's content
//	/hold?ms=N   answers after a while
//
// With argument "exit N" it exits at once; with "echo …" it prints its arguments. At the close of its
// listener (SIGTERM) it finishes open requests and exits with 0.
func Server() string { return server }

// Module compiles a main package given as one file of source. The result is cached by source and Go version.
func Module(ctx context.Context, source string) ([]byte, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	sum := sha256.Sum256([]byte(runtime.Version() + "\x00" + source))
	dir := filepath.Join(cache, "pintle-wasmtest")
	path := filepath.Join(dir, hex.EncodeToString(sum[:12])+".wasm")
	if b, err := os.ReadFile(path); err == nil {
		return b, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("wasmtest: %w", err)
	}
	src, err := os.MkdirTemp("", "pintle-guest-")
	if err != nil {
		return nil, fmt.Errorf("wasmtest: %w", err)
	}
	defer os.RemoveAll(src)
	err = errors.Join(os.WriteFile(filepath.Join(src, "main.go"), []byte(source), 0o644),
		os.WriteFile(filepath.Join(src, "go.mod"), []byte("module guest\n\ngo 1.24\n"), 0o644))
	if err != nil {
		return nil, fmt.Errorf("wasmtest: %w", err)
	}
	out := filepath.Join(src, "out.wasm")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("wasmtest: compile the guest: %w: %s", err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("wasmtest: %w", err)
	}
	// Renamed into place: tests of other packages may be reading it.
	tmp, err := os.CreateTemp(dir, "new-")
	if err == nil {
		_, err = tmp.Write(b)
		err = errors.Join(err, tmp.Close())
		if err == nil {
			err = os.Rename(tmp.Name(), path)
		}
	}
	return b, err
}

// Options shape an image.
type Options struct {
	Entrypoint []string // nil: "/app.wasm"
	Cmd, Env   []string
	User       string
	// Rootfs packs the module as the file /app.wasm of an ordinary image, instead of as a wasm layer.
	Rootfs bool
	Files  map[string]string // with Rootfs: more files, by path
}

// Archive packs a module as an OCI archive (a tar) under the given reference.
func Archive(ref string, module []byte, o Options) ([]byte, error) {
	if o.Entrypoint == nil {
		o.Entrypoint = []string{"/app.wasm"}
	}
	layer, media := module, "application/wasm"
	if o.Rootfs {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		add := func(name string, data []byte) error {
			if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
				return err
			}
			_, err := tw.Write(data)
			return err
		}
		err := add("app.wasm", module)
		for n, d := range o.Files {
			err = errors.Join(err, add(n, []byte(d)))
		}
		if err = errors.Join(err, tw.Close()); err != nil {
			return nil, fmt.Errorf("wasmtest: pack: %w", err)
		}
		layer, media = b.Bytes(), ocispec.MediaTypeImageLayer
	}
	conf := ocispec.Image{Platform: ocispec.Platform{OS: "wasip1", Architecture: "wasm"},
		Config: ocispec.ImageConfig{Entrypoint: o.Entrypoint, Cmd: o.Cmd, Env: o.Env, User: o.User},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}}}
	confRaw, err := json.Marshal(conf)
	if err != nil {
		return nil, fmt.Errorf("wasmtest: pack: %w", err)
	}
	desc := func(media string, b []byte) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: media, Digest: digest.FromBytes(b), Size: int64(len(b))}
	}
	man, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: desc(ocispec.MediaTypeImageConfig, confRaw), Layers: []ocispec.Descriptor{desc(media, layer)}})
	if err != nil {
		return nil, fmt.Errorf("wasmtest: pack: %w", err)
	}
	d := desc(ocispec.MediaTypeImageManifest, man)
	d.Annotations = map[string]string{ocispec.AnnotationRefName: ref, "io.containerd.image.name": ref}
	d.Platform = &conf.Platform
	idx, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{d}})
	if err != nil {
		return nil, fmt.Errorf("wasmtest: pack: %w", err)
	}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, f := range []struct {
		name string
		data []byte
	}{{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", idx},
		{blob(man), man}, {blob(confRaw), confRaw}, {blob(layer), layer}} {
		if err := tw.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), Typeflag: tar.TypeReg}); err != nil {
			return nil, fmt.Errorf("wasmtest: pack: %w", err)
		}
		if _, err := tw.Write(f.data); err != nil {
			return nil, fmt.Errorf("wasmtest: pack: %w", err)
		}
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("wasmtest: pack: %w", err)
	}
	return b.Bytes(), nil
}

func blob(b []byte) string { return "blobs/sha256/" + digest.FromBytes(b).Encoded() }

// ServerArchive is the demo server as an OCI archive. env is baked into the image ("VERSION=v1").
func ServerArchive(ctx context.Context, ref string, env ...string) ([]byte, error) {
	m, err := Module(ctx, server)
	if err != nil {
		return nil, err
	}
	return Archive(ref, m, Options{Env: env})
}
