package raftstore

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
)

// fillLog appends entries of a megabyte, two at a time, up to last.
func fillLog(t *testing.T, log *logStore, last uint64) {
	t.Helper()
	next, err := log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	for next < last {
		var batch []*raft.Log
		for range 2 {
			next++
			batch = append(batch, &raft.Log{Index: next, Term: 1, Data: fmt.Appendf(bytes.Repeat([]byte{byte(next)}, 1<<20), "%d", next)})
		}
		if err := log.StoreLogs(batch); err != nil {
			t.Fatal(err)
		}
		if err := log.waitDurable(next); err != nil {
			t.Fatal(err)
		}
	}
}

func spareFiles(t *testing.T, log *logStore) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(log.dir, "*"+spareSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func checkLog(t *testing.T, log *logStore, first, last uint64) {
	t.Helper()
	log.check(func(format string, args ...any) { t.Errorf(format, args...) })
	if f, _ := log.FirstIndex(); f > first {
		t.Errorf("the log begins at %d, want %d", f, first)
	}
	if l, _ := log.LastIndex(); l != last {
		t.Errorf("the log ends at %d, want %d", l, last)
	}
	for i := first; i <= last; i++ {
		var e raft.Log
		if err := log.GetLog(i, &e); err != nil || e.Index != i || !bytes.HasSuffix(e.Data, fmt.Append(nil, i)) {
			t.Fatalf("entry %d: %v, %d bytes", i, err, len(e.Data))
		}
	}
}

func TestASegmentThatLeftIsWrittenOverAndWhatItHeldStaysGone(t *testing.T) {
	dir := t.TempDir()
	log, err := openLog(dir, &keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	fillLog(t, log, 40)
	if err := log.DeleteRange(1, 38); err != nil {
		t.Fatal(err)
	}
	if n := spareFiles(t, log); n == 0 || n > maxSpares {
		t.Fatalf("%d spares, want 1 to %d", n, maxSpares)
	}
	before := spareFiles(t, log)
	fillLog(t, log, 50)
	if n := spareFiles(t, log); n >= before {
		t.Fatalf("%d spares, no fewer than before", n)
	}
	checkLog(t, log, 39, 50)
	// A process that is killed leaves all of this as it is: behind the last record of the newest segment stand
	// sound ones of long ago.
	killed := filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if n := spareFiles(t, log); n != 0 {
		t.Errorf("a closed log keeps %d spares", n)
	}
	read, err := readLog(killed, &keyring{})
	if err != nil {
		t.Fatal(err)
	}
	checkLog(t, read, 39, 50)
	_ = read.Close()
	again, err := openLog(killed, &keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if n := spareFiles(t, again); n != 0 {
		t.Errorf("%d spares of the killed process are still there", n)
	}
	checkLog(t, again, 39, 50)
	fillLog(t, again, 60)
	checkLog(t, again, 39, 60)
}

func TestANewSegmentEndsWhereTheOldRecordsBegin(t *testing.T) {
	// The worst case: the old record begins exactly where the new ones end.
	old := entry(3, raft.LogCommand)
	fresh := entry(9, raft.LogCommand)
	segment := func(first uint64, logs ...*raft.Log) []byte {
		b := encodeSegHeader(first, 0)
		for _, l := range logs {
			b = appendRecord(b, l, uint32(len(b)), &sealer{})
		}
		return b
	}
	b := append(segment(9, fresh), appendRecord(nil, old, segHeader, &sealer{})...)
	offsets, good, err := scanSegment(b, 9)
	if err != nil || len(offsets) != 1 || good != len(segment(9, fresh)) {
		t.Fatalf("%d records, %d bytes, %v", len(offsets), good, err)
	}
	// Damage to what was acknowledged is still damage, and not an end.
	two := segment(9, fresh, entry(10, raft.LogCommand))
	copy(two[segHeader:], appendRecord(nil, old, segHeader, &sealer{}))
	if _, _, err := scanSegment(two, 9); err == nil {
		t.Fatal("an old record in the middle passes for the end")
	}
}

func TestSparesOfAnotherKeyAreNotWrittenOver(t *testing.T) {
	log, err := openLog(t.TempDir(), &keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	fillLog(t, log, 30)
	if err := log.DeleteRange(1, 28); err != nil {
		t.Fatal(err)
	}
	if err := log.reseal(); err != nil {
		t.Fatal(err)
	}
	if n := spareFiles(t, log); n != 0 {
		t.Fatalf("%d spares outlive a change of keys", n)
	}
}

func TestANewSegmentWaitsForNoSyncAndHasNoNameBefore(t *testing.T) {
	dir := t.TempDir()
	hold, held := make(chan struct{}), make(chan struct{}, 100)
	var holding atomic.Bool
	log, err := openLog(dir, &keyring{}, func(op string) error {
		if op == "log sync" && holding.Load() {
			held <- struct{}{}
			<-hold
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	fillLog(t, log, 30)
	if err := log.DeleteRange(1, 28); err != nil {
		t.Fatal(err)
	}
	segments := func(dir string) int {
		files, _ := filepath.Glob(filepath.Join(dir, "*"+segSuffix))
		return len(files)
	}
	before := segments(dir)
	holding.Store(true)
	for i := uint64(31); i <= 40; i += 2 { // ten megabytes: more than a segment
		two := []*raft.Log{{Index: i, Term: 1, Data: fmt.Appendf(make([]byte, 1<<20), "%d", i)}, {Index: i + 1, Term: 1, Data: fmt.Appendf(make([]byte, 1<<20), "%d", i+1)}}
		if err := log.StoreLogs(two); err != nil {
			t.Fatal(err)
		}
		log.syncSoon()
	}
	<-held
	if n := segments(dir); n != before {
		t.Errorf("%d segments, want the %d that there were: a name came before the sync", n, before)
	}
	var e raft.Log
	if err := log.GetLog(40, &e); err != nil || e.Index != 40 {
		t.Error("what was written cannot be read: ", err)
	}
	if d := log.durableIndex(); d != 30 {
		t.Errorf("durable up to %d", d)
	}
	// Killed now, the log has what has a name.
	killed := filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again, err := openLog(killed, &keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	last, _ := again.LastIndex()
	if last < 30 || last >= 40 {
		t.Errorf("it ends at %d", last)
	}
	checkLog(t, again, 29, last)
	if n := spareFiles(t, again); n != 0 {
		t.Errorf("%d spares are still there", n)
	}
	fillLog(t, again, last+20)
	checkLog(t, again, 29, last+20)
	_ = again.Close()
	close(hold)
	if err := log.waitDurable(40); err != nil {
		t.Fatal(err)
	}
	if n := segments(dir); n != before+1 {
		t.Errorf("%d segments, want %d", n, before+1)
	}
	checkLog(t, log, 29, 40)
}

func TestAFileIsMadeAheadAndTheLogGoesOnWithoutOne(t *testing.T) {
	dir := t.TempDir()
	log, err := openLog(dir, &keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	fillLog(t, log, 6)
	log.making.Wait()
	ahead, _ := filepath.Glob(filepath.Join(dir, "*"+aheadSuffix))
	if len(ahead) != 1 {
		t.Fatalf("%d files are ready, want 1", len(ahead))
	}
	fillLog(t, log, 10) // it is taken
	if _, err := os.Stat(ahead[0]); !os.IsNotExist(err) {
		t.Errorf("it was not used: %v", err)
	}
	checkLog(t, log, 1, 10)
	// Nothing can be made in a folder that takes no files of that name; a segment begins all the same.
	log.making.Wait()
	log.mu.Lock()
	log.dropSparesLocked()
	log.ahead.running = true // none is asked for
	log.mu.Unlock()
	fillLog(t, log, 30)
	checkLog(t, log, 1, 30)
	// Cut off in the middle of one that was made ahead, and written again.
	if err := log.DeleteRange(9, 30); err != nil {
		t.Fatal(err)
	}
	fillLog(t, log, 20)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := openLog(dir, &keyring{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	checkLog(t, again, 1, 20)
}
