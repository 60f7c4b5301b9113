package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"
)

// stateDB is the open file beneath the state file. A snapshot from another member replaces it while
// others read: who reads at that moment ends with the old file, who comes later gets the new one.
// The two agree wherever both have something: the key of a value is its place in history.
type stateDB struct {
	path    string // bbolt's own is the one from before a file was renamed
	current atomic.Pointer[openDB]
	broken  error          // guarded by flushing, as update is
	old     sync.WaitGroup // files that wait for their last reader
}

// openDB is a database and the file beneath it.
type openDB struct {
	*bolt.DB
	file *os.File
}

func (s *stateDB) view(fn func(*bolt.Tx) error) error {
	for {
		db := s.current.Load()
		err := contain(func() error { return db.View(fn) })
		if errors.Is(err, bolt.ErrDatabaseNotOpen) && s.current.Load() != db {
			continue
		}
		return err
	}
}

// update is called under flushing, as replace is, or where nobody else is. After a panic bbolt may
// hold its locks for ever: the file is not written to again.
func (s *stateDB) update(fn func(*bolt.Tx) error) error {
	if s.broken != nil {
		return s.broken
	}
	panicked := true
	err := contain(func() error {
		err := s.current.Load().Update(fn)
		panicked = false
		return err
	})
	if panicked {
		s.broken = err
	}
	return err
}

// replace puts the file at path, which is complete and synced and open as db, in the place of the
// current one. After a crash one of the two is there.
func (s *stateDB) replace(db *openDB, path string) error {
	if s.broken != nil {
		return s.broken
	}
	old := s.current.Load()
	if err := os.Rename(path, s.path); err != nil {
		return fmt.Errorf("replace the state file: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("replace the state file: %w", err)
	}
	s.current.Store(db)
	s.old.Go(func() { _ = contain(old.Close) }) // waits for who reads in it
	return nil
}

func (s *stateDB) close() error {
	var err error
	if db := s.current.Load(); s.broken != nil {
		// db.Close would wait for those locks. The lock of the file goes with the descriptor.
		err = db.file.Close()
	} else {
		err = contain(db.Close)
	}
	s.old.Wait()
	return err
}
