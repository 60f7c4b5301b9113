package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	ociv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pintle/pintle/runtime"
)

// image is what the store remembers of one: all that a container needs to start. Never written
// again once it is in the store.
type image struct {
	ID, Digest string
	Names      []string
	Size       int64
	Module     string // the module's path in the root filesystem; "" when a layer is the module itself
	User       string
	Entrypoint []string
	Cmd        []string
	Env        []string
	WorkingDir string
}

// imageStore keeps images below one folder: <id>/rootfs, <id>/module.wasm and index.json.
type imageStore struct {
	dir string

	mu     sync.Mutex // guards images and index.json
	images map[string]*image
}

func openImages(dir string) (*imageStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	s := &imageStore{dir: dir, images: map[string]*image{}}
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s.images)
	}
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	return s, nil
}

func (s *imageStore) folder(id string) string {
	return filepath.Join(s.dir, strings.TrimPrefix(id, "sha256:"))
}
func (s *imageStore) modulePath(m *image) string {
	return filepath.Join(s.folder(m.ID), "module.wasm")
}
func (s *imageStore) rootfs(m *image) string { return filepath.Join(s.folder(m.ID), "rootfs") }

// find looks an image up by ID, by reference or by repository@digest.
func (s *imageStore) find(ref string) (*image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.images[ref]; m != nil {
		return m, nil
	}
	if m := s.images["sha256:"+ref]; m != nil {
		return m, nil
	}
	name := normalise(ref)
	_, digest, byDigest := strings.Cut(name, "@")
	for _, m := range s.images {
		if slices.Contains(m.Names, name) || byDigest && digest == m.Digest {
			return m, nil
		}
	}
	return nil, fmt.Errorf("image %q: %w", ref, runtime.ErrImageNotFound)
}

func (s *imageStore) list() []runtime.Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]runtime.Image, 0, len(s.images))
	for _, m := range s.images {
		out = append(out, m.public())
	}
	slices.SortFunc(out, func(a, b runtime.Image) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func (m *image) public() runtime.Image {
	return runtime.Image{ID: m.ID, Digest: m.Digest, Names: slices.Clone(m.Names), Size: m.Size, User: m.User, Wasm: true}
}

// load imports an archive. All of its images hold a module, or none is taken.
func (s *imageStore) load(ctx context.Context, archive io.Reader) ([]runtime.Image, error) {
	tmp, err := os.MkdirTemp(s.dir, "import-")
	if err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	defer os.RemoveAll(tmp)
	root, err := os.OpenRoot(tmp)
	if err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	defer root.Close()
	if err := unpackArchive(readerWithContext{ctx, archive}, root); err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	found, err := findImages(root)
	if err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("import images: the archive holds none: %w", runtime.ErrImageFormat)
	}
	var staged []*image
	for i, p := range found {
		m, err := stage(root, p, fmt.Sprintf("staged-%d", i))
		if err != nil {
			return nil, fmt.Errorf("import image %s: %w", strings.Join(p.names, ","), err)
		}
		staged = append(staged, m)
	}
	return s.commit(tmp, staged)
}

func (s *imageStore) commit(tmp string, staged []*image) ([]runtime.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []runtime.Image
	for i, m := range staged {
		if old := s.images[m.ID]; old != nil {
			m.Names = append(slices.DeleteFunc(slices.Clone(old.Names), func(n string) bool { return slices.Contains(m.Names, n) }), m.Names...)
		} else {
			_ = os.RemoveAll(s.folder(m.ID)) // of an import that was killed before its index was written
			if err := os.Rename(filepath.Join(tmp, fmt.Sprintf("staged-%d", i)), s.folder(m.ID)); err != nil {
				return nil, fmt.Errorf("import images: %w", err)
			}
		}
		for id, other := range s.images { // a name moves to the newest image
			kept := *other
			kept.Names = slices.DeleteFunc(slices.Clone(other.Names), func(n string) bool { return slices.Contains(m.Names, n) })
			s.images[id] = &kept
		}
		s.images[m.ID] = m
		out = append(out, m.public())
	}
	data, err := json.Marshal(s.images)
	if err != nil {
		return nil, fmt.Errorf("write image index: %w", err)
	}
	next := filepath.Join(s.dir, "index.json.new")
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return nil, fmt.Errorf("write image index: %w", err)
	}
	if err := os.Rename(next, filepath.Join(s.dir, "index.json")); err != nil {
		return nil, fmt.Errorf("write image index: %w", err)
	}
	return out, nil
}

