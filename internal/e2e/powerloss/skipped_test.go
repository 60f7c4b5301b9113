package powerloss

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Each sync that the store makes is there for a reason: on a disk that ignores those of one kind, the
// same recordings lose something. So the test above would notice if one were missing.
func TestEverySyncIsNeeded(t *testing.T) {
	file := func(pattern string) func(kind, string) bool {
		return func(k kind, path string) bool { return k == syncFile && match(pattern, path) }
	}
	folder := func(pattern string) func(kind, string) bool {
		return func(k kind, path string) bool { return k == syncDir && match(pattern, path) }
	}
	for _, test := range []struct {
		name, script string
		deaf         func(kind, string) bool
	}{
		{"the log", "writes and flushes", file("data/log/*.seg")},
		{"the log's folder", "first start", folder("data/log")},
		{"the log's folder, later", "snapshots cut the log", folder("data/log")},
		{"the header over an old one", "segments are written over", file("data/log/*.spare")},
		{"the state file", "snapshots cut the log", file("data/state.db")},
		{"the snapshot's note", "snapshots cut the log", file("data/snapshot.tmp")},
		{"FORMAT", "first start", file("data/FORMAT.tmp")},
		{"the store's folder", "first start", folder("data")},
		{"the folder above it", "first start", folder(".")},
		{"the keys", "data keys are rotated", file("data/KEYS.tmp")},
		{"the state file that is sealed", "sealed and unsealed", file("data/state.db.new")},
		{"the state that arrives", "a snapshot is installed, sealed", file("cluster/n3/state.arriving")},
		{"the restored state", "backup and restore", file("restored/state.db")},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			w := workloads[slices.IndexFunc(workloads, func(w workload) bool { return w.script == test.script })]
			c := cutter{rec: recorded(t, w), open: w.open, seed: 2, enough: 1, deaf: test.deaf}
			if c.from = firstIgnored(c.rec, test.deaf); c.from < 0 {
				t.Fatal("the store never syncs it")
			}
			if test.script == "a snapshot is installed, sealed" {
				c.from = w.renamed(c.rec) // it counts once it takes the place of the state file
			}
			// What is lost is lost soon, or a later sync makes up for it. The zeros ahead of the log are 128 operations.
			c.to = min(c.from+250, len(c.rec))
			c.overlook = func(err error) bool { // a machine that is slow is no proof
				return errors.Is(err, errNotReady) || errors.Is(err, context.DeadlineExceeded)
			}
			cuts := 1500
			if strings.HasPrefix(w.script, "a snapshot is installed") {
				cuts = 300 // three members take their time
			}
			losses := c.cut(t.Context(), t.TempDir(), cuts)
			if len(losses) == 0 {
				t.Fatal("nothing was lost without it")
			}
			t.Log(losses[0])
		})
	}
}

// firstIgnored is the place of the first sync that a deaf disk ignores; -1 if there is none.
func firstIgnored(rec recording, deaf func(kind, string) bool) int {
	first := -1
	p := newPlatter(nil)
	p.deaf = func(k kind, path string) bool {
		if first < 0 && deaf(k, path) {
			first = p.at
		}
		return false
	}
	for _, o := range rec {
		p.play(o)
	}
	return first
}

func match(pattern, path string) bool {
	ok, err := filepath.Match(pattern, path)
	return ok && err == nil
}

// The same for a store that is built to acknowledge writes before they are synced.
func TestAnAckBeforeTheSyncIsFound(t *testing.T) {
	w := workloads[1]
	rec := record(t, buildChild(t, "raftstore_faults"), w.script, 0, "RAFTSTORE_BROKEN=sync before ack")
	c := cutter{rec: rec, open: w.open, seed: 3, enough: 1}
	losses := c.cut(t.Context(), t.TempDir(), 1500)
	if len(losses) == 0 {
		t.Fatal("nothing was lost")
	}
	t.Log(losses[0])
}
