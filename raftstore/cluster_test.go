package raftstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// clusterKinds are where a cluster keeps what it has.
var clusterKinds = map[string]raftstoretest.ClusterConfig{"memory": {Memory: true}, "disk": {}, "sealed": {KeyProvider: raftstoretest.Key()}}

func TestEveryMemberWritesAndReads(t *testing.T) {
	for name, cfg := range clusterKinds {
		t.Run(name, func(t *testing.T) {
			c := raftstoretest.NewCluster(t, cfg)
			ctx := within(t, 60*time.Second)
			for i, s := range c.Stores() {
				key := fmt.Sprintf("k%d", i)
				if _, err := s.Put(ctx, key, []byte("v")); err != nil {
					t.Fatal(err)
				}
				for _, other := range c.Stores() {
					if _, ok, err := other.Get(ctx, key); err != nil || !ok {
						t.Fatalf("%s is not there: %v", key, err)
					}
				}
			}
			ms, err := c.Store("n3").Members(ctx)
			if err != nil || len(ms) != 3 {
				t.Fatal(ms, err)
			}
			for _, s := range c.Stores() {
				if err := s.Check(ctx); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestTheStoreGoesOnWhenTheLeaderIsKilled(t *testing.T) {
	c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{})
	ctx := within(t, 60*time.Second)
	id, s := c.Leader()
	if _, err := s.Put(ctx, "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	c.Kill(id)
	began := time.Now()
	for _, s := range c.Stores() {
		if _, ok, err := s.Get(ctx, "a"); err != nil || !ok {
			t.Fatal(ok, err)
		}
		if _, err := s.Put(ctx, "a", []byte("2")); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("after %s", time.Since(began))
	back := c.Start(id)
	if kv, _, err := back.Get(ctx, "a"); err != nil || string(kv.Value) != "2" {
		t.Fatal(kv, err)
	}
	c.AwaitMembers(func(ms []raftstore.Member) bool {
		return len(ms) == 3 && ms[0].Healthy && ms[1].Healthy && ms[2].Healthy
	})
}
