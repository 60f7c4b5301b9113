package raftstore_test

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

// BenchmarkClusterPut puts 256 bytes under one of 10,000 keys, through every member in turn or
// through the leader alone. With one member it is a single voter that could gain others.
func BenchmarkClusterPut(b *testing.B) {
	value := bytes.Repeat([]byte("v"), 256)
	for _, members := range []int{1, 3} {
		for _, through := range []string{"all", "leader", "follower"} {
			if members == 1 && through != "all" {
				continue
			}
			c := raftstoretest.NewCluster(b, raftstoretest.ClusterConfig{Members: members})
			stores := c.Stores()
			if through == "leader" {
				_, s := c.Leader()
				stores = []*raftstore.Store{s}
			}
			if through == "follower" {
				_, s := c.Follower()
				stores = []*raftstore.Store{s}
			}
			for _, clients := range []int{1, 32, 256} {
				b.Run(fmt.Sprintf("members=%d/through=%s/clients=%d", members, through, clients), func(b *testing.B) {
					var next atomic.Int64
					b.ReportAllocs()
					b.ResetTimer()
					var wg sync.WaitGroup
					for i := range clients {
						s := stores[i%len(stores)]
						wg.Go(func() {
							for {
								n := next.Add(1)
								if n > int64(b.N) {
									return
								}
								if _, err := s.Put(b.Context(), fmt.Sprintf("/registry/pods/%06d", n%10000), value); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					wg.Wait()
					b.StopTimer()
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
				})
			}
		}
	}
}

// BenchmarkClusterGet reads one key linearizably through every member in turn.
func BenchmarkClusterGet(b *testing.B) {
	c := raftstoretest.NewCluster(b, raftstoretest.ClusterConfig{})
	stores := c.Stores()
	put(b, stores[0], "a", "v")
	for _, clients := range []int{1, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			var next atomic.Int64
			var wg sync.WaitGroup
			for i := range clients {
				s := stores[i%len(stores)]
				wg.Go(func() {
					for next.Add(1) <= int64(b.N) {
						if _, _, err := s.Get(b.Context(), "a"); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "gets/s")
		})
	}
}
