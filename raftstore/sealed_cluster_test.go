package raftstore_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

// TestWhatArrivesIsSealedWhereItIsWritten has a member sent the whole state more than once in one run,
// while all members change their data keys.
func TestWhatArrivesIsSealedWhereItIsWritten(t *testing.T) {
	var mu sync.Mutex
	dirs := map[string]string{}
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{KeyProvider: raftstoretest.Key(), Configure: func(id string, cfg *raftstore.Config) {
		mu.Lock()
		defer mu.Unlock()
		dirs[id] = cfg.Dir
	}})
	ctx := within(t, 120*time.Second)
	_, leader := c.Leader()
	id, behind := c.Follower()
	put := func(n int) {
		t.Helper()
		for i := range n {
			if _, err := leader.Put(ctx, fmt.Sprintf("%s/%d", secret, i%50), bytes.Repeat([]byte(secret+" "), 30)); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(100)
	for range 3 {
		c.Net.Isolate(raftstoretest.Address(id))
		put(150)
		if err := leader.CutLog(); err != nil {
			t.Fatal(err)
		}
		first := leader.FirstIndex()
		c.Net.Heal()
		rotated := make(chan error, 1)
		go func() {
			for range 3 {
				if err := behind.RotateKey(ctx); err != nil {
					rotated <- err
					return
				}
			}
			rotated <- leader.RotateKey(ctx)
		}()
		if err := waitRevision(ctx, behind, leader.Revision()); err != nil {
			t.Fatal(err)
		}
		if err := <-rotated; err != nil {
			t.Fatal(err)
		}
		for behind.FirstIndex() != 0 && behind.FirstIndex() < first/2 { // raft empties the log once the state is in place
			if ctx.Err() != nil {
				t.Fatalf("its log begins at %d, the leader's at %d: it was not sent the state", behind.FirstIndex(), first)
			}
			time.Sleep(time.Millisecond)
		}
		if err := behind.Check(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// It opens again with what KEYS has, and the newest of the states is the one that counts.
	c.Kill(id)
	if err := raftstore.CheckFolder(ctx, raftstore.Config{Dir: dirs[id], NodeID: id, KeyProvider: raftstoretest.Key()}); err != nil {
		t.Fatal(err)
	}
	behind = c.Start(id)
	<-behind.Ready()
	put(10)
	if err := waitRevision(ctx, behind, leader.Revision()); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Stores() {
		if err := s.Check(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range dirs {
		if files := found(t, dir); len(files) > 0 {
			t.Errorf("what is stored can be read in %v", files)
		}
	}
}
