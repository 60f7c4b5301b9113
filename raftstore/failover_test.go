package raftstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

// load writes keys of its own on every member until stop is called; each key is written once.
type load struct {
	t      *testing.T
	cancel context.CancelFunc
	wg     sync.WaitGroup
	n      atomic.Int64
	mu     sync.Mutex
	acked  map[string]int64 // key → revision
	maybe  map[string]bool
	// patience is how long a client waits for its write.
	patience time.Duration
}

// startLoad: a write that fails although its member goes on is an error of the test.
func startLoad(t *testing.T, c *raftstoretest.Cluster, clients int, mayFail func(error) bool) *load {
	return startLoadFor(t, c, clients, 30*time.Second, mayFail)
}

func startLoadFor(t *testing.T, c *raftstoretest.Cluster, clients int, patience time.Duration, mayFail func(error) bool) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, patience: patience, cancel: cancel, acked: map[string]int64{}, maybe: map[string]bool{}}
	for i := range clients {
		l.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				ids := c.IDs()
				if len(ids) == 0 {
					return // the test failed, and takes everything down
				}
				id := ids[(i+n)%len(ids)]
				s := c.Store(id)
				if s == nil {
					continue
				}
				key := fmt.Sprintf("load/%d/%d", i, n)
				once, done := context.WithTimeout(context.Background(), l.patience)
				rev, err := s.Put(once, key, []byte(id))
				done()
				l.n.Add(1)
				l.mu.Lock()
				if err == nil {
					l.acked[key] = rev
				} else {
					l.maybe[key] = true
					if !mayFail(err) {
						t.Errorf("put %s on %s: %v", key, id, err)
					}
				}
				l.mu.Unlock()
			}
		})
	}
	return l
}

// stop ends the load and checks that everything acknowledged is there exactly once.
func (l *load) stop(c *raftstoretest.Cluster) {
	l.t.Helper()
	l.cancel()
	l.wg.Wait()
	ctx := within(l.t, 60*time.Second)
	for _, s := range c.Stores() {
		r, err := s.Range(ctx, raftstore.RangeRequest{Prefix: "load/"})
		if err != nil {
			l.t.Fatal(err)
		}
		found := map[string]bool{}
		for _, kv := range r.KVs {
			found[kv.Key] = true
			rev, ok := l.acked[kv.Key]
			switch {
			case kv.Version != 1:
				l.t.Errorf("%s was written %d times", kv.Key, kv.Version)
			case ok && kv.ModRevision != rev:
				l.t.Errorf("%s has revision %d, %d was acknowledged", kv.Key, kv.ModRevision, rev)
			case !ok && !l.maybe[kv.Key]:
				l.t.Errorf("%s was never written", kv.Key)
			}
		}
		for key := range l.acked {
			if !found[key] {
				l.t.Errorf("%s was acknowledged and is lost", key)
			}
		}
		if err := s.Check(ctx); err != nil {
			l.t.Error(err)
		}
	}
	l.t.Logf("%d writes acknowledged, %d uncertain", len(l.acked), len(l.maybe))
}

func (l *load) await(more int64) {
	for end := l.n.Load() + more; l.n.Load() < end; time.Sleep(time.Millisecond) {
	}
}

func killed(err error) bool {
	return errors.Is(err, raftstore.ErrClosed) || errors.Is(err, raftstore.ErrUncertain)
}

func TestAWriteIsDoneOnceThoughLeadersAreKilled(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{})
	l := startLoad(t, c, 8, killed)
	for range 3 {
		l.await(100)
		id, _ := c.Leader()
		c.Kill(id)
		c.LeaderOtherThan(id)
		l.await(100)
		c.Start(id)
		c.AwaitHealthy(3)
	}
	l.await(100)
	l.stop(c)
}

func TestAWriteIsDoneOnceThoughLeadersAreCutOff(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{})
	l := startLoad(t, c, 8, func(error) bool { return false })
	for round := range 3 {
		l.await(100)
		id, _ := c.Leader()
		me := raftstoretest.Address(id)
		for _, other := range c.IDs() {
			switch other := raftstoretest.Address(other); {
			case other == me:
			case round == 0:
				c.Net.Isolate(me)
			case round == 1: // it hears the others, and they do not hear it
				c.Net.Cut(me, other)
			case round == 2: // they hear it, and it does not hear them
				c.Net.Cut(other, me)
			}
		}
		c.LeaderOtherThan(id)
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
		c.Net.Heal()
		l.await(100)
		c.AwaitHealthy(3)
	}
	l.stop(c)
}

