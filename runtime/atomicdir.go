package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// file is what a volume that follows an object holds.
type file struct {
	data  []byte
	mode  fs.FileMode
	owner *int64
}

// writeAtomically makes dir show exactly files, all at once, as Kubernetes lays it out: the files lie
// in a folder of their own, the link ..data names that folder and is swapped by one rename, and each
// top-level name is a link through ..data. A reader sees all old files or all new ones.
func writeAtomically(dir string, files map[string]file, group *int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data := filepath.Join(dir, "..data")
	if same(data, files) {
		return nil
	}
	next, err := os.MkdirTemp(dir, "..")
	if err != nil {
		return err
	}
	ok := false
	defer func() {
		if !ok {
			_ = os.RemoveAll(next)
		}
	}()
	if err := os.Chmod(next, 0o755); err != nil {
		return err
	}
	tops := map[string]bool{}
	for name, f := range files {
		if !filepath.IsLocal(name) || strings.HasPrefix(filepath.Clean(name), "..") {
			return fmt.Errorf("path %q leaves its volume", name)
		}
		p := filepath.Join(next, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, f.data, 0o600); err != nil {
			return err
		}
		m := f.mode
		if group != nil {
			if err := os.Chown(p, -1, int(*group)); err != nil && os.Geteuid() == 0 {
				return err
			}
			m |= (m & 0o700) >> 3 & 0o040
			m |= 0o040
		}
		if f.owner != nil && os.Geteuid() == 0 {
			if err := os.Chown(p, int(*f.owner), -1); err != nil {
				return err
			}
		}
		if err := os.Chmod(p, m); err != nil {
			return err
		}
		top, _, _ := strings.Cut(filepath.ToSlash(filepath.Clean(name)), "/")
		tops[top] = true
	}
	old, _ := os.Readlink(data)
	tmp := filepath.Join(dir, "..data_tmp")
	_ = os.Remove(tmp)
	if err := os.Symlink(filepath.Base(next), tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, data); err != nil {
		return err
	}
	ok = true
	for top := range tops {
		link := filepath.Join(dir, top)
		if _, err := os.Lstat(link); errors.Is(err, fs.ErrNotExist) {
			if err := os.Symlink(filepath.Join("..data", top), link); err != nil {
				return err
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		n := e.Name()
		switch {
		case strings.HasPrefix(n, ".."):
			if n != "..data" && (n == old || e.IsDir() && n != filepath.Base(next)) {
				_ = os.RemoveAll(filepath.Join(dir, n))
			}
		case !tops[n]:
			_ = os.Remove(filepath.Join(dir, n))
		}
	}
	return nil
}

// same reports whether the folder holds exactly files.
func same(dir string, files map[string]file) bool {
	n := 0
	equal := true
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	err = filepath.WalkDir(real, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(real, p)
		f, ok := files[filepath.ToSlash(rel)]
		if !ok {
			equal = false
			return fs.SkipAll
		}
		b, err := os.ReadFile(p)
		if err != nil || !bytes.Equal(b, f.data) {
			equal = false
			return fs.SkipAll
		}
		n++
		return nil
	})
	return err == nil && equal && n == len(files)
}

// removeTree unmounts what is mounted below dir and removes it. A mount that stays is an error, and
// then nothing is removed: what is behind it may be somebody else's.
func removeTree(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := unmountBelow(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
