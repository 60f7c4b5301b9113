package containerd

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pintle/pintle/runtime"
)

// maxModule bounds what Module reads, in bytes.
const maxModule = 32 << 20

// Module reads the WebAssembly module of an image: a layer that is one, as OCI artifacts have it, or the first file
// with the ending .wasm in a layer of files.
func (e *Engine) Module(ctx context.Context, ref string) ([]byte, error) {
	c, err := e.conn()
	if err != nil {
		return nil, err
	}
	ctx = e.with(ctx)
	name, err := normalize(ref)
	if err != nil {
		return nil, err
	}
	img, err := c.ImageService().Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("image %s: %w", name, runtime.ErrImageNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	m, _, err := readManifest(ctx, c.ContentStore(), img.Target)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	for _, layer := range m.Layers {
		module, err := moduleOf(ctx, c.ContentStore(), layer)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", name, err)
		}
		if module != nil {
			return module, nil
		}
	}
	return nil, fmt.Errorf("image %s holds no module: %w", name, runtime.ErrImageFormat)
}

// moduleOf is the module in a layer, nil if there is none.
func moduleOf(ctx context.Context, store content.Provider, layer ocispec.Descriptor) ([]byte, error) {
	if layer.Size > maxModule {
		return nil, nil
	}
	data, err := content.ReadBlob(ctx, store, layer)
	if err != nil {
		return nil, fmt.Errorf("read layer: %w", err)
	}
	const magic = "\x00asm"
	if bytes.HasPrefix(data, []byte(magic)) {
		return data, nil
	}
	var files io.Reader = bytes.NewReader(data)
	if z, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
		files = z
	}
	for archive := tar.NewReader(files); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read layer: %w", err)
		}
		if header.Typeflag != tar.TypeReg || !strings.HasSuffix(header.Name, ".wasm") || header.Size > maxModule {
			continue
		}
		return io.ReadAll(io.LimitReader(archive, maxModule))
	}
}
