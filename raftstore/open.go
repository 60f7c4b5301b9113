package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// A folder holds LOCK, FORMAT, state.db, stable, snapshot and log/. FORMAT is written last: while
// INITIALIZING is there, nothing in the folder has been promised to anybody, and it starts over.
const (
	fileLock   = "LOCK"
	fileFormat = "FORMAT"
	fileInit   = "INITIALIZING"
	fileState  = "state.db"
	fileStable = "stable"
	fileSnap   = "snapshot"
	dirLog     = "log"
	// fileArriving is a state that another member is sending; see transfer.go.
	fileArriving = "state.arriving"
	formatBytes  = "pintle raftstore 1\n"
)

type files struct {
	lock    *os.File
	state   *stateFile // nil in memory
	log     raft.LogStore
	segs    *logStore // nil in memory
	stable  raft.StableStore
	snaps   *snapshots
	closers []func() error
}

func (f *files) close() error {
	var errs []error
	for i := len(f.closers) - 1; i >= 0; i-- {
		errs = append(errs, f.closers[i]())
	}
	return errors.Join(errs...)
}

func openMemory() *files {
	mem := raft.NewInmemStore()
	snaps, _ := openSnapshots("", nil)
	return &files{log: mem, stable: mem, snaps: snaps}
}

// openFolder opens the folder, or makes it. fill, on a new folder, puts in what it starts with.
func openFolder(cfg *Config, fill func(*stateFile) error) (_ *files, err error) {
	dir := cfg.Dir
	if err := mkdirSynced(dir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	f := &files{}
	defer func() {
		if err != nil {
			_ = f.close()
		}
	}()
	if f.lock, err = lockFile(filepath.Join(dir, fileLock)); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	f.closers = append(f.closers, f.lock.Close)
	fresh, err := beginInit(dir)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	if fill != nil && !fresh {
		return nil, fmt.Errorf("%w: %s holds a store already", ErrInvalid, dir)
	}
	if f.state, err = openState(filepath.Join(dir, fileState), cfg.fault); err != nil {
		return nil, err
	}
	f.closers = append(f.closers, f.state.close)
	if f.segs, err = openLog(filepath.Join(dir, dirLog), cfg.fault); err != nil {
		return nil, err
	}
	f.log = f.segs
	f.closers = append(f.closers, f.segs.Close)
	stable, err := openStable(filepath.Join(dir, fileStable), cfg.fault)
	if err != nil {
		return nil, err
	}
	f.stable = stable
	f.closers = append(f.closers, stable.Close)
	if f.snaps, err = openSnapshots(filepath.Join(dir, fileSnap), cfg.fault); err != nil {
		return nil, err
	}
	if fresh {
		if fill != nil {
			if err := fill(f.state); err != nil {
				return nil, err
			}
		}
		if err := f.begin(cfg, fill != nil); err != nil {
			return nil, err
		}
		if err := endInit(dir); err != nil {
			return nil, fmt.Errorf("open store %s: %w", dir, err)
		}
	}
	if err := f.consistent(); err != nil {
		return nil, err
	}
	return f, f.afterArrival(dir)
}

// beginInit says whether the folder is to be filled, and clears what a crash left of an earlier try.
func beginInit(dir string) (fresh bool, err error) {
	path := func(name string) string { return filepath.Join(dir, name) }
	_, err = os.Stat(path(fileInit))
	started := err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	b, err := os.ReadFile(path(fileFormat))
	switch {
	case err == nil && string(b) == formatBytes:
		if started { // the crash came between the last two steps
			return false, removeSynced(path(fileInit))
		}
		return false, nil
	case err == nil:
		return false, fmt.Errorf("%w: format %q is not known here, this is %q", ErrCorrupt, b, formatBytes)
	case !errors.Is(err, os.ErrNotExist):
		return false, err
	}
	if !started {
		for _, name := range []string{fileState, fileStable, dirLog} {
			if _, err := os.Stat(path(name)); err == nil {
				return false, fmt.Errorf("%w: %s is there but %s is not", ErrCorrupt, name, fileFormat)
			}
		}
		if err := writeFileSynced(path(fileInit), nil); err != nil {
			return false, err
		}
	}
	for _, name := range []string{fileState, fileStable, fileSnap, dirLog} {
		if err := os.RemoveAll(path(name)); err != nil {
			return false, err
		}
	}
	return true, syncDir(dir)
}

func endInit(dir string) error {
	if err := writeFileSynced(filepath.Join(dir, fileFormat), []byte(formatBytes)); err != nil {
		return err
	}
	return removeSynced(filepath.Join(dir, fileInit))
}

// consistent checks what must hold between the files.
func (f *files) consistent() error {
	n := f.snaps.note()
	if n == nil {
		return nil
	}
	if d := f.state.durableIndex(); d < n.Durable {
		return fmt.Errorf("%w: the state file ends at entry %d and the log begins after %d", ErrCorrupt, d, n.Durable)
	}
	return nil
}

func bootstrap(cfg *Config, f *files) error {
	_, trans := raft.NewInmemTransport(cfg.raftAddress())
	err := raft.BootstrapCluster(raftConfig(cfg), f.log, f.stable, f.snaps, trans, raft.Configuration{
		Servers: []raft.Server{{ID: raft.ServerID(cfg.NodeID), Address: cfg.raftAddress()}}})
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}
