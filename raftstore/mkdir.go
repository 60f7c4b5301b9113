package raftstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// mkdirSynced makes a folder, and those above it that are not there, and syncs their names: without
// that a loss of power takes the folder away, whatever in it was synced.
func mkdirSynced(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, fileFormat)); err == nil {
		return nil // it was synced before this file was made
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	top := filepath.Dir(dir) // the highest folder that gets a new name; synced even if dir is there already
	for {
		if _, err := os.Stat(top); err == nil || top == filepath.Dir(top) {
			break
		}
		top = filepath.Dir(top)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for at := filepath.Dir(dir); ; at = filepath.Dir(at) {
		// A folder above that we may not read is not one that we made.
		if err := syncDir(at); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		if at == top {
			return nil
		}
	}
}
