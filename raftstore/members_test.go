package raftstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

func never(error) bool { return false }

func TestASingleVoterGainsMembersAndNoWriteFails(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Members: 1})
	l := startLoad(t, c, 4, never)
	l.await(50)
	c.Join("n2")
	l.await(50)
	c.Join("n3")
	l.await(100)
	c.AwaitHealthy(3)
	l.stop(c)
}

func TestANewMemberGetsItsVoteByItself(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Members: 1, Memory: true})
	ctx := within(t, 60*time.Second)
	s := c.StartJoining("n2")
	if err := c.Store("n1").AddMember(ctx, "n2", raftstoretest.Address("n2")); err != nil {
		t.Fatal(err)
	}
	<-s.Ready()
	ms, err := s.Members(ctx)
	if err != nil || len(ms) != 2 || ms[1].Voter || !ms[1].Self || !ms[0].Leader {
		t.Fatalf("%+v %v", ms, err)
	}
	c.AwaitHealthy(2)
	if err := s.AddMember(ctx, "n2", raftstoretest.Address("n2")); err != nil {
		t.Fatal("adding twice is harmless:", err)
	}
}

func TestMembersComeAndGoUnderLoad(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{})
	ctx := within(t, 100*time.Second)
	l := startLoad(t, c, 6, func(err error) bool { return killed(err) || errors.Is(err, context.DeadlineExceeded) })
	c.Join("n4")
	l.await(100)
	id, leader := c.Leader()
	if err := leader.RemoveMember(ctx, id); err != nil { // itself
		t.Fatal(err)
	}
	c.LeaderOtherThan(id)
	c.Kill(id)
	c.AwaitMembers(func(ms []raftstore.Member) bool {
		return len(ms) == 3 && !slices.ContainsFunc(ms, func(m raftstore.Member) bool { return m.ID == id })
	})
	l.await(100)
	c.Join("n5")
	c.AwaitHealthy(4)
	l.await(100)
	l.stop(c)
}

