package raftstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

// A script of bytes drives a store and a plain model through the same calls: transactions with
// compares, leases, compactions, restarts, crashes, backups and restores, sealed or not. Every answer, every error
// and every watch must be the same, and in the end every retained revision and the whole history.

func FuzzTheStoreAgreesWithTheModel(f *testing.F) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 11))
		script := make([]byte, 1200)
		for i := range script {
			script[i] = byte(r.Uint32())
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4000 {
			b = b[:4000] // longer ones take long and say no more
		}
		d := &driver{T: t, script: b, m: raftstoretest.NewModel(nil), dir: fastDir(t)}
		d.cfg = raftstore.Config{Dir: filepath.Join(d.dir, "0"), NoAutoCompact: true}
		if d.n(2) == 1 {
			d.cfg.KeyProvider = raftstoretest.Key()
		}
		raftstore.SetFault(&d.cfg, d.fault)
		d.start()
		for len(d.script) > 0 {
			d.step()
		}
		d.everything()
	})
}

// fastDir is a folder in memory where there is one: nothing here is about the disk.
func fastDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "raftstore")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

type driver struct {
	*testing.T
	script   []byte
	m        *raftstoretest.Model
	s        *raftstore.Store
	stop     func()
	cfg      raftstore.Config
	dir      string
	restored int
	dead     atomic.Bool // the disk takes nothing any more
	live     *follower   // a watch that goes on while things happen; nil: none
}

var errDead = errors.New("the disk is gone")

func (d *driver) fault(string) error {
	if d.dead.Load() {
		return errDead
	}
	return nil
}

func (d *driver) start() {
	d.live = nil
	s, err := raftstore.Open(d.cfg)
	if err != nil {
		d.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	d.s, d.stop = s, sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			d.Errorf("close: %v", err)
		}
		// After a crash Run may tell of the disk.
		if err := <-done; err != nil && !errors.Is(err, errDead) {
			d.Errorf("run: %v", err)
		}
	})
	d.Cleanup(d.stop)
	<-s.Ready()
}

// n takes a number below limit from the script; 0 when it is used up.
func (d *driver) n(limit int) int {
	if len(d.script) == 0 {
		return 0
	}
	b := d.script[0]
	d.script = d.script[1:]
	return int(b) % limit
}

func (d *driver) key() string {
	return []string{"a", "a/1", "a/2", "a/\xff", "b", "b/1", "\x00", "\xff\xff", "c/1", "c/2"}[d.n(10)]
}

func (d *driver) prefix() string {
	return []string{"", "a", "a/", "b/1", "\xff", "none"}[d.n(6)]
}

func (d *driver) value() []byte {
	return bytes.Repeat([]byte{byte('a' + d.n(3))}, []int{0, 1, 2, 40, 5000}[d.n(5)])
}

// rev takes a revision from a little below what is retained to a little above.
func (d *driver) rev() int64 {
	low, high := max(d.m.CompactedRevision()-2, 0), d.m.Revision()+2
	return low + int64(d.n(256))%(high-low)
}

func (d *driver) lease() int64 { return int64(d.n(6)) }

func (d *driver) ops() []raftstore.Op {
	ops := make([]raftstore.Op, d.n(4))
	for i := range ops {
		o := &ops[i]
		switch n := d.n(8); n {
		case 0, 1, 2:
			*o = raftstore.Op{Type: raftstore.OpPut, Key: d.key(), Value: d.value()}
		case 3:
			*o = raftstore.Op{Type: raftstore.OpPut, Key: d.key(), Value: d.value(), Lease: d.lease()}
		case 4, 5:
			*o = raftstore.Op{Type: raftstore.OpDelete, Key: d.key()}
		case 6:
			*o = raftstore.Op{Type: raftstore.OpGet, Key: d.key()}
		default:
			*o = raftstore.Op{Type: raftstore.OpDeletePrefix, Key: d.prefix()}
		}
	}
	return ops
}

