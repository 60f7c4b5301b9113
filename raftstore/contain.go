package raftstore

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
)

// bbolt trusts its file: it panics where a page is not what it should be, and reading its mapping
// faults where the disk fails or the file was cut. Neither may end the host's process.

// contain runs fn on this goroutine and makes errors of panics and of faults.
func contain(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the state file is damaged, or the disk does not read it: %v. "+
				"Check the disk; then restore a backup in another folder", ErrCorrupt, p)
		}
	}()
	return fn()
}

// openBolt opens or makes a database.
func openBolt(path string, opts *bolt.Options) (*openDB, error) {
	var db *bolt.DB
	var file *os.File
	opts.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		file = f
		return f, err
	}
	err := contain(func() (err error) {
		db, err = bolt.Open(path, 0o600, opts)
		return err
	})
	if err != nil {
		if file != nil && errors.Is(err, ErrCorrupt) {
			_ = file.Close() // a panic left it open
		}
		return nil, err
	}
	return &openDB{DB: db, file: file}, nil
}