func TestWhatWouldHarmIsRefused(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Memory: true})
	ctx := within(t, 60*time.Second)
	s := c.Store("n1")
	c.AwaitHealthy(3)
	alone, err := raftstore.Open(raftstore.Config{NodeID: "x", Network: c.Net.Host("x:1"), Address: "x:1"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- alone.Run(context.Background()) }()
	<-alone.Ready()
	for what, err := range map[string]error{
		"a member that holds another store": s.AddMember(ctx, "x", "x:1"),
		"a member under another name":       s.AddMember(ctx, "y", "x:1"),
		"an empty name":                     s.AddMember(ctx, "", "x:1"),
		"to remove who is not there":        s.RemoveMember(ctx, "y"),
		"to promote who is not there":       s.PromoteMember(ctx, "y"),
		"to hand over to who is not there":  s.HandOver(ctx, "y"),
		"to remove the last voter":          alone.RemoveMember(ctx, "x"),
		"to hand over when nobody else is":  alone.HandOver(ctx, ""),
		"an address that another has":       s.AddMember(ctx, "n1", raftstoretest.Address("n2")),
	} {
		if !errors.Is(err, raftstore.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_ = alone.Close()
	<-done
	leader, _ := c.Leader()
	var dead string
	for _, id := range c.IDs() {
		if id != leader {
			dead = id
		}
	}
	c.Kill(dead)
	c.AwaitMembers(func(ms []raftstore.Member) bool {
		return slices.ContainsFunc(ms, func(m raftstore.Member) bool { return m.ID == dead && !m.Healthy })
	})
	for _, id := range []string{"n1", "n2", "n3"} {
		err := c.Stores()[0].RemoveMember(ctx, id)
		if id == dead && err != nil {
			t.Error(err)
		}
		if id == dead {
			break
		}
		if !errors.Is(err, raftstore.ErrInvalid) {
			t.Errorf("removed %s: %v", id, err)
		}
	}
}

func TestLeadershipIsHandedOverBeforeAStop(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{})
	ctx := within(t, 60*time.Second)
	l := startLoad(t, c, 4, killed)
	for range 3 {
		c.AwaitHealthy(3)
		id, s := c.Leader()
		var to string
		for _, other := range c.IDs() {
			if other != id {
				to = other
			}
		}
		if err := s.HandOver(ctx, to); err != nil {
			t.Fatal(err)
		}
		if now, _ := c.Leader(); now != to {
			// It may have been lost again meanwhile, on a slow machine; but not to who gave it away.
			t.Logf("%s leads, %s was asked for", now, to)
		}
		id, s = c.Leader()
		term := s.RaftTerm()
		c.Stop(id)
		// Whoever comes after was asked to, and did not wait for a timeout.
		if _, next := c.LeaderOtherThan(id); next.RaftTerm() < term+1 {
			t.Fatal(next.RaftTerm(), term)
		}
		l.await(50)
		c.Start(id)
	}
	c.AwaitHealthy(3)
	l.stop(c)
}

func TestAMemberThatLagsIsSentTheState(t *testing.T) {
	for name, cfg := range clusterKinds {
		t.Run(name, func(t *testing.T) {
			c := raftstoretest.NewCluster(t, cfg)
			ctx := within(t, 60*time.Second)
			_, leader := c.Leader()
			id, behind := c.Follower()
			lease, err := leader.Grant(ctx, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			watcher, err := behind.Watch(ctx, raftstore.WatchRequest{Prefix: "w/", From: 1})
			if err != nil {
				t.Fatal(err)
			}
			var seen []int64
			var watching sync.WaitGroup
			const last = 400
			watching.Go(func() {
				for len(seen) < last {
					b, err := watcher.Next(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					for _, e := range b.Events {
						seen = append(seen, e.KV.ModRevision)
					}
				}
			})
			var want []int64
			put := func(i int) {
				rev, err := leader.Txn(ctx, raftstore.Txn{Then: []raftstore.Op{{Type: raftstore.OpPut, Key: fmt.Sprintf("w/%d", i%7),
					Value: bytes.Repeat([]byte{byte(i)}, 100), Lease: lease}}})
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, rev.Revision)
			}
			for i := range 100 {
				put(i)
			}
			c.Net.Isolate(raftstoretest.Address(id))
			for i := range 200 {
				put(i)
			}
			if _, err := leader.Delete(ctx, "w/3"); err != nil {
				t.Fatal(err)
			}
			want = append(want, leader.Revision())
			if err := leader.CutLog(); err != nil {
				t.Fatal(err)
			}
			first := leader.FirstIndex()
			c.Net.Heal()
			healed := time.Now()
			for i := range 99 {
				put(i)
			}
			if err := waitRevision(ctx, behind, leader.Revision()); err != nil {
				t.Fatal(err)
			}
			watching.Wait()
			if !slices.Equal(seen, want) {
				t.Fatalf("the watcher saw %d events, %d were written", len(seen), len(want))
			}
			// raft empties the log once the state is in place.
			for behind.FirstIndex() != 0 && behind.FirstIndex() < first/2 {
				if ctx.Err() != nil || time.Since(healed) > 5*time.Second {
					t.Fatalf("its log begins at %d, the leader's at %d: it was not sent the state", behind.FirstIndex(), first)
				}
				time.Sleep(time.Millisecond)
			}
			same := func(s *raftstore.Store) {
				t.Helper()
				for _, rev := range []int64{0, 50, 250, 301} {
					a, err1 := leader.Range(ctx, raftstore.RangeRequest{Revision: rev})
					b, err2 := s.Range(ctx, raftstore.RangeRequest{Revision: rev})
					if err1 != nil || err2 != nil || len(a.KVs) != len(b.KVs) {
						t.Fatal(rev, err1, err2, len(a.KVs), len(b.KVs))
					}
					for i := range a.KVs {
						if d := equalKV(a.KVs[i], b.KVs[i]); !d {
							t.Fatalf("revision %d: %+v and %+v", rev, a.KVs[i], b.KVs[i])
						}
					}
				}
				if err := s.Check(ctx); err != nil {
					t.Fatal(err)
				}
			}
			same(behind)
			if cfg.Memory {
				return
			}
			// And once more, in the same run: the second file takes the place of the first.
			c.Net.Isolate(raftstoretest.Address(id))
			for i := range 50 {
				put(i)
			}
			if err := leader.CutLog(); err != nil {
				t.Fatal(err)
			}
			first = leader.FirstIndex()
			c.Net.Heal()
			for behind.FirstIndex() < first-10 || behind.Revision() < leader.Revision() {
				if ctx.Err() != nil {
					t.Fatalf("its log begins at %d, the leader's at %d", behind.FirstIndex(), first)
				}
				put(0)
				time.Sleep(time.Millisecond)
			}
			c.Kill(id)
			behind = c.Start(id)
			<-behind.Ready()
			same(behind)
			if err := behind.Revoke(ctx, lease); err != nil {
				t.Fatal(err)
			}
			if _, ok, err := behind.Get(ctx, "w/1"); ok || err != nil {
				t.Fatal("the lease did not take its keys along", err)
			}
		})
	}
}

func equalKV(a, b raftstore.KV) bool {
	return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && a.CreateRevision == b.CreateRevision &&
		a.ModRevision == b.ModRevision && a.Version == b.Version && a.Lease == b.Lease
}

func waitRevision(ctx context.Context, s *raftstore.Store, rev int64) error {
	for s.Revision() < rev {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

func TestARestoredStoreGainsMembersThatHaveEverything(t *testing.T) {
	ctx := within(t, 60*time.Second)
	src, stop := run(t, raftstore.Config{})
	for i := range 50 {
		put(t, src, fmt.Sprintf("k%d", i), "v")
	}
	var backup bytes.Buffer
	if err := src.Backup(ctx, &backup); err != nil {
		t.Fatal(err)
	}
	stop()
	dir := t.TempDir()
	net := raftstoretest.NewNet()
	config := func(id string, join bool) raftstore.Config {
		return raftstore.Config{Dir: dir + "/" + id, NodeID: id, Network: net.Host(id), Address: id, Join: join}
	}
	if err := raftstore.Restore(config("a", false), &backup); err != nil {
		t.Fatal(err)
	}
	a, _ := run(t, config("a", false))
	cfg := config("b", true)
	b, err := raftstore.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.Run(context.Background()) }()
	if err := a.AddMember(ctx, "b", "b"); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*raftstore.Store{a, b} {
		r, err := s.Range(ctx, raftstore.RangeRequest{Prefix: "k"})
		if err != nil || r.Count != 50 || r.Revision < 1_000_000_000 {
			t.Fatal(r.Count, r.Revision, err)
		}
		if err := s.Check(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
}

func TestAMemberMayMove(t *testing.T) {
	moved := map[string]string{}
	var c *raftstoretest.Cluster
	c = raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Configure: func(id string, cfg *raftstore.Config) {
		if to := moved[id]; to != "" {
			cfg.Address, cfg.Network = to, c.Net.Host(to)
		}
	}})
	ctx := within(t, 60*time.Second)
	c.AwaitHealthy(3)
	id, _ := c.Follower()
	c.Kill(id)
	// raft reads the old address, without a lock, while it gives the connection up.
	c.AwaitMembers(func(ms []raftstore.Member) bool {
		return slices.ContainsFunc(ms, func(m raftstore.Member) bool { return m.ID == id && m.LastContact > time.Second })
	})
	moved[id] = "elsewhere:1"
	s := c.Start(id)
	c.AwaitMembers(func(ms []raftstore.Member) bool {
		return slices.ContainsFunc(ms, func(m raftstore.Member) bool { return m.ID == id && m.Address == "elsewhere:1" && m.Healthy })
	})
	if _, err := s.Put(ctx, "a", nil); err != nil {
		t.Fatal(err)
	}
}

func TestAMemberWhoseDiskFailsHarmsNoOther(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		t.Run(who, func(t *testing.T) {
			var broken sync.Map
			c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Configure: func(id string, cfg *raftstore.Config) {
				raftstore.SetFault(cfg, func(op string) error {
					if _, bad := broken.Load(id); bad && op == "log" {
						return errors.New("no space left on device")
					}
					return nil
				})
			}})
			ctx := within(t, 60*time.Second)
			id, s := c.Leader()
			if who == "follower" {
				id, s = c.Follower()
			}
			l := startLoad(t, c, 4, func(err error) bool { return errors.Is(err, raftstore.ErrDegraded) })
			l.await(50)
			broken.Store(id, true)
			<-s.Degraded()
			if _, err := s.Put(ctx, "a", nil); !errors.Is(err, raftstore.ErrDegraded) {
				t.Fatal(err)
			}
			if _, err := s.Range(ctx, raftstore.RangeRequest{Local: true}); err != nil {
				t.Fatal(err)
			}
			_, next := c.LeaderOtherThan(id)
			if _, err := next.Put(ctx, "a", nil); err != nil {
				t.Fatal(err)
			}
			c.AwaitMembers(func(ms []raftstore.Member) bool {
				return slices.ContainsFunc(ms, func(m raftstore.Member) bool { return m.ID == id && !m.Healthy && m.Problem != "" })
			})
			c.Kill(id)
			broken.Delete(id)
			c.Start(id)
			c.AwaitHealthy(3)
			l.stop(c)
		})
	}
}

