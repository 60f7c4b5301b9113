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
	path    string // bbolt only knows under which name it opened the file
	current atomic.Pointer[bolt.DB]
	old     sync.WaitGroup // files that wait for their last reader
}

func (s *stateDB) view(fn func(*bolt.Tx) error) error {
	for {
		db := s.current.Load()
		err := db.View(fn)
		if errors.Is(err, bolt.ErrDatabaseNotOpen) && s.current.Load() != db {
			continue
		}
		return err
	}
}

// update is called under flushing, as replace is.
func (s *stateDB) update(fn func(*bolt.Tx) error) error { return s.current.Load().Update(fn) }

// replace puts the file at path, which is complete and synced and open as db, in the place of the
// current one. After a crash one of the two is there.
func (s *stateDB) replace(db *bolt.DB, path string) error {
	old := s.current.Load()
	if err := os.Rename(path, s.path); err != nil {
		return fmt.Errorf("replace the state file: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("replace the state file: %w", err)
	}
	s.current.Store(db)
	s.old.Go(func() { _ = old.Close() }) // waits for who reads in it
	return nil
}

func (s *stateDB) close() error {
	err := s.current.Load().Close()
	s.old.Wait()
	return err
}