func (d *driver) compares() []raftstore.Compare {
	compares := make([]raftstore.Compare, d.n(3))
	for i := range compares {
		c := &compares[i]
		*c = raftstore.Compare{Key: d.key(), Target: raftstore.CompareTarget(d.n(4)), Relation: raftstore.Relation(d.n(4))}
		switch c.Target {
		case raftstore.Value:
			c.Value = d.value()
		case raftstore.Version:
			c.Int = int64(d.n(4))
		default:
			c.Int = d.rev()
		}
	}
	return compares
}

// step is one call on both sides.
func (d *driver) step() {
	ctx := d.Context()
	switch n := d.n(64); {
	case n < 20:
		d.txn(raftstore.Txn{Then: []raftstore.Op{{Type: raftstore.OpPut, Key: d.key(), Value: d.value()}}})
	case n < 34:
		d.txn(raftstore.Txn{If: d.compares(), Then: d.ops(), Else: d.ops()})
	case n < 44:
		d.ranged(raftstore.RangeRequest{Prefix: d.prefix(), Revision: d.rev(), Limit: d.n(4), KeysOnly: d.n(4) == 0, CountOnly: d.n(4) == 0})
	case n < 46:
		d.ranged(raftstore.RangeRequest{Key: d.key(), End: []string{"", "a/2", "c"}[d.n(3)], Revision: d.rev()})
	case n < 49:
		d.watched(d.prefix(), d.rev())
	case n < 52:
		d.follow()
	case n < 54:
		id, err := d.s.Grant(ctx, time.Hour)
		want, wantErr := d.m.Grant(ctx, time.Hour)
		d.same("grant", err, wantErr)
		if id != want {
			d.Fatalf("lease %d, want %d", id, want)
		}
	case n < 56:
		id := d.lease()
		d.same("revoke", d.s.Revoke(ctx, id), d.m.Revoke(ctx, id))
	case n < 57:
		id := d.lease()
		d.same("keep alive", d.s.KeepAlive(ctx, id), d.m.KeepAlive(ctx, id))
	case n < 60:
		rev := d.rev()
		d.same("compact", d.s.Compact(ctx, rev), d.m.Compact(ctx, rev))
	case n < 61 && d.cfg.KeyProvider != nil && d.n(2) == 0:
		d.same("rotate the data key", d.s.RotateKey(ctx), nil)
	case n < 61:
		d.stop()
		d.start()
	case n < 63:
		d.crash(d.n(2) == 0)
	default:
		if d.restored < 3 {
			d.restore()
		}
	}
	if got, want := d.s.Revision(), d.m.Revision(); got != want {
		d.Fatalf("revision %d, want %d", got, want)
	}
	if got, want := d.s.CompactedRevision(), d.m.CompactedRevision(); got != want {
		d.Fatalf("compacted to %d, want %d", got, want)
	}
}

func (d *driver) same(what string, got, want error) {
	d.Helper()
	if got == nil && want == nil || got != nil && want != nil && errors.Is(got, want) {
		return
	}
	d.Fatalf("%s: %v, want %v", what, got, want)
}

func (d *driver) txn(t raftstore.Txn) {
	got, err := d.s.Txn(d.Context(), t)
	want, wantErr := d.m.Txn(d.Context(), t)
	d.same(fmt.Sprintf("txn %+v", t), err, wantErr)
	if diff := raftstoretest.DiffTxn(got, want); err == nil && diff != "" {
		d.Fatalf("txn %+v: %s", t, diff)
	}
}

func (d *driver) ranged(req raftstore.RangeRequest) {
	got, err := d.s.Range(d.Context(), req)
	want, wantErr := d.m.Range(d.Context(), req)
	d.same(fmt.Sprintf("range %+v", req), err, wantErr)
	if diff := raftstoretest.DiffRange(got, want); err == nil && diff != "" {
		d.Fatalf("range %+v: %s", req, diff)
	}
}

