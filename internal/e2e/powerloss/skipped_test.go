package powerloss

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
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
			for _, w := range workloads {
				if w.script != test.script {
					continue
				}
				var ignored atomic.Int64
				c := cutter{rec: recorded(t, w), open: w.open, seed: 2, enough: 1, deaf: func(k kind, path string) bool {
					ok := test.deaf(k, path)
					if ok {
						ignored.Add(1)
					}
					return ok
				}}
				ctx := t.Context()
				if strings.HasPrefix(test.script, "a snapshot") {
					c.from = w.renamed(c.rec)
				} else { // members have to wait for each other
					ctx = context.WithValue(ctx, impatient{}, true)
				}
				losses := c.cut(ctx, t.TempDir(), 1500)
				if len(losses) == 0 {
					t.Errorf("nothing was lost without it (%d syncs ignored)", ignored.Load())
				} else {
					t.Log(losses[0])
				}
			}
		})
	}
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
	losses := c.cut(context.WithValue(t.Context(), impatient{}, true), t.TempDir(), 1500)
	if len(losses) == 0 {
		t.Fatal("nothing was lost")
	}
	t.Log(losses[0])
}
