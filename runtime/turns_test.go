package runtime

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func never() <-chan struct{} { return nil }
func on() bool               { return false }

func TestTurnsComeInTheOrderOfAskingAndNoMoreThanThereAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &turns{free: 2}
		var mu sync.Mutex
		var order []int
		ends := make([]func(), 5)
		had := func(want ...int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(order, want) {
				t.Fatalf("%v have had a turn, want %v", order, want)
			}
		}
		for i := range 5 {
			go func() {
				end := turns.take(t.Context(), never, on)
				mu.Lock()
				defer mu.Unlock()
				order, ends[i] = append(order, i), end
			}()
			synctest.Wait()
		}
		had(0, 1)
		ends[1]()
		ends[1]() // once more says nothing
		had(0, 1, 2)
		time.Sleep(longestTurn / 2)
		ends[0]()
		had(0, 1, 2, 3)
		time.Sleep(longestTurn / 2) // 2 hangs
		had(0, 1, 2, 3, 4)
		time.Sleep(longestTurn)
		synctest.Wait()
		if turns.free != 2 {
			t.Fatalf("%d turns are free at the end, want 2", turns.free)
		}
	})
}

func TestWhoGivesUpWaitingTakesNobodysTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &turns{free: 1}
		end := turns.take(t.Context(), never, on)
		gone := false
		wake := make(chan struct{})
		var first, second func()
		var took atomic.Bool
		go func() {
			first = turns.take(t.Context(), func() <-chan struct{} { return wake }, func() bool { return gone })
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		go turns.take(ctx, never, on)
		synctest.Wait()
		go func() { second = turns.take(t.Context(), never, on); took.Store(true) }()
		synctest.Wait()
		gone = true
		close(wake)
		cancel()
		synctest.Wait()
		if first != nil || took.Load() {
			t.Fatal("a turn came before it was free")
		}
		end()
		synctest.Wait()
		if !took.Load() {
			t.Fatal("the one who still waits has no turn")
		}
		second()
		if turns.free != 1 || len(turns.queue) != 0 {
			t.Fatalf("%d free and %d wait at the end", turns.free, len(turns.queue))
		}
	})
}
