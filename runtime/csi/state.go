package csi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// record is what is known of a volume that was staged or published, on the disk beside it. Its keys are the kubelet's.
type record struct {
	Driver     string `json:"driverName"`
	Handle     string `json:"volumeHandle"`
	Attachment string `json:"attachmentID,omitempty"`
	Name       string `json:"specVolID,omitempty"` // the PersistentVolume's, or the pod's name for an inline volume
	Lifecycle  string `json:"volumeLifecycleMode,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	Claim      string `json:"claim,omitempty"`
	PodUID     string `json:"podUID,omitempty"`
}

const recordFile = "vol_data.json"

// writeRecord makes the folder and its record; after a power failure there is the whole record or none.
func writeRecord(dir string, r record) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make folder of volume: %w", err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, recordFile)
	if old, err := os.ReadFile(path); err == nil && string(old) == string(b) {
		return nil
	}
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write record of volume: %w", err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close(), os.Rename(path+".new", path)); err != nil {
		return fmt.Errorf("write record of volume: %w", err)
	}
	return nil
}

func readRecord(dir string) (record, error) {
	var r record
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil || r.Driver == "" || r.Handle == "" {
		return r, fmt.Errorf("record %s is damaged", filepath.Join(dir, recordFile))
	}
	return r, nil
}

// forget removes a volume's folder: the point that it was mounted on, its record, and itself. What is in the point stays, and
// then so does everything, for it would be the volume's own data.
func forget(dir, point string) error {
	for _, p := range []string{filepath.Join(dir, point), filepath.Join(dir, recordFile), filepath.Join(dir, recordFile+".new"), dir} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove folder of volume: %w", err)
		}
	}
	return nil
}

// publications are the records of what is published, by folder; of one pod, or, with "", of all.
func (p paths) publications(podUID string) (map[string]record, error) {
	if podUID == "" {
		podUID = "*"
	} else if !filepath.IsLocal(podUID) {
		return nil, fmt.Errorf("%q is no pod's UID", podUID)
	}
	dirs, err := filepath.Glob(filepath.Join(escape(p.pods()), podUID, "volumes", "kubernetes.io~csi", "*"))
	if err != nil {
		return nil, err
	}
	out := map[string]record{}
	for _, dir := range dirs {
		r, err := readRecord(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist): // the driver wasn't asked for anything yet
		case err != nil:
			return nil, err
		default:
			r.PodUID = filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(dir))))
			out[dir] = r
		}
	}
	return out, nil
}

// escape makes a folder's name match itself alone in a pattern.
func escape(dir string) string {
	var b []rune
	for _, r := range dir {
		switch r {
		case '*', '?', '[', '\\':
			b = append(b, '\\')
		}
		b = append(b, r)
	}
	return string(b)
}
