package containerd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pintle/pintle/runtime"
)

// resolved is what is known of an image's content; it never changes for a digest.
type resolved struct {
	image  runtime.Image // without Names
	config ocispec.Image
	parent string // snapshot that containers start from
}

// normalize gives a reference its full form: busybox → docker.io/library/busybox:latest.
func normalize(ref string) (string, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", fmt.Errorf("image reference %q: %w", ref, err)
	}
	return named.String(), nil
}

// Image implements runtime.Engine. ref is a reference in any form or an image ID.
func (e *Engine) Image(ctx context.Context, ref string) (runtime.Image, error) {
	r, err := e.resolve(ctx, ref)
	if err != nil {
		return runtime.Image{}, err
	}
	return r.image, nil
}

func (e *Engine) resolve(ctx context.Context, ref string) (*resolved, error) {
	c, err := e.conn()
	if err != nil {
		return nil, err
	}
	ctx = e.with(ctx)
	if strings.HasPrefix(ref, "sha256:") {
		all, err := c.ImageService().List(ctx)
		if err != nil {
			return nil, fmt.Errorf("list images: %w", err)
		}
		for _, img := range all {
			r, err := e.load(ctx, c, img)
			if err == nil && (r.image.ID == ref || r.image.Digest == ref) {
				return r, nil
			}
		}
		return nil, fmt.Errorf("image %s: %w", ref, runtime.ErrImageNotFound)
	}
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
	r, err := e.load(ctx, c, img)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	withName := *r
	withName.image.Names = []string{name}
	return &withName, nil
}

// Images implements runtime.Engine.
func (e *Engine) Images(ctx context.Context) ([]runtime.Image, error) {
	c, err := e.conn()
	if err != nil {
		return nil, err
	}
	ctx = e.with(ctx)
	all, err := c.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	index := map[string]int{}
	var out []runtime.Image
	for _, img := range all {
		r, err := e.load(ctx, c, img)
		if err != nil {
			continue // an import that was cut off; importing again completes it
		}
		i, ok := index[r.image.Digest]
		if !ok {
			i = len(out)
			index[r.image.Digest] = i
			out = append(out, r.image)
		}
		out[i].Names = append(out[i].Names, img.Name)
	}
	return out, nil
}

func (e *Engine) load(ctx context.Context, c *client.Client, img images.Image) (*resolved, error) {
	key := img.Target.Digest.String()
	if r, ok := e.images.Load(key); ok {
		return r.(*resolved), nil
	}
	cs := c.ContentStore()
	m, desc, err := readManifest(ctx, cs, img.Target)
	if err != nil {
		return nil, err
	}
	r := &resolved{image: runtime.Image{ID: m.Config.Digest.String(), Digest: desc.Digest.String()}}
	r.image.Size = desc.Size + m.Config.Size
	for _, l := range m.Layers {
		r.image.Size += l.Size
		if strings.Contains(l.MediaType, "wasm") {
			r.image.Wasm = true
		}
	}
	data, err := content.ReadBlob(ctx, cs, m.Config)
	if err != nil {
		return nil, fmt.Errorf("read image config: %w", err)
	}
	if err := json.Unmarshal(data, &r.config); err != nil {
		return nil, fmt.Errorf("decode image config: %w", err)
	}
	if strings.HasPrefix(r.config.Architecture, "wasm") || strings.HasPrefix(r.config.OS, "wasi") {
		r.image.Wasm = true
	}
	r.image.User = r.config.Config.User
	if !r.image.Wasm {
		r.parent = identity.ChainID(r.config.RootFS.DiffIDs).String()
	}
	e.images.Store(key, r)
	return r, nil
}

// readManifest follows an index to the manifest for this machine, or to the only one there is:
// a WASI module names no platform that would match.
func readManifest(ctx context.Context, cs content.Store, desc ocispec.Descriptor) (ocispec.Manifest, ocispec.Descriptor, error) {
	for range 4 {
		data, err := content.ReadBlob(ctx, cs, desc)
		if err != nil {
			return ocispec.Manifest{}, desc, fmt.Errorf("read manifest: %w", err)
		}
		if !images.IsIndexType(desc.MediaType) {
			var m ocispec.Manifest
			if err := json.Unmarshal(data, &m); err != nil {
				return m, desc, fmt.Errorf("decode manifest: %w", err)
			}
			return m, desc, nil
		}
		var idx ocispec.Index
		if err := json.Unmarshal(data, &idx); err != nil {
			return ocispec.Manifest{}, desc, fmt.Errorf("decode index: %w", err)
		}
		found, match := false, platforms.Default()
		for _, m := range idx.Manifests {
			wasm := m.Platform != nil && strings.HasPrefix(m.Platform.Architecture, "wasm")
			if len(idx.Manifests) == 1 || wasm || (m.Platform != nil && match.Match(*m.Platform)) {
				desc, found = m, true
				if !wasm {
					break
				}
			}
		}
		if !found {
			break
		}
	}
	return ocispec.Manifest{}, desc, runtime.ErrImageFormat
}

// ImportImages implements runtime.Engine. An import that was cut off is completed by importing again.
func (e *Engine) ImportImages(ctx context.Context, r io.Reader) ([]runtime.Image, error) {
	c, err := e.conn()
	if err != nil {
		return nil, err
	}
	plain, err := compression.DecompressStream(bufio.NewReader(r))
	if err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	defer plain.Close()
	// The lease keeps the garbage collector off what is imported but not yet named or unpacked.
	ctx, done, err := c.WithLease(e.with(ctx))
	if err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	defer done(context.WithoutCancel(ctx)) //nolint:errcheck // the lease expires
	imgs, err := c.Import(ctx, plain,
		client.WithImageRefTranslator(archiveName), client.WithAllPlatforms(true), client.WithSkipMissing(),
		client.WithDigestRef(archive.DigestTranslator("pintle.dev/import")),
		client.WithSkipDigestRef(func(name string) bool { return name != "" }))
	if err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	var out []runtime.Image
	for _, img := range imgs {
		name := img.Name
		if n, err := normalize(name); err == nil && n != name {
			alias := images.Image{Name: n, Target: img.Target, Labels: img.Labels}
			if _, err := c.ImageService().Create(ctx, alias); errdefs.IsAlreadyExists(err) {
				_, err = c.ImageService().Update(ctx, alias, "target")
				if err != nil {
					return nil, fmt.Errorf("name image %s: %w", n, err)
				}
			} else if err != nil {
				return nil, fmt.Errorf("name image %s: %w", n, err)
			}
			if err := c.ImageService().Delete(ctx, name); err != nil && !errdefs.IsNotFound(err) {
				return nil, fmt.Errorf("name image %s: %w", n, err)
			}
			img.Name, name = n, n
		}
		res, err := e.load(ctx, c, img)
		if err != nil {
			return nil, fmt.Errorf("import image %s: %w", name, err)
		}
		if !res.image.Wasm {
			if err := client.NewImage(c, img).Unpack(ctx, e.snapshotter); err != nil {
				return nil, fmt.Errorf("unpack image %s: %w", name, err)
			}
		}
		one := res.image
		one.Names = []string{name}
		out = append(out, one)
	}
	if len(out) == 0 {
		return nil, errors.New("import images: the archive holds no image")
	}
	return out, nil
}

// archiveName turns the name that an archive gives into a full one; a bare tag names nothing.
func archiveName(name string) string {
	if !strings.ContainsAny(name, ":/") {
		return ""
	}
	if n, err := normalize(name); err == nil {
		return n
	}
	return name
}
