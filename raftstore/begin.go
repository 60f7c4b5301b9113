package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	bolt "go.etcd.io/bbolt"
)

// raftAddress is how raft's configuration names where this member is. A single voter is nowhere.
func (c *Config) raftAddress() raft.ServerAddress {
	if c.Network == nil {
		return raft.ServerAddress(c.NodeID)
	}
	return raft.ServerAddress(c.Address)
}

// begin makes raft's first entry: this member alone. One that joins has none, and learns from who
// adds it.
func (f *files) begin(cfg *Config, restored bool) error {
	if cfg.Join {
		return nil
	}
	if err := bootstrap(cfg, f); err != nil {
		return err
	}
	if restored {
		return f.beginAfterRestore()
	}
	return nil
}

// beginAfterRestore makes what a backup put into the state file the outcome of raft's first entry,
// and takes the entry out of the log. Nobody can then follow the log from its beginning: a member
// that joins must be sent the state.
func (f *files) beginAfterRestore() error {
	var first raft.Log
	if err := f.log.GetLog(1, &first); err != nil {
		return fmt.Errorf("begin after restore: %w", err)
	}
	if err := f.state.update(func(tx *bolt.Tx) error {
		meta, err := f.ring.stateMeta(tx)
		if err != nil {
			return err
		}
		meta.applied, meta.brought = first.Index, first.Index
		return putMeta(tx, &meta, f.ring.sealer())
	}); err != nil {
		return fmt.Errorf("begin after restore: %w", err)
	}
	f.state.durable, f.state.brought = first.Index, first.Index
	if err := f.snaps.keep(&snapshotNote{Version: 1, Index: first.Index, Term: first.Term, Configuration: first.Data,
		ConfigurationIndex: first.Index, Durable: first.Index}); err != nil {
		return err
	}
	return f.log.DeleteRange(1, first.Index)
}

// afterArrival finishes what a crash interrupted while a state from another member was put in place.
// The state file is replaced first, then the note is written, then the log emptied: a log that the
// note says nothing good of is of no more use.
func (f *files) afterArrival(dir string) error {
	if err := os.Remove(filepath.Join(dir, fileArriving)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	e, err := f.ends(f.state.durableIndex())
	if err != nil || !e.stale() {
		return err
	}
	return f.log.DeleteRange(e.first, e.last)
}