func TestADeposedLeaderAnswersNoLinearizableRead(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{})
	ctx := within(t, 60*time.Second)
	for i := range 3 {
		id, old := c.Leader()
		if _, err := old.Put(ctx, "a", []byte(fmt.Sprint("old", i))); err != nil {
			t.Fatal(err)
		}
		c.Net.Isolate(raftstoretest.Address(id))
		// Reads and writes on the one that is cut off, from before it knows on.
		var wg sync.WaitGroup
		var stale atomic.Int64
		stop, cancel := context.WithCancel(ctx)
		for range 4 {
			wg.Go(func() {
				for stop.Err() == nil {
					once, done := context.WithTimeout(ctx, 300*time.Millisecond)
					if kv, _, err := old.Get(once, "a"); err == nil && string(kv.Value) == fmt.Sprint("old", i) {
						stale.Add(1)
					}
					done()
				}
			})
		}
		_, now := c.LeaderOtherThan(id)
		if _, err := now.Put(ctx, "a", []byte(fmt.Sprint("new", i))); err != nil {
			t.Fatal(err)
		}
		before := stale.Load() // what was read before the write above is right
		time.Sleep(700 * time.Millisecond)
		if stale.Load() != before {
			t.Fatalf("%d reads of what had been overwritten", stale.Load()-before)
		}
		r, err := old.Range(ctx, raftstore.RangeRequest{Key: "a", Local: true})
		if err != nil || string(r.KVs[0].Value) != fmt.Sprint("old", i) {
			t.Fatal("a local read needs nobody", r, err)
		}
		c.Net.Heal()
		cancel()
		wg.Wait()
		if kv, _, err := old.Get(ctx, "a"); err != nil || string(kv.Value) != fmt.Sprint("new", i) {
			t.Fatal(kv, err)
		}
		c.AwaitHealthy(3)
	}
}

func TestAFencedWriteDiesWithItsTerm(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Memory: true})
	ctx := within(t, 60*time.Second)
	id, old := c.Leader()
	term := old.Term()
	fenced := raftstore.Txn{Term: term, Then: []raftstore.Op{{Type: raftstore.OpPut, Key: "a"}}}
	if _, err := old.Txn(ctx, fenced); err != nil {
		t.Fatal(err)
	}
	_, follower := c.Follower()
	if err := follower.HandOver(ctx, ""); err != nil {
		t.Fatal(err)
	}
	_, now := c.LeaderOtherThan(id)
	for _, s := range c.Stores() {
		if _, err := s.Txn(ctx, fenced); !errors.Is(err, raftstore.ErrFenced) {
			t.Fatal(err)
		}
	}
	fenced.Term = now.Term()
	if _, err := now.Txn(ctx, fenced); err != nil {
		t.Fatal(err)
	}
}

func TestAMemberThatIsCutOffDisturbsNobodyWhenItReturns(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Memory: true})
	ctx := within(t, 60*time.Second)
	_, leader := c.Leader()
	id, _ := c.Follower()
	c.Net.Isolate(raftstoretest.Address(id))
	term := c.Store(id).RaftTerm()
	time.Sleep(3 * time.Second)
	// It asked for votes beforehand and got none: it has no later term to force upon the others.
	if now := c.Store(id).RaftTerm(); now != term {
		t.Fatalf("its term rose from %d to %d while it was cut off", term, now)
	}
	if _, err := leader.Put(ctx, "a", nil); err != nil {
		t.Fatal(err)
	}
	c.Net.Heal()
	if _, ok, err := c.Store(id).Get(ctx, "a"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	c.AwaitHealthy(3)
}

func TestFiveMembersBearTheLossOfTwo(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Members: 5})
	l := startLoad(t, c, 8, killed)
	l.await(200)
	id, _ := c.Leader()
	c.Kill(id)
	second, _ := c.LeaderOtherThan(id)
	c.Kill(second)
	c.LeaderOtherThan(second)
	l.await(200)
	c.Start(id)
	c.Start(second)
	c.AwaitHealthy(5)
	l.stop(c)
}

