package storeload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const fillers = 64

func fillKey(n int64) string { return fmt.Sprintf("/filled/default/object-%08d", n) }

// fill puts Total bytes of values of Size under keys of their own.
func fill(ctx context.Context, s Subject, c *Command) (Result, error) {
	count := c.Total / int64(c.Size)
	v := value(c.Size)
	var next atomic.Int64
	errs := make([]error, fillers)
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range fillers {
		client := s.Client(i)
		wg.Go(func() {
			for n := next.Add(1) - 1; n < count && errs[i] == nil; n = next.Add(1) - 1 {
				errs[i] = client.Put(ctx, fillKey(n), v)
			}
		})
	}
	wg.Wait()
	return Result{Bytes: count * int64(c.Size), Took: time.Since(begin)}, errors.Join(errs...)
}

// backup writes to a file and syncs it.
func backup(ctx context.Context, s Subject, c *Command) (r Result, err error) {
	f, err := os.Create(c.File)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(c.File)) }()
	begin := time.Now()
	if err := s.Backup(ctx, f); err != nil {
		return r, err
	}
	if err := f.Sync(); err != nil {
		return r, err
	}
	r.Took = time.Since(begin)
	r.Bytes, err = f.Seek(0, io.SeekEnd)
	return r, err
}

func usage(s Subject) (r Result, err error) {
	for _, pid := range s.Pids() {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return r, err
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) < 2 || f[0] != "VmRSS:" && f[0] != "RssAnon:" {
				continue
			}
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return r, err
			}
			if f[0] == "VmRSS:" {
				r.RSS += kib << 10
			} else {
				r.Anon += kib << 10
			}
		}
	}
	err = filepath.WalkDir(s.Folder(), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a log that was just cut
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && err == nil {
			r.Disk += st.Blocks * 512
		}
		return err
	})
	return r, err
}

const (
	failoverTry  = 10 * time.Millisecond
	failoverWait = 30 * time.Second
)

// failover kills the leader and offers the survivors a write every few milliseconds, without waiting for
// the one before: whichever is acknowledged first ends the time.
func failover(ctx context.Context, s Subject) (Result, error) {
	for range 100 {
		if err := s.Survivor().Put(ctx, key(0), value(256)); err != nil {
			return Result{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, failoverWait)
	defer cancel()
	done := make(chan struct{}, 1)
	begin := time.Now()
	if err := s.KillLeader(); err != nil { // what is acknowledged before it is gone is no proof
		return Result{}, err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	tick := time.NewTicker(failoverTry)
	defer tick.Stop()
	for n := 0; ; n++ {
		wg.Go(func() {
			if s.Survivor().Put(ctx, key(n), value(256)) == nil {
				select {
				case done <- struct{}{}:
				default:
				}
			}
		})
		select {
		case <-done:
			return Result{Took: time.Since(begin)}, nil
		case <-ctx.Done():
			return Result{}, errors.New("no write was acknowledged in time")
		case <-tick.C:
		}
	}
}
