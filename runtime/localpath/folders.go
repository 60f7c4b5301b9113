package localpath

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// RecordState is where a folder is in its life.
type RecordState string

// The states of records.
const (
	Creating RecordState = "creating"
	Ready    RecordState = "ready"
	Deleting RecordState = "deleting"
)

// Record is what is known of a folder, on the disk.
type Record struct {
	Name    string      `json:"name"` // the PersistentVolume's, and the folder's
	Claim   string      `json:"claim"`
	UID     string      `json:"uid"` // the claim's
	State   RecordState `json:"state"`
	Bytes   int64       `json:"bytes"`             // what it may hold
	Project uint32      `json:"project,omitempty"` // of the filesystem's quota; 0: none
}

// Folders keeps folders below one, with a record of each beside them. Safe for concurrent use.
type Folders struct {
	dir   string
	quota Quota

	mu      sync.Mutex
	records map[string]Record
}

// The names beside the folders.
const (
	recordsDir = ".records"
	trashDir   = ".trash"
)

// OpenFolders reads the records below dir. What a removal that was interrupted had put aside is removed. quota may be nil.
func OpenFolders(dir string, quota Quota) (*Folders, error) {
	f := &Folders{dir: dir, quota: quota, records: map[string]Record{}}
	for _, d := range []string{"", recordsDir, trashDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o711); err != nil {
			return nil, fmt.Errorf("make folder for volumes: %w", err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, recordsDir))
	if err != nil {
		return nil, fmt.Errorf("read records of volumes: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue // half written
		}
		b, err := os.ReadFile(filepath.Join(dir, recordsDir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read record of volume %s: %w", name, err)
		}
		var r Record
		if err := json.Unmarshal(b, &r); err != nil || r.Name != name {
			return nil, fmt.Errorf("record of volume %s is damaged: %s", name, filepath.Join(dir, recordsDir, e.Name()))
		}
		f.records[name] = r
	}
	trash, err := os.ReadDir(filepath.Join(dir, trashDir))
	if err != nil {
		return nil, fmt.Errorf("read removed volumes: %w", err)
	}
	for _, e := range trash {
		if err := os.RemoveAll(filepath.Join(dir, trashDir, e.Name())); err != nil {
			return nil, fmt.Errorf("remove volume %s: %w", e.Name(), err)
		}
	}
	return f, nil
}

// Path is where a folder is.
func (f *Folders) Path(name string) string { return filepath.Join(f.dir, name) }

// Records returns all records, by name.
func (f *Folders) Records() []Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Record, 0, len(f.records))
	for _, r := range f.records {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Record) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Make makes a folder, or finishes it. It may be done again. limited says what holds the folder to its size: "project", or why
