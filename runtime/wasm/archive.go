package wasm

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
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
	"strings"

	ociv1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pintle/pintle/runtime"
)

// Bounds on what an archive may make us write or hold in memory.
const (
	maxArchiveBytes = 2 << 30
	maxJSONBytes    = 16 << 20
	maxIndexDepth   = 4
)

// packed is one image inside an unpacked archive: names of files below its folder.
type packed struct {
	config   string
	layers   []packedLayer
	manifest []byte
	names    []string
}

type packedLayer struct {
	file      string
	mediaType string
}

// unpackArchive writes the regular files of a tar, gzipped or not, below dir.
func unpackArchive(r io.Reader, dir *os.Root) error {
	tr, err := openTar(r)
	if err != nil {
		return fmt.Errorf("read image archive: %w", err)
	}
	left := int64(maxArchiveBytes)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read image archive: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if left -= h.Size; left < 0 {
			return fmt.Errorf("read image archive: larger than %d bytes", int64(maxArchiveBytes))
		}
		if err := writeBelow(dir, cleanPath(h.Name), tr, 0o600); err != nil {
			return fmt.Errorf("unpack image archive: %w", err)
		}
	}
}

func openTar(r io.Reader) (*tar.Reader, error) {
	b := bufio.NewReader(r)
	magic, err := b.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, err
		}
		return tar.NewReader(z), nil
	}
	if len(magic) == 2 && magic[0] == 0x28 && magic[1] == 0xb5 {
		return nil, fmt.Errorf("zstd compression: %w", runtime.ErrImageFormat)
	}
	return tar.NewReader(b), nil
}

// cleanPath makes a name from an archive relative, with no way out.
func cleanPath(name string) string {
	return strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(name)), "/")
}

func writeBelow(dir *os.Root, name string, r io.Reader, mode fs.FileMode) error {
	if name == "" {
		return errors.New("file without a name")
	}
	if parent := path.Dir(name); parent != "." {
		if err := dir.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := dir.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

func readJSON(dir *os.Root, name string, into any) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxJSONBytes))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	return data, nil
}

// findImages lists the images of an unpacked archive. Archives of newer Dockers are in both
// formats at once; the OCI one has media types and digests, so it goes first.
func findImages(dir *os.Root) ([]packed, error) {
	var index ociv1.Index
	if _, err := readJSON(dir, "index.json", &index); err == nil {
		return ociImages(dir, index, nil, 0)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var manifests []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if _, err := readJSON(dir, "manifest.json", &manifests); err != nil {
		return nil, fmt.Errorf("neither an OCI nor a Docker archive: %w", errors.Join(err, runtime.ErrImageFormat))
	}
	var out []packed
	for _, m := range manifests {
		raw, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		p := packed{config: cleanPath(m.Config), names: m.RepoTags, manifest: raw}
		for _, l := range m.Layers {
			p.layers = append(p.layers, packedLayer{file: cleanPath(l)})
		}
		out = append(out, p)
	}
	return out, nil
}

func ociImages(dir *os.Root, index ociv1.Index, names []string, depth int) ([]packed, error) {
	if depth > maxIndexDepth {
		return nil, fmt.Errorf("image index nested deeper than %d: %w", maxIndexDepth, runtime.ErrImageFormat)
	}
	var out []packed
	for _, d := range index.Manifests {
		own := names
		if n := d.Annotations["io.containerd.image.name"]; n != "" {
			own = append([]string{n}, names...)
		} else if n := d.Annotations[ociv1.AnnotationRefName]; n != "" && strings.ContainsAny(n, "/:") {
			own = append([]string{n}, names...)
		}
		file, err := blobFile(string(d.Digest))
		if err != nil {
			return nil, err
		}
		var probe struct {
			ociv1.Manifest
			Manifests []ociv1.Descriptor `json:"manifests"`
		}
		raw, err := readJSON(dir, file, &probe)
		if errors.Is(err, fs.ErrNotExist) && depth > 0 {
			continue // an index may name platforms that the archive does not hold
		}
		if err != nil {
			return nil, err
		}
		if sum := sha256.Sum256(raw); "sha256:"+hex.EncodeToString(sum[:]) != string(d.Digest) {
			return nil, fmt.Errorf("manifest %s: content does not match its digest", d.Digest)
		}
		if len(probe.Manifests) > 0 {
			inner, err := ociImages(dir, ociv1.Index{Manifests: probe.Manifests}, own, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, inner...)
			continue
		}
		p := packed{names: own, manifest: raw}
		if p.config, err = blobFile(string(probe.Config.Digest)); err != nil {
			return nil, err
		}
		for _, l := range probe.Layers {
			f, err := blobFile(string(l.Digest))
			if err != nil {
				return nil, err
			}
			p.layers = append(p.layers, packedLayer{file: f, mediaType: l.MediaType})
		}
		out = append(out, p)
	}
	return out, nil
}

func blobFile(digest string) (string, error) {
	algorithm, sum, ok := strings.Cut(digest, ":")
	if !ok || algorithm != "sha256" || len(sum) != 64 || strings.Trim(sum, "0123456789abcdef") != "" {
		return "", fmt.Errorf("digest %q is not a sha256: %w", digest, runtime.ErrImageFormat)
	}
	return "blobs/sha256/" + sum, nil
}

// applyLayer unpacks a root filesystem layer over what is there: files, folders, links within the
// image and whiteouts. Device nodes and owners mean nothing to a guest and are left out.
func applyLayer(dir *os.Root, r io.Reader) error {
	tr, err := openTar(r)
	if err != nil {
		return err
	}
	left := int64(maxArchiveBytes)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := cleanPath(h.Name)
		if name == "" {
			continue
		}
		base, parent := path.Base(name), path.Dir(name)
		if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
			if hidden == ".wh..opq" {
				if err := dir.RemoveAll(parent); err != nil {
					return err
				}
				if err := dir.MkdirAll(parent, 0o755); err != nil {
					return err
				}
			} else if err := dir.RemoveAll(path.Join(parent, hidden)); err != nil {
				return err
			}
			continue
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = dir.MkdirAll(name, 0o755)
		case tar.TypeReg:
			if left -= h.Size; left < 0 {
				return fmt.Errorf("layer larger than %d bytes", int64(maxArchiveBytes))
			}
			err = writeBelow(dir, name, tr, fs.FileMode(h.Mode)&0o777|0o400)
		case tar.TypeSymlink:
			_ = dir.Remove(name)
			if err = dir.MkdirAll(parent, 0o755); err == nil {
				err = dir.Symlink(h.Linkname, name) // followed by hostFS only, inside the guest's tree
			}
		case tar.TypeLink:
			_ = dir.Remove(name)
			err = dir.Link(cleanPath(h.Linkname), name)
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", name, err)
		}
	}
}
