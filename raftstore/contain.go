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

func (s *stateFile) view(fn func(*bolt.Tx) error) error {
	return contain(func() error { return s.db.View(fn) })
}

// update is called under flushing, or where nobody else is. After a panic bbolt may hold its locks
// for ever: the file is not written to again.
func (s *stateFile) update(fn func(*bolt.Tx) error) error {
	if s.broken != nil {
		return s.broken
	}
	panicked := true
	err := contain(func() error {
		err := s.db.Update(fn)
		panicked = false
		return err
	})
	if panicked {
		s.broken = err
	}
	return err
}

func (s *stateFile) close() error {
	if s.broken != nil {
		// db.Close would wait for those locks. The lock of the file goes with the descriptor.
		return s.file.Close()
	}
	return contain(s.db.Close)
}

// openBolt returns the database and the file beneath it.
func openBolt(path string, opts *bolt.Options) (db *bolt.DB, file *os.File, err error) {
	opts.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		file = f
		return f, err
	}
	err = contain(func() (err error) {
		db, err = bolt.Open(path, 0o600, opts)
		return err
	})
	if err != nil {
		if file != nil && errors.Is(err, ErrCorrupt) {
			_ = file.Close() // a panic left it open
		}
		return nil, nil, err
	}
	return db, file, nil
}
