package raftstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

// TestPowerLossChild is no test: it is the process whose disk internal/e2e/powerloss records. The
// script that the environment names runs in a folder; marks tell what its clients know.
func TestPowerLossChild(t *testing.T) {
	dir := os.Getenv("RAFTSTORE_POWERLOSS_DIR")
	if dir == "" {
		t.Skip("for internal/e2e/powerloss")
	}
	marks, err := os.OpenFile(filepath.Join(dir, ".marks"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	c := &powerLoss{t: t, dir: dir, marks: marks}
	script := powerLossScripts[os.Getenv("RAFTSTORE_POWERLOSS_SCRIPT")]
	if script == nil {
		t.Fatal("no such script")
	}
	script(c)
	if err := marks.Close(); err != nil {
		t.Fatal(err)
	}
}

// powerLossScripts are what a power failure may interrupt. internal/e2e/powerloss has the same names.
var powerLossScripts = map[string]func(*powerLoss){
	"first start": func(c *powerLoss) {
		c.open("data")
		c.write(1, 3, 10)
		c.close()
	},
	"writes and flushes": func(c *powerLoss) {
		c.open("data")
		c.write(8, 40, 300)
		c.write(1, 10, 6000)
		c.close()
		c.open("data")
		c.write(2, 10, 300)
		c.close()
	},
	"many small writes at once": func(c *powerLoss) {
		c.open("data")
		c.write(64, 12, 20)
		c.close()
	},
	"snapshots cut the log": func(c *powerLoss) {
		c.open("data")
		for range 6 {
			c.write(4, 8, 40_000) // 15 MB in all: more than a segment of the log
			if err := raftstore.Snapshot(c.s); err != nil {
				c.t.Fatal(err)
			}
		}
		c.close()
	},
	"segments are written over": func(c *powerLoss) {
		c.segBytes = 128 << 10
		c.open("data")
		for range 8 {
			c.write(4, 10, 8000)
			if err := c.s.CutLog(); err != nil {
				c.t.Fatal(err)
			}
		}
		c.close()
		c.open("data")
		c.write(2, 10, 8000)
		c.close()
	},
	"segments are made ahead": func(c *powerLoss) {
		c.segBytes = 64 << 10
		c.open("data")
		c.write(6, 12, 4000)
		c.close()
		c.open("data")
		c.write(2, 10, 4000)
		c.close()
	},
	"compaction and leases": func(c *powerLoss) {
		c.open("data")
		for range 8 {
			id, err := c.s.Grant(c.t.Context(), time.Hour)
			if err != nil {
				c.t.Fatal(err)
			}
			c.mark("leased %d", id)
			c.write(4, 6, 100)
			rev := c.s.Revision() - 3
			if err := c.s.Compact(c.t.Context(), rev); err != nil {
				c.t.Fatal(err)
			}
			c.mark("compacted %d", rev)
			time.Sleep(120 * time.Millisecond) // a flush
		}
		c.close()
	},
	"backup and restore": func(c *powerLoss) {
		c.open("data")
		c.write(4, 20, 200)
		var b bytes.Buffer
		if err := c.s.Backup(c.t.Context(), &b); err != nil {
			c.t.Fatal(err)
		}
		have, before := c.counts(), c.s.Revision()
		c.close()
		c.store = "restored"
		c.mark("restoring")
		for key, n := range have {
			c.mark("holds %s %d", key, n)
		}
		if err := raftstore.Restore(raftstore.Config{Dir: filepath.Join(c.dir, "restored")}, &b); err != nil {
			c.t.Fatal(err)
		}
		c.mark("restored %d", before+1)
		c.open("restored")
		c.write(4, 10, 200)
		c.close()
	},
	// Three members on one disk. One is away until the log no longer has what it lacks.
	"a snapshot is installed":         func(c *powerLoss) { c.install(nil) },
	"a snapshot is installed, sealed": func(c *powerLoss) { c.install(raftstoretest.Key()) },
	"data keys are rotated": func(c *powerLoss) {
		c.key = raftstoretest.Key()
		c.open("data")
		c.write(3, 10, 2000)
		for range 3 {
			rotated := make(chan error, 1)
			go func() { rotated <- c.s.RotateKey(c.t.Context()) }()
			c.write(3, 8, 500)
			if err := <-rotated; err != nil {
				c.t.Fatal(err)
			}
		}
		c.close()
	},
	"sealed and unsealed": func(c *powerLoss) {
		c.open("data")
		c.write(3, 8, 500)
		for range 2 {
			c.close()
			c.key = raftstoretest.Key()
			c.open("data")
			c.write(3, 4, 500)
			c.close()
			c.unseal = true
			c.open("data")
			c.unseal, c.key = false, nil
			c.write(3, 4, 500)
		}
		c.close()
	},
	// The disk fails to sync once. The node is degraded; opened again, it goes on.
	"a sync fails": func(c *powerLoss) {
		c.open("data")
		c.writeUntilDegraded(4, 300)
		c.close()
		c.open("data")
		c.write(2, 10, 300)
		c.close()
		c.open("data")
		c.write(2, 10, 300)
		if err := c.s.Check(c.t.Context()); err != nil {
			c.t.Error(err)
		}
		c.close()
	},
	// Killed while it writes, and started again: what recovery does is interrupted, too.
	"kills": func(c *powerLoss) {
		c.segBytes = 24 << 10 // segments begin all the time
		c.open("data")
		c.write(6, 1_000_000, 500)
	},
}

func (c *powerLoss) install(key raftstore.KeyProvider) {
	cluster := raftstoretest.NewCluster(c.t, raftstoretest.ClusterConfig{Configure: func(id string, cfg *raftstore.Config) {
		cfg.Dir, cfg.NoAutoCompact, cfg.KeyProvider = filepath.Join(c.dir, "cluster", id), true, key
	}})
	c.store, c.s = "cluster", cluster.Store("n1")
	c.write(3, 6, 300)
	cluster.Kill("n3")
	c.write(3, 12, 3000)
	for _, s := range cluster.Stores() {
		if err := s.CutLog(); err != nil {
			c.t.Fatal(err)
		}
	}
	c.write(3, 6, 300)
	back := cluster.Start("n3")
	if _, err := back.Range(c.t.Context(), raftstore.RangeRequest{CountOnly: true}); err != nil {
		c.t.Fatal(err)
	}
	c.write(3, 6, 300)
}

type powerLoss struct {
	t     *testing.T
	dir   string
	marks *os.File
	store string
	key   raftstore.KeyProvider
	// unseal has the next open do so.
	unseal   bool
	segBytes uint32 // of the log's files; 0: as always
	s        *raftstore.Store
	stop     func()
}

func (c *powerLoss) mark(format string, args ...any) {
	// One write: one mark, between whatever the disk does before and after.
	if _, err := fmt.Fprintf(c.marks, c.store+" "+format+"\n", args...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *powerLoss) open(store string) {
	c.store = store
	cfg := raftstore.Config{Dir: filepath.Join(c.dir, store), NoAutoCompact: true, KeyProvider: c.key, Unseal: c.unseal}
	raftstore.SetSegBytes(&cfg, c.segBytes)
	c.s, c.stop = run(c.t, cfg)
}

func (c *powerLoss) close() { c.stop() }

// counts reads which write each client's key holds.
func (c *powerLoss) counts() map[string]int {
	r, err := c.s.Range(c.t.Context(), raftstore.RangeRequest{Prefix: "/c/"})
	if err != nil {
		c.t.Fatal(err)
	}
	n := map[string]int{}
	for _, kv := range r.KVs {
		if number, _, _ := strings.Cut(string(kv.Value), " "); !strings.HasSuffix(kv.Key, "/twin") {
			n[kv.Key], _ = strconv.Atoi(number)
		}
	}
	return n
}

// writeUntilDegraded writes until the disk has failed, and looks at what the store says and does then.
func (c *powerLoss) writeUntilDegraded(clients, size int) {
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	for i := range clients {
		wg.Go(func() {
			key := fmt.Sprintf("/c/%d", i)
			for n := 1; ; n++ {
				ops := c.ops(key, n, size)
				c.mark("begin %s %d", key, n)
				r, err := c.s.Txn(ctx, raftstore.Txn{Then: ops})
				if err == nil {
					c.mark("ack %s %d %d", key, n, r.Revision)
					time.Sleep(time.Millisecond)
					continue
				}
				if !errors.Is(err, raftstore.ErrDegraded) || !errors.Is(err, syscall.EIO) {
					c.t.Errorf("write %d of %s: %v", n, key, err)
				}
				return
			}
		})
	}
	wg.Wait()
	select {
	case <-c.s.Degraded():
	default:
		c.t.Error("it is not degraded")
	}
	if _, err := c.s.Put(ctx, "/x", nil); !errors.Is(err, raftstore.ErrDegraded) || !strings.Contains(err.Error(), "the disk fails") {
		c.t.Errorf("the next write: %v", err)
	}
	if r, err := c.s.Range(ctx, raftstore.RangeRequest{Prefix: "/c/", Local: true}); err != nil || len(r.KVs) == 0 {
		c.t.Errorf("a local read: %+v, %v", r, err)
	}
}

// ops are those of a client's write n: to its key and the twin.
func (c *powerLoss) ops(key string, n, size int) (ops []raftstore.Op) {
	for _, k := range []string{key, key + "/twin"} {
		op := raftstore.Op{Type: raftstore.OpPut, Key: k, Value: fmt.Appendf(nil, "%d %s", n, bytes.Repeat([]byte{'v'}, size))}
		if n%5 == 0 {
			op = raftstore.Op{Type: raftstore.OpDelete, Key: k}
		}
		ops = append(ops, op)
	}
	return ops
}

// write has each client write its key, and the twin, some times more. Every fifth write deletes both.
func (c *powerLoss) write(clients, each, size int) {
	have := c.counts()
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			key := fmt.Sprintf("/c/%d", i)
			n := have[key]
			if n == 0 { // deleted, or never there: begin at a number that no earlier run has used
				n = int(c.s.Revision()/5) * 5
			}
			c.mark("ack %s %d 0", key, n) // what was read is not taken back either
			for range each {
				n++
				ops := c.ops(key, n, size)
				c.mark("begin %s %d", key, n)
				r, err := c.s.Txn(context.Background(), raftstore.Txn{Then: ops})
				if err != nil {
					c.t.Errorf("write %d of %s: %v", n, key, err)
					return
				}
				c.mark("ack %s %d %d", key, n, r.Revision)
			}
		})
	}
	wg.Wait()
}