func (d *driver) watched(prefix string, from int64) {
	got, err := d.history(raftstoretest.Of(d.s), prefix, from)
	want, wantErr := d.history(d.m, prefix, from)
	d.same(fmt.Sprintf("watch %q from %d", prefix, from), err, wantErr)
	if !slices.EqualFunc(got, want, raftstoretest.SameEvent) {
		d.Fatalf("watch %q from %d: %v, want %v", prefix, from, got, want)
	}
}

// follower is one watch on either side.
type follower struct {
	store, model raftstoretest.Watcher
	at           int64
}

// follow begins a watch, or goes on with the one there is.
func (d *driver) follow() {
	if d.live == nil {
		req := raftstore.WatchRequest{Prefix: d.prefix(), Progress: true}
		got, err := raftstoretest.Of(d.s).Watch(d.Context(), req)
		want, wantErr := d.m.Watch(d.Context(), req)
		d.same("watch", errors.Join(err, wantErr), nil)
		d.live = &follower{got, want, d.m.Revision()}
		return
	}
	got, err := d.read(d.live.store, d.live.at)
	want, wantErr := d.read(d.live.model, d.live.at)
	d.same("a watch that goes on", err, wantErr)
	if !slices.EqualFunc(got, want, raftstoretest.SameEvent) {
		d.Fatalf("a watch that goes on after %d: %v, want %v", d.live.at, got, want)
	}
	if d.live.at = d.m.Revision(); err != nil {
		d.live = nil
	}
}

// history is what a watch tells up to now.
func (d *driver) history(s raftstoretest.Store, prefix string, from int64) (all []raftstore.Event, err error) {
	w, err := s.Watch(d.Context(), raftstore.WatchRequest{Prefix: prefix, From: from, Progress: true})
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if from == 0 {
		return nil, nil
	}
	return d.read(w, from-1)
}

// read takes what w has after the revision at.
func (d *driver) read(w raftstoretest.Watcher, at int64) (all []raftstore.Event, err error) {
	for at < d.m.Revision() {
		b, err := w.Next(d.Context())
		if err != nil {
			return nil, err
		}
		if b.Revision <= at {
			d.Fatalf("a batch up to %d after one up to %d", b.Revision, at)
		}
		at = b.Revision
		all = append(all, b.Events...)
	}
	return all, nil
}

// crash stops the store as if the disk had gone: nothing more is written, flushes included.
func (d *driver) crash(writing bool) {
	d.dead.Store(true)
	torn := raftstore.Txn{Then: []raftstore.Op{{Type: raftstore.OpPut, Key: "torn"}}}
	if writing {
		if _, err := d.s.Txn(d.Context(), torn); err == nil {
			d.Fatal("a write to a dead disk was acknowledged")
		}
	}
	d.stop()
	d.dead.Store(false)
	d.start()
	if writing && d.s.Revision() == d.m.Revision()+1 { // it may take effect
		if _, err := d.m.Txn(d.Context(), torn); err != nil {
			d.Fatal(err)
		}
	}
}

func (d *driver) restore() {
	var b bytes.Buffer
	if err := d.s.Backup(d.Context(), &b); err != nil {
		d.Fatal(err)
	}
	d.stop()
	d.restored++
	d.cfg.Dir = filepath.Join(d.dir, fmt.Sprint(d.restored))
	if err := raftstore.Restore(d.cfg, &b); err != nil {
		d.Fatal(err)
	}
	d.start()
	if d.s.Revision() <= d.m.Revision() {
		d.Fatalf("restored to revision %d, it was at %d", d.s.Revision(), d.m.Revision())
	}
	d.m.Raise(d.s.Revision())
}

// everything compares all that can still be seen.
func (d *driver) everything() {
	low, high := max(d.m.CompactedRevision(), 1), d.m.Revision()
	for rev := low; rev <= high; rev++ {
		d.ranged(raftstore.RangeRequest{Revision: rev})
	}
	d.watched("", d.m.CompactedRevision()+1)
	if err := d.s.Check(d.Context()); err != nil {
		d.Fatal(err)
	}
}
