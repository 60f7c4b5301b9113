package powerloss

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pintle/pintle/raftstore/raftstoretest"
)

func TestMain(m *testing.M) {
	if _, err := os.Stat("/dev/shm"); err == nil {
		_ = os.Setenv("TMPDIR", "/dev/shm") // the folders are rebuilt thousands of times
	}
	os.Exit(m.Run())
}

// workload is a script of raftstore's tests, and how much its cut points count.
type workload struct {
	script string
	weight int
	kills  int // the child is killed after so many marks
	open   opener
	// renames is a file that must be replaced in it, else the script did not do what it is for.
	renames string
}

// Each subsystem that writes is an entry here.
var workloads = []workload{
	{script: "first start", weight: 3, open: single},
	{script: "writes and flushes", weight: 4, open: single},
	{script: "many small writes at once", weight: 2, open: single},
	{script: "snapshots cut the log", weight: 2, open: single, renames: "snapshot"},
	{script: "segments are written over", weight: 3, open: single},
	{script: "segments are made ahead", weight: 3, open: single},
	{script: "compaction and leases", weight: 3, open: single},
	{script: "backup and restore", weight: 3, open: single},
	{script: "kills", weight: 3, kills: 250, open: single},
	{script: "a snapshot is installed", weight: 1, open: cluster(nil), renames: "state.db"},
	{script: "a snapshot is installed, sealed", weight: 1, open: cluster(raftstoretest.Key()), renames: "state.db"},
	{script: "data keys are rotated", weight: 3, open: sealed, renames: "KEYS"},
	{script: "sealed and unsealed", weight: 3, open: sealed, renames: "state.db"},
}

// renamed is where the file is replaced for the first time; -1: nowhere.
func (w *workload) renamed(rec recording) int {
	return slices.IndexFunc(rec, func(o op) bool { return o.kind == move && o.newName == w.renames })
}

func long() bool { return os.Getenv("PINTLE_LONG") != "" }

func TestNothingAcknowledgedIsLostWhenPowerFails(t *testing.T) {
	cuts := 80 // for each unit of weight
	if long() {
		cuts = 400
	}
	total, losses := 0, 0
	for _, w := range workloads {
		t.Run(strings.ReplaceAll(w.script, " ", "-"), func(t *testing.T) {
			rec := recorded(t, w)
			if w.renames != "" && w.renamed(rec) < 0 {
				t.Fatalf("%s was never replaced", w.renames)
			}
			c := cutter{rec: rec, open: w.open, seed: 1}
			found := c.cut(t.Context(), t.TempDir(), cuts*w.weight)
			for i, err := range found {
				if i < 5 {
					t.Error(err)
				}
			}
			t.Logf("%d operations recorded, %d cut points, %d losses", len(rec), cuts*w.weight, len(found))
			total, losses = total+cuts*w.weight, losses+len(found)
		})
	}
	fmt.Printf("power loss: %d cut points, %d losses\n", total, losses)
}

// recordings are made once, for all tests.
var recordings = map[string]recording{}

func recorded(t *testing.T, w workload) recording {
	t.Helper()
	if recordings[w.script] == nil {
		recordings[w.script] = record(t, buildChild(t, ""), w.script, w.kills)
	}
	return recordings[w.script]
}

// cutter cuts the power at places all over a recording.
type cutter struct {
	rec    recording
	open   opener
	deaf   func(kind kind, path string) bool
	seed   uint64
	enough int // stop at so many losses; 0: never
	// overlook, when set, says which errors are no losses.
	overlook func(error) bool
	// from and to are where the places begin and end; to 0: with the recording.
	from, to int
}

// cut rebuilds the folder n times below tmp and returns what was lost.
func (c *cutter) cut(ctx context.Context, tmp string, n int) (losses []error) {
	const workers = 12 // they mostly wait for elections
	to := c.to
	if to == 0 {
		to = len(c.rec)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(c.seed, uint64(w)))
			p, promised := newPlatter(c.deaf), all{}
			// This worker's places, each with a fate of its own: n in all, spread over the recording.
			for i := w; i < n && ctx.Err() == nil; i += workers {
				for place := c.from + i*(to-c.from)/n; p.at <= place; {
					if o := c.rec[p.at]; o.kind == mark {
						if err := promised.note(o.text); err != nil {
							panic(err)
						}
					}
					p.play(c.rec[p.at])
				}
				dir := filepath.Join(tmp, fmt.Sprint(i))
				err := c.once(ctx, dir, p, promised, fateNumber(r, p, i/workers+w))
				mu.Lock()
				if err != nil && ctx.Err() == nil && (c.overlook == nil || !c.overlook(err)) {
					losses = append(losses, fmt.Errorf("after operation %d of %d: %w", p.at, len(c.rec), err))
				}
				if c.enough > 0 && len(losses) >= c.enough {
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return losses
}

func (c *cutter) once(ctx context.Context, dir string, p *platter, promised all, f fate) error {
	defer func() { _ = os.RemoveAll(dir) }()
	if err := p.rebuild(dir, f); err != nil {
		return err
	}
	if err := promised.verify(ctx, dir, c.open); err != nil {
		return fmt.Errorf("%+v: %w", f, err)
	}
	return nil
}
