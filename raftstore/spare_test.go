package raftstore

import (
	"fmt"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

func TestWhatIsForgottenBeforeAFlushNeverGetsToTheFile(t *testing.T) {
	s, _ := startStore(t, Config{Dir: t.TempDir(), NoAutoCompact: true})
	put := func(from, to int) (rev int64) {
		for i := from; i < to; i++ {
			var err error
			if rev, err = s.Put(t.Context(), fmt.Sprintf("/k/%d", i%10), []byte(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		return rev
	}
	inFile := func() (values []string) {
		err := s.files.state.view(func(tx *bolt.Tx) error {
			return tx.Bucket(bucketVal).ForEach(func(_, v []byte) error { values = append(values, string(v)); return nil })
		})
		if err != nil {
			t.Fatal(err)
		}
		return values
	}
	put(0, 10)
	if err := s.files.state.flush(s.m); err != nil { // these are in the file, and must leave it
		t.Fatal(err)
	}
	put(10, 2500)
	s.files.state.flushing.Lock() // nothing is flushed meanwhile
	old := s.m.view.Load()
	rev := put(2500, 2520)
	if err := s.Compact(t.Context(), rev-5); err != nil {
		t.Fatal(err)
	}
	// Who reads an older view finds what it holds.
	if kvs, err := s.m.read([]*version{old.log[len(old.log)-1]}); err != nil || string(kvs[0].Value) != "2499" {
		t.Errorf("%v, %v", kvs, err)
	}
	before := s.m.pendingBytes()
	s.files.state.flushing.Unlock()
	if limit := 40 * 250; before > limit {
		t.Errorf("%d bytes are pending, of which some %d are kept", before, limit)
	}
	if err := s.files.state.flush(s.m); err != nil {
		t.Fatal(err)
	}
	if n := len(inFile()); n != 15 {
		t.Errorf("%d values in the file, want the 15 that are visible: %s", n, strings.Join(inFile(), " "))
	}
	if n := s.m.pendingBytes(); n != 0 {
		t.Errorf("%d bytes are pending after a flush", n)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	kv, _, err := s.Get(t.Context(), "/k/9")
	if err != nil || string(kv.Value) != "2519" {
		t.Errorf("%q, %v", kv.Value, err)
	}
}