// stage builds <dst>/rootfs and <dst>/module.wasm below root and returns what they are.
func stage(root *os.Root, p packed, dst string) (*image, error) {
	var config ociv1.Image
	raw, err := readJSON(root, p.config, &config)
	if err != nil {
		return nil, err
	}
	c := config.Config
	m := &image{
		ID: digestOf(raw), Digest: digestOf(p.manifest), User: c.User, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir,
	}
	for _, n := range p.names {
		m.Names = append(m.Names, normalise(n))
	}
	if err := root.MkdirAll(dst+"/rootfs", 0o755); err != nil {
		return nil, err
	}
	rootfs, err := root.OpenRoot(dst + "/rootfs")
	if err != nil {
		return nil, err
	}
	defer rootfs.Close()
	var module *os.File
	for _, l := range p.layers {
		f, err := root.Open(l.file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil {
			m.Size += info.Size()
		}
		if isModuleLayer(l.mediaType) || startsWithModule(f) {
			module = f
		} else if err := applyLayer(rootfs, f); err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.file, err)
		}
	}
	what := "wasm layer"
	if module == nil {
		argv := slices.Concat(m.Entrypoint, m.Cmd)
		if len(argv) == 0 {
			return nil, fmt.Errorf("no wasm layer and no entrypoint: %w", runtime.ErrImageFormat)
		}
		what, m.Module = "entrypoint "+argv[0], commandPath(m.WorkingDir, argv[0])
		if module, err = rootfs.Open(m.Module); err != nil {
			return nil, fmt.Errorf("%s: %w", what, errors.Join(err, runtime.ErrImageFormat))
		}
		defer module.Close()
	}
	if !startsWithModule(module) {
		return nil, fmt.Errorf("%s is no core WebAssembly module: %w", what, runtime.ErrImageFormat)
	}
	return m, writeBelow(root, dst+"/module.wasm", module, 0o600)
}

// commandPath is where a command lies below the root filesystem.
func commandPath(workingDir, command string) string {
	if path.IsAbs(command) {
		return cleanPath(command)
	}
	return cleanPath(path.Join("/", workingDir, command))
}

func isModuleLayer(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.wasm.content.layer.v1+wasm") || mediaType == "application/wasm"
}

// startsWithModule tells by the magic number and version. Components have another version.
func startsWithModule(f io.ReaderAt) bool {
	var head [8]byte
	n, _ := f.ReadAt(head[:], 0)
	return n == 8 && string(head[:]) == "\x00asm\x01\x00\x00\x00"
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// normalise writes a reference in full, as containerd does: registry, repository and tag.
func normalise(ref string) string {
	name, digest, hasDigest := strings.Cut(ref, "@")
	first, _, hasSlash := strings.Cut(name, "/")
	switch {
	case !hasSlash:
		name = "docker.io/library/" + name
	case !strings.ContainsAny(first, ".:") && first != "localhost":
		name = "docker.io/" + name
	}
	if hasDigest {
		return name + "@" + digest
	}
	if !strings.Contains(name[strings.LastIndex(name, "/"):], ":") {
		name += ":latest"
	}
	return name
}

// readerWithContext ends an import when its caller gave up.
type readerWithContext struct {
	ctx context.Context
	r   io.Reader
}

func (r readerWithContext) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
