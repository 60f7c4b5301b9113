package storeload

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// watchPause lies between two writes: the subjects must be able to keep up with the deliveries.
const watchPause = 50 * time.Millisecond

// watch has all watchers see each of one writer's puts, and takes the time from the begin of the put to
// the delivery.
func watch(ctx context.Context, s Subject, c *Command) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	took := make([][]time.Duration, c.Clients)
	var started, watching sync.WaitGroup
	var ended atomic.Pointer[error]
	var seen atomic.Int64
	begin := time.Now()
	for i := range c.Clients {
		client := s.Client(i)
		started.Add(1)
		var once sync.Once
		up := func() { once.Do(started.Done) }
		watching.Go(func() {
			err := client.Watch(ctx, "/watched/", up, func(value []byte) {
				if len(value) >= 8 {
					took[i] = append(took[i], time.Since(begin)-time.Duration(binary.BigEndian.Uint64(value)))
					seen.Add(1)
				}
			})
			if err != nil && ctx.Err() == nil {
				ended.Store(&err)
			}
			up()
		})
	}
	started.Wait()
	v := value(c.Size)
	var writes int64
	for until := time.Now().Add(c.Time); time.Now().Before(until) && ended.Load() == nil; time.Sleep(watchPause) {
		binary.BigEndian.PutUint64(v, uint64(time.Since(begin)))
		if err := s.Client(0).Put(ctx, "/watched/key", v); err != nil {
			return Result{}, err
		}
		writes++
	}
	want := writes * int64(c.Clients)
	for until := time.Now().Add(10 * time.Second); seen.Load() < want && time.Now().Before(until); {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	watching.Wait()
	if err := ended.Load(); err != nil {
		return Result{}, *err
	}
	if writes == 0 {
		return Result{}, errors.New("nothing was written")
	}
	r := quantiles(slices.Concat(took...))
	r.Missed, r.Extra = max(0, want-seen.Load()), max(0, seen.Load()-want)
	return r, nil
}
