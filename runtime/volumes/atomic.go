package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// file is one that a volume should hold.
type file struct {
	data []byte
	mode os.FileMode
	uid  *int64 // owner; nil: ours
}

const (
	dataLink = "..data"     // → the folder with the files that count
	newLink  = "..data_tmp" // becomes dataLink by a rename
)

// replace makes dir hold exactly files, all at once for readers: the files lie in a folder of
// their own, "..data" is a link to it, each visible name is a link through "..data", and an update
// renames a new "..data" over the old one. Nothing is touched if nothing changed.
func replace(dir string, files map[string]file, gid *int64, stamp string) error {
	for name := range files {
		if !filepath.IsLocal(name) || name == "." || strings.HasPrefix(name, "..") {
			return fmt.Errorf("path %q leads out of the volume", name)
		}
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the volume's link: %w", err)
	}
	if old != "" && same(filepath.Join(dir, old), files, gid) {
		return link(dir, files) // finishes what a kill may have left half done
	}
	fresh, err := os.MkdirTemp(dir, ".."+stamp+".")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := fill(fresh, files, gid); err != nil {
		_ = os.RemoveAll(fresh)
		return err
	}
	tmp := filepath.Join(dir, newLink)
	_ = os.Remove(tmp)
	if err := os.Symlink(filepath.Base(fresh), tmp); err != nil {
		return fmt.Errorf("link the new files: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, dataLink)); err != nil {
		return fmt.Errorf("swap the volume's link: %w", err)
	}
	if err := link(dir, files); err != nil {
		return err
	}
	return prune(dir, filepath.Base(fresh))
}

// want returns a file's final mode: a group that owns the volume may read it.
func (f file) want(gid *int64) os.FileMode {
	if gid != nil {
		return f.mode | 0o440
	}
	return f.mode
}

func fill(dir string, files map[string]file, gid *int64) error {
	mode := os.FileMode(0o755)
	if gid != nil {
		mode |= os.ModeSetgid
	}
	own := func(path string, uid *int64) error {
		u, g := -1, -1
		if uid != nil {
			u = int(*uid)
		}
		if gid != nil {
			g = int(*gid)
		}
		if u < 0 && g < 0 {
			return nil
		}
		return lchown(path, u, g)
	}
	folder := func(path string) error {
		if err := own(path, nil); err != nil {
			return err
		}
		return os.Chmod(path, mode)
	}
	if err := folder(dir); err != nil {
		return fmt.Errorf("write volume: %w", err)
	}
	for name, f := range files {
		path := filepath.Join(dir, name)
		for _, sub := range parents(name) {
			p := filepath.Join(dir, sub)
			if err := os.Mkdir(p, 0o755); errors.Is(err, fs.ErrExist) {
				continue
			} else if err != nil {
				return fmt.Errorf("write volume: %w", err)
			}
			if err := folder(p); err != nil {
				return fmt.Errorf("write volume: %w", err)
			}
		}
		// Created closed, then owned, then opened: nobody reads it in between.
		if err := os.WriteFile(path, f.data, 0o600); err != nil {
			return fmt.Errorf("write volume: %w", err)
		}
		if err := own(path, f.uid); err != nil {
			return fmt.Errorf("write volume: %w", err)
		}
		if err := os.Chmod(path, f.want(gid)); err != nil {
			return fmt.Errorf("write volume: %w", err)
		}
	}
	return nil
}

// parents lists the folders above name, the outermost first.
func parents(name string) []string {
	var out []string
	for d := filepath.Dir(name); d != "."; d = filepath.Dir(d) {
		out = append([]string{d}, out...)
	}
	return out
}

// same says whether dir holds exactly files.
func same(dir string, files map[string]file, gid *int64) bool {
	seen := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f, ok := files[rel]
		info, err := d.Info()
		if !ok || err != nil || info.Mode() != f.want(gid) || info.Size() != int64(len(f.data)) {
			return fs.ErrInvalid
		}
		data, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(data, f.data) {
			return fs.ErrInvalid
		}
		seen++
		return nil
	})
	return err == nil && seen == len(files)
}

// link makes the visible names, and removes those that are no more.
func link(dir string, files map[string]file) error {
	visible := map[string]bool{}
	for name := range files {
		top, _, _ := strings.Cut(filepath.ToSlash(name), "/")
		visible[top] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read volume: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, "..") {
			continue
		}
		if visible[name] {
			delete(visible, name)
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("remove a name: %w", err)
		}
	}
	for name := range visible {
		if err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("make a name: %w", err)
		}
	}
	return nil
}

// prune removes the folders that no link leads to any more, those of a killed process included.
func prune(dir, keep string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read volume: %w", err)
	}
	for _, e := range entries {
		if name := e.Name(); e.IsDir() && strings.HasPrefix(name, "..") && name != keep {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("remove old files: %w", err)
			}
		}
	}
	return nil
}
