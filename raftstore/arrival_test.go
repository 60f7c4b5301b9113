package raftstore

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	bolt "go.etcd.io/bbolt"
)

// A crash may come between the steps in which a state from another member is put in place.
func TestOpenFinishesAnArrivalThatACrashInterrupted(t *testing.T) {
	for what, c := range map[string]struct {
		note     snapshotNote // the log has the entries 1 to 10, in term 2
		first    uint64       // where the log must begin afterwards; 0: empty
		arriving bool
	}{
		"the note was not written yet":        {snapshotNote{Index: 5, Term: 2}, 1, true},
		"the note was, and the log goes on":   {snapshotNote{Index: 10, Term: 2}, 1, false},
		"the log ends before the note":        {snapshotNote{Index: 20, Term: 3}, 0, false},
		"the log contradicts the note":        {snapshotNote{Index: 7, Term: 3}, 0, true},
		"a half-sent state is of no more use": {snapshotNote{Index: 3, Term: 2}, 1, true},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			cfg, err := Config{Dir: dir, NodeID: "a"}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			f, err := openFolder(&cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.stable.SetUint64([]byte("CurrentTerm"), 3); err != nil {
				t.Fatal(err)
			}
			if err := f.log.DeleteRange(1, 1); err != nil {
				t.Fatal(err)
			}
			for i := range uint64(10) {
				if err := f.log.StoreLog(&raft.Log{Index: i + 1, Term: 2, Data: []byte(fmt.Sprint(i))}); err != nil {
					t.Fatal(err)
				}
			}
			err = f.state.update(func(tx *bolt.Tx) error {
				return putMeta(tx, &stateMeta{applied: 20, brought: 20}, f.ring.sealer())
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := f.stable.SetUint64([]byte("CurrentTerm"), 3); err != nil {
				t.Fatal(err)
			}
			c.note.Version = 1
			c.note.Configuration = raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}}})
			if err := f.snaps.keep(&c.note); err != nil {
				t.Fatal(err)
			}
			if err := f.close(); err != nil {
				t.Fatal(err)
			}
			arriving := filepath.Join(dir, fileArriving)
			if c.arriving {
				if err := os.WriteFile(arriving, []byte("half"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if f, err = openFolder(&cfg, nil); err != nil {
				t.Fatal(err)
			}
			if first, _ := f.log.FirstIndex(); first != c.first {
				t.Errorf("the log begins at %d", first)
			}
			if _, err := os.Stat(arriving); err == nil {
				t.Error("the half-sent state is still there")
			}
			if err := f.close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// What has arrived from another member may be sealed with a key that was rotated away before it is
// taken over.
func TestAStateThatArrivesDuringARotationIsSealedWithTheNewKey(t *testing.T) {
	key := goldenKey(t, 1)
	from, _ := startStore(t, Config{NoAutoCompact: true})
	id, err := from.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if _, err := from.Txn(t.Context(), Txn{Then: []Op{{Type: OpPut, Key: fmt.Sprint("/k", i%30), Value: fmt.Append(nil, i), Lease: id}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := from.submitHere(t.Context(), &command{open: true}); err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	st := from.m.stillState()
	if _, err := st.write(&stream, st.view.versions(), from.m.read); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: t.TempDir(), NoAutoCompact: true, KeyProvider: key}
	to, stop := startStore(t, cfg)
	a, err := receiveState(&stream, filepath.Join(cfg.Dir, fileArriving), to.files.ring, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := to.RotateKey(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.takeOver(a, a.applied); err != nil {
		t.Fatal(err)
	}
	if err := to.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := CheckFolder(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	to, _ = startStore(t, cfg)
	if got, want := dumpStore(t, to), dumpStore(t, from); got != want {
		t.Fatalf("it holds\n%s\nand was sent\n%s", got, want)
	}
}
