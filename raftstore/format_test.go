package raftstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnOlderFolderIsMigratedAndANewerOneRefused(t *testing.T) {
	broken := errors.New("no power")
	for _, c := range []struct {
		name, format string
		fail         bool
		want         error
		says, after  string
	}{
		{name: "this one", format: "pintle raftstore 3\n", after: "pintle raftstore 3\n"},
		{name: "older", format: "pintle raftstore 1\n", after: "pintle raftstore 3\n"},
		{name: "half-way", format: "pintle raftstore 1\n", fail: true, want: broken, after: "pintle raftstore 2\n"},
		{name: "newer", format: "pintle raftstore 4\n", want: ErrNewer, says: "has format 4, this program knows formats 1 to 3", after: "pintle raftstore 4\n"},
		{name: "garbage", format: "pintle", want: ErrCorrupt, says: `"pintle"`, after: "pintle"},
		{name: "torn", format: "pintle raftstore 3", want: ErrCorrupt, after: "pintle raftstore 3"},
		{name: "negative", format: "pintle raftstore -1\n", want: ErrCorrupt, after: "pintle raftstore -1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, fileFormat)
			if err := os.WriteFile(path, []byte(c.format), 0o600); err != nil {
				t.Fatal(err)
			}
			var ran []int
			steps := []migration{
				{from: 1, run: func(string) error { ran = append(ran, 1); return nil }},
				{from: 2, run: func(string) error {
					ran = append(ran, 2)
					if c.fail {
						return broken
					}
					return nil
				}},
			}
			err := migrate(dir, 3, steps)
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatal(err)
			}
			if b, _ := os.ReadFile(path); string(b) != c.after {
				t.Fatalf("FORMAT became %q", b)
			}
			if c.fail { // and once more, with power
				c.fail = false
				if err := migrate(dir, 3, steps); err != nil || len(ran) != 3 || ran[2] != 2 {
					t.Fatal(err, ran)
				}
			}
		})
	}
}

func TestANewerFolderIsLeftAsItIs(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileFormat), formatLine(formatVersion+1), 0o600); err != nil {
		t.Fatal(err)
	}
	before := folderBytes(t, dir)
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrNewer) {
		t.Fatal(err)
	}
	if after := folderBytes(t, dir); after != before {
		t.Fatal("it was changed")
	}
}

// folderBytes is everything in a folder.
func folderBytes(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all.WriteString(path + "\n" + strings.TrimRight(string(b), "\x00"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
