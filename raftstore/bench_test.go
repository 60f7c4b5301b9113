package raftstore_test

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pintle/pintle/raftstore"
)

func BenchmarkPut(b *testing.B) {
	for _, clients := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			benchmarkPut(b, raftstore.Config{Dir: b.TempDir()}, clients)
		})
		// The same, sealed: what encryption at rest costs.
		b.Run(fmt.Sprintf("clients=%d,sealed", clients), func(b *testing.B) {
			benchmarkPut(b, raftstore.Config{Dir: b.TempDir(), KeyProvider: newKey(b)}, clients)
		})
	}
}

func benchmarkPut(b *testing.B, cfg raftstore.Config, clients int) {
	value := bytes.Repeat([]byte("v"), 1024)
	s, stop := run(b, cfg)
	defer stop()
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range clients {
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
}

// BenchmarkOpen is the time from Open to Ready on a folder of 10,000 keys.
func BenchmarkOpen(b *testing.B) {
	for _, keys := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			cfg := raftstore.Config{Dir: b.TempDir()}
			s, stop := run(b, cfg)
			for i := 0; i < keys; i += 500 {
				t := raftstore.Txn{}
				for j := range 500 {
					t.Then = append(t.Then, raftstore.Op{Type: raftstore.OpPut, Key: fmt.Sprintf("/k/%d", i+j), Value: make([]byte, 1024)})
				}
				if _, err := s.Txn(b.Context(), t); err != nil {
					b.Fatal(err)
				}
			}
			stop()
			b.ResetTimer()
			for b.Loop() {
				_, stop := run(b, cfg)
				b.StopTimer()
				stop()
				b.StartTimer()
			}
		})
	}
}
