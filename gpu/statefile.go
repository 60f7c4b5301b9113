package gpu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// stateVersion is raised when an older program could not read the file.
const stateVersion = 1

type stateFile struct {
	Version int     `json:"version"`
	Claims  []Claim `json:"claims"`
}

// load reads the claims that were kept. No file is no claims; a damaged one is an error, because to begin
// anew would give devices twice.
func (c *claims) load(path string) error {
	c.file, c.byPod = path, map[string]Claim{}
	if path == "" {
		return nil
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the GPU claims: %w", err)
	}
	var state stateFile
	if err := json.Unmarshal(raw, &state); err != nil {
		return fmt.Errorf("read the GPU claims in %s: %w; delete the file once no pod uses a GPU", path, err)
	}
	if state.Version != stateVersion {
		return fmt.Errorf("read the GPU claims in %s: version %d is not known here, only %d", path, state.Version, stateVersion)
	}
	for _, claim := range state.Claims {
		c.byPod[claim.Pod] = claim
	}
	return nil
}

// store writes the claims so that a crash leaves the old file or the new one, and then makes them the ones
// that are seen.
func (c *claims) store(byPod map[string]Claim) error {
	if c.file != "" {
		state := stateFile{Version: stateVersion, Claims: []Claim{}}
		for _, pod := range slices.Sorted(maps.Keys(byPod)) {
			state.Claims = append(state.Claims, byPod[pod])
		}
		raw, err := json.MarshalIndent(state, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the GPU claims: %w", err)
		}
		if err := replaceFile(c.file, append(raw, '\n'), 0o600); err != nil {
			return fmt.Errorf("keep the GPU claims: %w", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byPod = byPod
	return nil
}

// replaceFile puts a synced file in the place of another, at once.
func replaceFile(path string, content []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
