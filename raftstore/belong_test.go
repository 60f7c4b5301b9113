package raftstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

func TestAFolderStaysWithItsCluster(t *testing.T) {
	cfg := raftstore.Config{Dir: t.TempDir(), Cluster: "one"}
	s, stop := run(t, cfg)
	put(t, s, "a", "b")
	stop()
	cfg.Cluster = "two"
	if _, err := raftstore.Open(cfg); !errors.Is(err, raftstore.ErrInvalid) || !strings.Contains(err.Error(), `"one"`) || !strings.Contains(err.Error(), `"two"`) {
		t.Errorf("another cluster opened it: %v", err)
	}
	for _, named := range []string{"", "one"} {
		cfg.Cluster = named
		_, stop := run(t, cfg)
		stop()
	}
	// One from before there were names takes the first that it is given.
	cfg = raftstore.Config{Dir: t.TempDir()}
	_, stop = run(t, cfg)
	stop()
	cfg.Cluster = "three"
	_, stop = run(t, cfg)
	stop()
	cfg.Cluster = "four"
	if _, err := raftstore.Open(cfg); !errors.Is(err, raftstore.ErrInvalid) {
		t.Errorf("a fourth name: %v", err)
	}
}

// Both clusters have a member n1, so that nothing but the clusters' ids tells n2 of the one from a new one of the other.
func TestAMemberOfAnotherClusterIsNotAdded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	net := raftstoretest.NewNet()
	member := func(cluster, id string, join bool) *raftstore.Store {
		t.Helper()
		at := cluster + "/" + id
		s, err := raftstore.Open(raftstore.Config{NodeID: id, Network: net.Host(at), Address: at, Join: join, Cluster: cluster})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Run(context.Background()) }()
		t.Cleanup(func() { _ = s.Close(); <-done })
		if !join {
			<-s.Ready()
		}
		return s
	}
	one, two := member("one", "n1", false), member("two", "n1", false)
	member("two", "n2", true)
	if err := two.AddMember(ctx, "n2", "two/n2"); err != nil {
		t.Fatal(err)
	}
	member("two", "n3", true) // waits to be added
	for _, id := range []string{"n2", "n3"} {
		err := one.AddMember(ctx, id, "two/"+id)
		if !errors.Is(err, raftstore.ErrInvalid) || !strings.Contains(err.Error(), `part of the cluster "two", and this is "one"`) {
			t.Errorf("%s of the other cluster: %v", id, err)
		}
	}
	// Nor does a member of ours move to where one of theirs is.
	member("one", "n2", true)
	if err := one.AddMember(ctx, "n2", "one/n2"); err != nil {
		t.Fatal(err)
	}
	if err := one.AddMember(ctx, "n2", "two/n2"); !errors.Is(err, raftstore.ErrInvalid) {
		t.Errorf("n2 was moved to the other cluster: %v", err)
	}
	if ms, err := two.Members(ctx); err != nil || len(ms) != 2 {
		t.Errorf("the other cluster has %+v, %v", ms, err)
	}
}