// nothing does.
func (f *Folders) Make(r Record) (limited string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !filepath.IsLocal(r.Name) || strings.ContainsAny(r.Name, `/\`) || strings.HasPrefix(r.Name, ".") {
		return "", fmt.Errorf("make volume: %q is no folder's name", r.Name)
	}
	if old, ok := f.records[r.Name]; ok {
		r.Project = old.Project
		if old.State == Ready {
			r.State = Ready
		}
	}
	if r.State == "" || r.State == Deleting {
		r.State = Creating
	}
	limited = "none: this machine's files can't be limited by folder"
	if f.quota != nil && r.Project == 0 {
		if r.Project, err = f.freeProjectLocked(); err != nil {
			return "", fmt.Errorf("make volume %s: %w", r.Name, err)
		}
	}
	if err := f.writeLocked(r); err != nil {
		return "", err
	}
	path := f.Path(r.Name)
	if err := os.Mkdir(path, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make volume: %w", err)
	}
	if f.quota != nil {
		if err := f.quota.Limit(path, r.Project, r.Bytes); err != nil {
			return "", fmt.Errorf("limit volume %s to %d bytes: %w", r.Name, r.Bytes, err)
		}
		limited = "project"
	}
	if err := os.Chmod(path, 0o777); err != nil { // any user may be the one that runs, as with other provisioners
		return "", fmt.Errorf("make volume: %w", err)
	}
	return limited, syncDir(f.dir)
}

// Confirm records that the folder's PersistentVolume is there.
func (f *Folders) Confirm(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.records[name]
	if !ok || r.State == Ready {
		return nil
	}
	r.State = Ready
	return f.writeLocked(r)
}

// Resize lets the folder hold more, or less.
func (f *Folders) Resize(name string, bytes int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.records[name]
	if !ok {
		return fmt.Errorf("resize volume %s: it has no record", name)
	}
	if f.quota != nil && r.Project != 0 {
		if err := f.quota.Limit(f.Path(name), r.Project, bytes); err != nil {
			return fmt.Errorf("limit volume %s to %d bytes: %w", name, bytes, err)
		}
	}
	r.Bytes = bytes
	return f.writeLocked(r)
}

// Remove removes a folder with all it holds. Half done, it may be done again, by a later process too. A folder without a
// record is somebody else's: it stays, which is an error.
func (f *Folders) Remove(name string) error {
	f.mu.Lock()
	r, ok := f.records[name]
	if !ok {
		f.mu.Unlock()
		if _, err := os.Lstat(f.Path(name)); err == nil {
			return fmt.Errorf("remove volume %s: %s has no record here, so it stays: remove it by hand", name, f.Path(name))
		}
		return nil
	}
	r.State = Deleting
	if err := f.writeLocked(r); err != nil {
		f.mu.Unlock()
		return err
	}
	trash := filepath.Join(f.dir, trashDir, name)
	err := os.Rename(f.Path(name), trash)
	f.mu.Unlock()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove volume: %w", err)
	}
	if err := os.RemoveAll(trash); err != nil { // may take long: the lock isn't held
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}

// Forget takes away the record of a folder that was removed.
func (f *Folders) Forget(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.records[name]
	if !ok {
		return nil
	}
	if f.quota != nil && r.Project != 0 {
		if err := f.quota.Limit("", r.Project, 0); err != nil {
			return fmt.Errorf("give back the quota of volume %s: %w", name, err)
		}
	}
	if err := os.Remove(f.recordPath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record of volume: %w", err)
	}
	delete(f.records, name)
	return syncDir(filepath.Join(f.dir, recordsDir))
}

// Usage is what the folder holds, in bytes: by the quota's books where there is one, else by adding up its files.
func (f *Folders) Usage(ctx context.Context, name string) (int64, error) {
	f.mu.Lock()
	r := f.records[name]
	f.mu.Unlock()
	if f.quota != nil && r.Project != 0 {
		return f.quota.Used(r.Project)
	}
	n := folderBytes(ctx, f.Path(name))
	return n, context.Cause(ctx)
}

// firstProject is far above what people give their own projects in /etc/projid.
const firstProject uint32 = 1 << 24

func (f *Folders) freeProjectLocked() (uint32, error) {
	taken := map[uint32]bool{}
	for _, r := range f.records {
		taken[r.Project] = true
	}
	// Data folders on one filesystem begin at different numbers: a project that holds nothing yet may have its limit.
	h := fnv.New32a()
	_, _ = h.Write([]byte(f.dir))
	for p := firstProject + h.Sum32()&0x3fff_ff00; p < 1<<31; p++ {
		if taken[p] {
			continue
		}
		if used, err := f.quota.Used(p); err != nil {
			return 0, err
		} else if used == 0 { // else another's, of another data folder on the same filesystem perhaps
			return p, nil
		}
	}
	return 0, errors.New("no project of the filesystem's quota is free")
}

func (f *Folders) recordPath(name string) string {
	return filepath.Join(f.dir, recordsDir, name+".json")
}

// writeLocked replaces a record so that after a power failure there is the old one or the new one.
func (f *Folders) writeLocked(r Record) error {
	if f.records[r.Name] == r {
		return nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := f.recordPath(r.Name) + ".new"
	if err := writeSynced(tmp, b); err != nil {
		return fmt.Errorf("write record of volume %s: %w", r.Name, err)
	}
	if err := os.Rename(tmp, f.recordPath(r.Name)); err != nil {
		return fmt.Errorf("write record of volume: %w", err)
	}
	if err := syncDir(filepath.Join(f.dir, recordsDir)); err != nil {
		return err
	}
	f.records[r.Name] = r
	return nil
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// folderBytes is the sum of the files below a folder; what can't be read counts nothing.
func folderBytes(ctx context.Context, dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return fs.SkipAll
		}
		if err == nil && d.Type().IsRegular() {
			if i, err := d.Info(); err == nil {
				sum += i.Size()
			}
		}
		return nil
	})
	return sum
}

// Record returns the record of a folder.
func (f *Folders) Record(name string) (Record, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.records[name]
	return r, ok
}