func TestLeasesLiveOnThroughAChangeOfLeader(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Memory: true})
	ctx := within(t, 60*time.Second)
	_, s := c.Follower()
	long, err := s.Grant(ctx, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	short, err := s.Grant(ctx, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for key, id := range map[string]int64{"long": long, "short": short} {
		if _, err := s.Txn(ctx, raftstore.Txn{Then: []raftstore.Op{{Type: raftstore.OpPut, Key: key, Lease: id}}}); err != nil {
			t.Fatal(err)
		}
	}
	old, _ := c.Leader()
	for range 3 {
		if err := s.KeepAlive(ctx, short); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if err := s.HandOver(ctx, ""); err != nil {
		t.Fatal(err)
	}
	c.LeaderOtherThan(old)
	if err := s.KeepAlive(ctx, short); err != nil {
		t.Fatal("the new leader gives each lease its full time:", err)
	}
	for ok := true; ok; time.Sleep(10 * time.Millisecond) {
		if _, ok, err = s.Get(ctx, "short"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.KeepAlive(ctx, short); !errors.Is(err, raftstore.ErrLeaseNotFound) {
		t.Fatal(err)
	}
	if _, ok, err := s.Get(ctx, "long"); err != nil || !ok {
		t.Fatal(ok, err)
	}
}

func TestMembersAreUpgradedOneByOne(t *testing.T) {
	speaks := map[string]int{}
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Configure: func(id string, cfg *raftstore.Config) {
		raftstore.SetSpeaks(cfg, max(1, speaks[id]))
	}})
	ctx := within(t, 60*time.Second)
	l := startLoad(t, c, 4, killed)
	for i, id := range []string{"n2", "n1", "n3"} {
		l.await(50)
		c.Stop(id)
		speaks[id] = 2
		c.Start(id)
		c.AwaitHealthy(3)
		l.await(50)
		if i < 2 {
			for _, s := range c.Stores() {
				if s.FormatVersion() != 1 {
					t.Fatalf("version %d is written while a member speaks 1", s.FormatVersion())
				}
			}
		}
	}
	for _, s := range c.Stores() {
		for s.FormatVersion() != 2 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	l.await(50)
	l.stop(c)
	// Nobody who speaks less may come now.
	speaks["n4"] = 1
	c.StartJoining("n4")
	if err := c.Store("n1").AddMember(ctx, "n4", raftstoretest.Address("n4")); !errors.Is(err, raftstore.ErrInvalid) {
		t.Fatal(err)
	}
	c.Kill("n4")
	var dir string
	speaks["n1"] = 2
	c.Stop("n1")
	cfg := c.Config("n1")
	dir = cfg.Dir
	raftstore.SetSpeaks(&cfg, 1)
	if _, err := raftstore.Open(cfg); err == nil {
		t.Fatalf("an old program opened %s", dir)
	}
	c.Start("n1")
}

func TestEveryMemberWatches(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Memory: true})
	ctx := within(t, 60*time.Second)
	const n = 300
	var wg sync.WaitGroup
	var progressed atomic.Int64
	for _, s := range c.Stores() {
		w, err := s.Watch(ctx, raftstore.WatchRequest{Prefix: "a/", From: 1, Progress: true})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			next := 0
			for next < n {
				b, err := w.Next(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				if len(b.Events) == 0 {
					progressed.Add(1)
				}
				for _, e := range b.Events {
					if want := fmt.Sprint(next); string(e.KV.Value) != want {
						t.Errorf("%s came, %s was next", e.KV.Value, want)
						return
					}
					next++
				}
			}
		})
	}
	for i := range n {
		s := c.Stores()[i%3]
		if _, err := s.Put(ctx, "a/x", []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			if _, err := s.Put(ctx, "b", nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	wg.Wait()
}

func TestADiskThatFailsWhileAStateArrivesLosesNothing(t *testing.T) {
	var broken sync.Map
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Configure: func(id string, cfg *raftstore.Config) {
		raftstore.SetFault(cfg, func(op string) error {
			if _, bad := broken.Load(id); bad && op == "snapshot" {
				return errors.New("no space left on device")
			}
			return nil
		})
	}})
	ctx := within(t, 60*time.Second)
	_, leader := c.Leader()
	id, behind := c.Follower()
	broken.Store(id, true)
	c.Net.Isolate(raftstoretest.Address(id))
	for i := range 100 {
		if _, err := leader.Put(ctx, fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := leader.CutLog(); err != nil {
		t.Fatal(err)
	}
	c.Net.Heal()
	<-behind.Degraded() // the state file has been replaced, the note has not
	c.Kill(id)
	broken.Delete(id)
	behind = c.Start(id)
	c.AwaitHealthy(3)
	r, err := behind.Range(ctx, raftstore.RangeRequest{CountOnly: true})
	if err != nil || r.Count != 100 {
		t.Fatal(r, err)
	}
	if err := behind.Check(ctx); err != nil {
		t.Fatal(err)
	}
}
