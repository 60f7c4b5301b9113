package storeload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// keys is how many keys the puts are spread over.
const keys = 10_000

func key(i int) string { return fmt.Sprintf("/registry/pods/default/pod-%06d", i%keys) }

// value is of random bytes: nobody gains by compressing it.
func value(size int) []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(1, uint64(size)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func puts(ctx context.Context, s Subject, c *Command) (Result, error) {
	v := value(c.Size)
	return load(ctx, s, c, func(ctx context.Context, client Client, n int) error { return client.Put(ctx, key(n), v) })
}

func gets(ctx context.Context, s Subject, c *Command) (Result, error) {
	return load(ctx, s, c, func(ctx context.Context, client Client, n int) error {
		_, err := client.Get(ctx, key(n))
		return err
	})
}

// load has every client call one after the other; what begins after the warm-up and ends in time counts.
func load(ctx context.Context, s Subject, c *Command, call func(context.Context, Client, int) error) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Warm+c.Time+30*time.Second)
	defer cancel()
	var next atomic.Int64
	used := cpu()
	took, errs := make([][]time.Duration, c.Clients), make([]error, c.Clients)
	from := time.Now().Add(c.Warm)
	until := from.Add(c.Time)
	var wg sync.WaitGroup
	for i := range c.Clients {
		client := s.Client(i)
		wg.Go(func() {
			for {
				begin := time.Now()
				if begin.After(until) {
					return
				}
				if errs[i] = call(ctx, client, int(next.Add(1))); errs[i] != nil {
					return
				}
				if end := time.Now(); begin.After(from) && end.Before(until) {
					took[i] = append(took[i], end.Sub(begin))
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return Result{}, err
	}
	r := quantiles(slices.Concat(took...))
	r.Rate /= c.Time.Seconds()
	r.CPU = (cpu() - used) / time.Duration(max(1, next.Load()))
	return r, nil
}

// cpu is what this process has used of all processors.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// quantiles leaves the count in Rate.
func quantiles(d []time.Duration) Result {
	if len(d) == 0 {
		return Result{}
	}
	slices.Sort(d)
	at := func(q float64) time.Duration { return d[min(int(q*float64(len(d))), len(d)-1)] }
	return Result{Rate: float64(len(d)), P50: at(0.5), P99: at(0.99), P999: at(0.999)}
}
