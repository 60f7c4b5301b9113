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
		// named, when set, is a file's old and new name: what is lost is lost once it has the new one.
		named [2]string
	}{
		{name: "the log", script: "writes and flushes", deaf: file("data/log/*.seg")},
		{name: "the log's folder", script: "first start", deaf: folder("data/log")},
		{name: "the log's folder, later", script: "snapshots cut the log", deaf: folder("data/log")},
		{name: "a segment over an old one", script: "segments are written over", deaf: file("data/log/*.spare")},
		{name: "a segment that was made ahead", script: "segments are made ahead", deaf: file("data/log/*.ahead"),
			named: [2]string{"*.ahead", "*.seg"}},
		{name: "the name of a segment", script: "segments are made ahead", deaf: folder("data/log"), named: [2]string{"*.ahead", "*.seg"}},
		{name: "the state file", script: "snapshots cut the log", deaf: file("data/state.db")},
		{name: "the snapshot's note", script: "snapshots cut the log", deaf: file("data/snapshot.tmp")},
		{name: "FORMAT", script: "first start", deaf: file("data/FORMAT.tmp")},
		{name: "the store's folder", script: "first start", deaf: folder("data")},
		{name: "the folder above it", script: "first start", deaf: folder(".")},
		{name: "the keys", script: "data keys are rotated", deaf: file("data/KEYS.tmp")},
		{name: "the state file that is sealed", script: "sealed and unsealed", deaf: file("data/state.db.new")},
		{name: "the state that arrives", script: "a snapshot is installed, sealed", deaf: file("cluster/n3/state.arriving")},
		{name: "the restored state", script: "backup and restore", deaf: file("restored/state.db")},
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
			if test.named[0] != "" {
				c.from = slices.IndexFunc(c.rec, func(o op) bool {
					return o.kind == move && match(test.named[0], o.name) && match(test.named[1], o.newName)
				})
				if c.from < 0 {
					t.Fatal("no file got that name")
				}
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

// The same for a store that is built to acknowledge writes before they are synced, or to begin a segment of the log
// before the one before it is synced.
func TestABrokenOrderIsFound(t *testing.T) {
	for _, test := range []struct{ rule, script string }{
		{"sync before ack", "writes and flushes"},
		{"segment before", "segments are made ahead"},
	} {
		t.Run(strings.ReplaceAll(test.rule, " ", "-"), func(t *testing.T) {
			child := buildChild(t, "raftstore_faults")
			var losses []error
			// Whether the end of a segment is still unsynced when the next one begins is a matter of luck.
			for try := uint64(0); try < 20 && len(losses) == 0; try++ {
				rec := record(t, child, test.script, 0, "RAFTSTORE_BROKEN="+test.rule)
				c := cutter{rec: rec, open: single, seed: 3 + try, enough: 1}
				losses = c.cut(t.Context(), t.TempDir(), 600)
			}
			if len(losses) == 0 {
				t.Fatal("nothing was lost")
			}
			t.Log(losses[0])
		})
	}
}
