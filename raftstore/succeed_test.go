package raftstore_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

// failover kills the leader and returns when a survivor has a write acknowledged, counted from the kill.
func failover(t *testing.T, c *raftstoretest.Cluster) time.Duration {
	t.Helper()
	id, leader := c.Leader()
	_, survivor := c.Follower()
	term := leader.RaftTerm()
	killing := make(chan struct{})
	begun := time.Now()
	go func() {
		defer close(killing)
		c.Kill(id)
	}()
	for c.Store(id) != nil {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// What the leader may have taken before it was gone is no news.
	for survivor.RaftTerm() == term {
		if ctx.Err() != nil {
			t.Fatal("nobody stood for election")
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := survivor.Put(ctx, "k", nil); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	<-killing
	return took
}

// PINTLE_FAILOVERS is how many leaders are killed, to see how the times are distributed.
func TestADeadLeaderIsSucceededBeforeRaftWouldNotice(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv("PINTLE_FAILOVERS"))
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{})
	var took []time.Duration
	for range max(5, rounds) {
		c.AwaitHealthy(3)
		id, _ := c.Leader()
		took = append(took, failover(t, c))
		c.Start(id)
	}
	c.AwaitHealthy(3)
	slices.Sort(took)
	t.Logf("a write was acknowledged after %v at best, %v usually, %v at worst", took[0], took[len(took)/2], took[len(took)-1])
	if rounds > 0 {
		t.Log(took)
	}
	// Raft's own timeout is 700 ms at least. On a machine that is busy enough, an election takes as long.
	if took[0] > 600*time.Millisecond {
		t.Errorf("a write was acknowledged after %v at best", took[0])
	}
}

// A connection that breaks says nothing of a leader that can be reached.
func TestALeaderThatLivesIsNotSucceeded(t *testing.T) {
	var said said
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Configure: func(_ string, cfg *raftstore.Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(&said, nil))
	}})
	c.AwaitHealthy(3)
	for range 20 {
		id, leader := c.Leader()
		c.Net.Break(raftstoretest.Address(id))
		time.Sleep(20 * time.Millisecond)
		if _, err := leader.Put(within(t, 30*time.Second), "k", nil); err != nil {
			t.Fatal(err)
		}
	}
	if said.contains("process has ended") {
		t.Error("a member took the leader for dead")
	}
}

// said is what loggers wrote.
type said struct {
	mu   sync.Mutex // guards what follows
	text bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) contains(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Contains(s.text.Bytes(), []byte(text))
}

// A leader that is cut off refuses nothing and answers nothing.
func TestASilentLeaderIsSucceededSoon(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{})
	var took []time.Duration
	for range 5 {
		c.AwaitHealthy(3)
		id, _ := c.Leader()
		var survivor *raftstore.Store
		for _, other := range c.IDs() {
			if other != id {
				survivor = c.Store(other)
			}
		}
		begun := time.Now()
		c.Net.Isolate(raftstoretest.Address(id))
		if _, err := survivor.Put(within(t, 30*time.Second), "k", nil); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begun))
		c.Net.Heal()
	}
	slices.Sort(took)
	t.Logf("a write was acknowledged after %v at best, %v usually, %v at worst", took[0], took[2], took[4])
}