// The old leader still believes that it leads, for its lease has not run out.
func TestALeaderThatWasSucceededUnawareAnswersNoRead(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{})
	ctx := within(t, 60*time.Second)
	for i := range 3 {
		c.AwaitHealthy(3)
		id, old := c.Leader()
		var others []string
		for _, other := range c.IDs() {
			if other != id {
				others = append(others, other)
			}
		}
		if _, err := old.Put(ctx, "a", []byte(fmt.Sprint("old", i))); err != nil {
			t.Fatal(err)
		}
		c.Net.Isolate(raftstoretest.Address(id))
		next := others[i%2]
		if err := c.Store(others[1-i%2]).Elect(next, raftstoretest.Address(next)); err != nil {
			t.Fatal(err)
		}
		_, now := c.LeaderOtherThan(id)
		if _, err := now.Put(ctx, "a", []byte(fmt.Sprint("new", i))); err != nil {
			t.Fatal(err)
		}
		unaware := old.Term() != 0
		once, done := context.WithTimeout(ctx, 300*time.Millisecond)
		if kv, _, err := old.Get(once, "a"); err == nil {
			t.Fatalf("read %s", kv.Value)
		}
		done()
		t.Log("it believed that it leads:", unaware)
		c.Net.Heal()
		if kv, _, err := old.Get(ctx, "a"); err != nil || string(kv.Value) != fmt.Sprint("new", i) {
			t.Fatal(kv, err)
		}
	}
}

func TestNothingIsLostWhateverHappens(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Members: 3})
	ctx := within(t, 100*time.Second)
	seed := rand.Uint64()
	t.Log("seed", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	l := startLoadFor(t, c, 6, 2*time.Second, func(err error) bool { return killed(err) || errors.Is(err, context.DeadlineExceeded) })
	all := []string{"n1", "n2", "n3"}
	for range 12 {
		l.await(30)
		began := time.Now()
		id := all[dice.IntN(3)]
		me := raftstoretest.Address(id)
		what := dice.IntN(6)
		switch what {
		case 0, 1:
			c.Kill(id)
			l.await(40)
			for _, s := range c.Stores() {
				_ = s.CutLog() // so that it is sent the state, and not the entries
			}
			c.Start(id)
		case 2:
			c.Stop(id)
			l.await(20)
			c.Start(id)
		case 3:
			c.Net.Isolate(me)
			l.await(40)
			if dice.IntN(2) == 0 {
				for _, s := range c.Stores() {
					_ = s.CutLog()
				}
			}
			time.Sleep(time.Duration(dice.IntN(1500)) * time.Millisecond)
		case 4:
			other := raftstoretest.Address(all[dice.IntN(3)])
			c.Net.Cut(me, other)
			time.Sleep(time.Duration(dice.IntN(1500)) * time.Millisecond)
		case 5:
			c.Net.Delay(time.Duration(dice.IntN(50)) * time.Millisecond)
			_ = c.Store(id).HandOver(ctx, "")
			time.Sleep(time.Duration(dice.IntN(500)) * time.Millisecond)
			c.Net.Delay(0)
		}
		c.Net.Heal()
		healed := time.Now()
		c.AwaitHealthy(3)
		t.Logf("%d to %s took %s, then %s to heal", what, id, healed.Sub(began), time.Since(healed))
	}
	l.stop(c)
	want, err := c.Store("n1").Range(ctx, raftstore.RangeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Stores()[1:] {
		got, err := s.Range(ctx, raftstore.RangeRequest{Revision: want.Revision})
		if err != nil || got.Count != want.Count {
			t.Fatal(got.Count, want.Count, err)
		}
		for i := range want.KVs {
			if d := equalKV(want.KVs[i], got.KVs[i]); !d {
				t.Fatalf("%+v and %+v", want.KVs[i], got.KVs[i])
			}
		}
	}
}

func TestAReadSeesWhatWasAcknowledgedAnywhere(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Memory: true})
	ctx := within(t, 60*time.Second)
	stores := c.Stores()
	var wg sync.WaitGroup
	for i := range 9 {
		wg.Go(func() {
			key := fmt.Sprint("k", i)
			for n := range 200 {
				rev, err := stores[n%3].Put(ctx, key, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if kv, _, err := stores[(i+n)%3].Get(ctx, key); err != nil || kv.ModRevision != rev {
					t.Errorf("%s has revision %d, %d was acknowledged (%v)", key, kv.ModRevision, rev, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
