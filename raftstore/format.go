package raftstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// formatVersion is the version of everything in a data folder: the layout, the framing and the
// messages of store.proto. It grows when an older program could not read what a newer one writes,
// and with it come a step in migrations and a golden folder in testdata.
const formatVersion = 1

const formatPrefix = "pintle raftstore "

func formatLine(version int) []byte { return []byte(formatPrefix + strconv.Itoa(version) + "\n") }

func parseFormat(b []byte) (version int, err error) {
	rest, ok := strings.CutPrefix(string(b), formatPrefix)
	number, whole := strings.CutSuffix(rest, "\n")
	version, err = strconv.Atoi(number)
	if !ok || !whole || err != nil || version < 1 {
		return 0, fmt.Errorf("%w: %s says %q, which names no format", ErrCorrupt, fileFormat, b)
	}
	return version, nil
}

// migration turns a folder of version from into one of from+1. Power may fail at any point of it,
// and then it runs again from its start: it must be able to go on with what it left.
type migration struct {
	from int
	run  func(dir string) error
}

// migrations are in ascending order; there is one for each version that came before this one.
func migrations() []migration { return nil }

// migrate brings a folder to version to. A folder that is newer than that is left as it is.
func migrate(dir string, to int, steps []migration) error {
	path := filepath.Join(dir, fileFormat)
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	version, err := parseFormat(b)
	if err != nil {
		return err
	}
	if version > to {
		return fmt.Errorf("%w: %s has format %d, this program knows %s. Run the program that wrote it, or a newer one; or "+
			"restore, in another folder, a backup that this program wrote", ErrNewer, dir, version, knownFormats(to, steps))
	}
	for _, m := range steps {
		if m.from != version {
			continue
		}
		if err := m.run(dir); err != nil {
			return fmt.Errorf("bring %s from format %d to %d: %w", dir, version, version+1, err)
		}
		version++
		if err := writeFileSynced(path, formatLine(version)); err != nil {
			return err
		}
	}
	if version < to {
		return fmt.Errorf("%w: %s has format %d, this program knows %s", ErrCorrupt, dir, version, knownFormats(to, steps))
	}
	return nil
}

func knownFormats(to int, steps []migration) string {
	oldest := to
	for _, m := range steps {
		oldest = min(oldest, m.from)
	}
	if oldest == to {
		return "format " + strconv.Itoa(to)
	}
	return fmt.Sprintf("formats %d to %d", oldest, to)
}
