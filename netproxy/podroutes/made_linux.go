package podroutes

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The routes that were made are recorded, so that a process that follows one that was killed removes its
// predecessor's and no other cluster's. The record lies where a reboot removes it, with the routes.
func madeFile(cfg Config) string { return filepath.Join("/run/pintle", cfg.Name, "routes-"+cfg.Node) }

func readMade(cfg Config) (map[netip.Prefix]bool, error) {
	data, err := os.ReadFile(madeFile(cfg))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("podroutes: %w", err)
	}
	made := map[netip.Prefix]bool{}
	for _, line := range strings.Fields(string(data)) {
		if p, err := netip.ParsePrefix(line); err == nil {
			made[p] = true
		}
	}
	return made, nil
}

// noteMade adds to the record, before the routes are made: whoever is killed between leaves none behind.
func noteMade(cfg Config, wanted map[netip.Prefix]bool) error {
	made, err := readMade(cfg)
	if err != nil {
		return err
	}
	maps.Copy(made, wanted)
	return writeMade(cfg, made)
}

func writeMade(cfg Config, made map[netip.Prefix]bool) error {
	file := madeFile(cfg)
	if len(made) == 0 {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("podroutes: %w", err)
		}
		return nil
	}
	var lines []string
	for _, p := range slices.SortedFunc(maps.Keys(made), netip.Prefix.Compare) {
		lines = append(lines, p.String())
	}
	text := strings.Join(lines, "\n") + "\n"
	if old, err := os.ReadFile(file); err == nil && string(old) == text {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("podroutes: %w", err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("podroutes: %w", err)
	}
	return nil
}
