package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// A folder holds LOCK, FORMAT, state.db, stable, snapshot and log/, KEYS if it is sealed, and CLUSTER if that has a name. FORMAT is written last: while
// INITIALIZING is there, nothing in the folder has been promised to anybody, and it starts over.
const (
	fileLock   = "LOCK"
	fileFormat = "FORMAT"
	fileInit   = "INITIALIZING"
	fileKeys   = "KEYS"
	fileState  = "state.db"
	fileStable = "stable"
	fileSnap   = "snapshot"
	dirLog     = "log"
	// fileArriving is a state that another member is sending; see transfer.go.
	fileArriving = "state.arriving"
)

type files struct {
	lock    *os.File
	ring    *keyring
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

func openMemory(cfg *Config) *files {
	mem := raft.NewInmemStore()
	ring := &keyring{}
	if !cfg.Unseal {
		ring.provider = cfg.KeyProvider
	}
	snaps, _ := openSnapshots("", ring, nil)
	return &files{ring: ring, log: mem, stable: mem, snaps: snaps}
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
	if err := cfg.belong(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	if f.ring, err = openKeys(filepath.Join(dir, fileKeys)); err != nil {
		return nil, err
	}
	if err := f.ring.unlock(cfg.KeyProvider); err != nil {
		return nil, err
	}
	sealed := cfg.KeyProvider != nil && !cfg.Unseal
	if fresh && sealed {
		if err := f.ring.begin(sealed, false); err != nil {
			return nil, fmt.Errorf("open store %s: %w", dir, err)
		}
	}
	if f.state, err = openState(filepath.Join(dir, fileState), f.ring, cfg.fault); err != nil {
		return nil, err
	}
	f.closers = append(f.closers, f.state.close)
	if f.segs, err = openLog(filepath.Join(dir, dirLog), f.ring, cfg.fault); err != nil {
		return nil, err
	}
	if cfg.segBytes > 0 {
		f.segs.segBytes = cfg.segBytes
	}
	f.log = f.segs
	f.closers = append(f.closers, f.segs.Close)
	stable, err := openStable(filepath.Join(dir, fileStable), f.ring, cfg.fault)
	if err != nil {
		return nil, err
	}
	f.stable = stable
	f.closers = append(f.closers, stable.Close)
	if f.snaps, err = openSnapshots(filepath.Join(dir, fileSnap), f.ring, cfg.fault); err != nil {
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
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	if err := f.begun(cfg); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	if err := f.afterArrival(dir); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	if err := f.resealNow(sealed); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return f, nil
}

// beginInit says whether the folder is to be filled, and clears what a crash left of an earlier try.
func beginInit(dir string) (fresh bool, err error) {
	path := func(name string) string { return filepath.Join(dir, name) }
	_, err = os.Stat(path(fileInit))
	started := err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	switch err := migrate(dir, formatVersion, migrations()); {
	case err == nil:
		if started { // the crash came between the last two steps
			return false, removeSynced(path(fileInit))
		}
		return false, nil
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
	for _, name := range []string{fileCluster, fileKeys, fileState, fileStable, fileSnap, dirLog} {
		if err := os.RemoveAll(path(name)); err != nil {
			return false, err
		}
	}
	return true, syncDir(dir)
}

func endInit(dir string) error {
	if err := writeFileSynced(filepath.Join(dir, fileFormat), formatLine(formatVersion)); err != nil {
		return err
	}
	return removeSynced(filepath.Join(dir, fileInit))
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
