//go:build raftstore_faults

package linearizable

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

func TestMain(m *testing.M) {
	if _, err := os.Stat("/dev/shm"); err == nil {
		_ = os.Setenv("TMPDIR", "/dev/shm") // nothing here is about how fast a disk is
	}
	os.Exit(m.Run())
}

const (
	registers = 8 // in each round: each is a history of its own
	perReg    = 3 // clients
)

// duration is how long each cluster is tested: PINTLE_LONG is the seconds of the long run.
func duration(sample time.Duration) time.Duration {
	if s, err := strconv.Atoi(os.Getenv("PINTLE_LONG")); err == nil {
		return time.Duration(s) * time.Second
	}
	return sample
}

func TestHistoriesOfThreeMembersAreLinearizable(t *testing.T) { linearizable(t, 3) }
func TestHistoriesOfFiveMembersAreLinearizable(t *testing.T)  { linearizable(t, 5) }

func linearizable(t *testing.T, members int) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PINTLE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	tr := newTrial(t, members, seed)
	until := time.Now().Add(duration(30 * time.Second))
	histories, operations, acts := 0, 0, map[string]int{}
	for round := 0; time.Now().Before(until); round++ {
		h, names, problems := tr.round(round)
		for _, n := range names {
			acts[n]++
		}
		for _, ops := range h.ops {
			histories++
			operations += len(ops)
		}
		if len(problems) > 0 {
			for _, p := range problems[:min(len(problems), 5)] {
				t.Error(p)
			}
			t.Fatalf("round %d of %v, seed %d", round, names, seed)
		}
	}
	fmt.Printf("linearizability: %d members, %d histories of %d operations, %d revisions, %s, 0 violations; %v\n",
		members, histories, operations, tr.revision, tr.l.summary(), acts)
}

// trial is one cluster with its nemesis and its watchers.
type trial struct {
	t        *testing.T
	c        *raftstoretest.Cluster
	n        *nemesis
	l        *ledger
	r        *rand.Rand
	values   atomic.Int64
	began    time.Time
	revision int64
	members  []string
	deck     []string // actions that are still to come
}

func newTrial(t *testing.T, members int, seed uint64) *trial {
	tr := &trial{t: t, l: newLedger(), r: rand.New(rand.NewPCG(seed, 1)), began: time.Now()}
	tr.n = &nemesis{r: rand.New(rand.NewPCG(seed, 2)), clocks: map[string]*skewed{}, disks: map[string]*stalling{}, dir: t.TempDir()}
	tr.c = raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Members: members, Configure: tr.n.configure})
	tr.n.c, tr.members = tr.c, tr.c.IDs()
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	for _, id := range tr.members {
		current := func() *raftstore.Store { return tr.c.Store(id) }
		watching.Go(func() { tr.l.follow(ctx, id, 0, current) })
		watching.Go(func() { fencedWrites(ctx, current) })
	}
	t.Cleanup(func() { cancel(); watching.Wait() }) // before the cluster stops
	return tr
}

// round runs clients while the nemesis acts, heals, and returns what is wrong.
func (tr *trial) round(number int) (h *history, names []string, problems []error) {
	h = &history{ops: map[string][]operation{}}
	for range 1 + tr.r.IntN(2) {
		if len(tr.deck) == 0 { // each action has its turn
			tr.deck = actionNames()
			tr.r.Shuffle(len(tr.deck), func(i, j int) { tr.deck[i], tr.deck[j] = tr.deck[j], tr.deck[i] })
		}
		names, tr.deck = append(names, tr.deck[0]), tr.deck[1:]
	}
	length := time.Duration(300+tr.r.IntN(500)) * time.Millisecond
	ctx, end := context.WithTimeout(context.Background(), length)
	defer end()
	var clients sync.WaitGroup
	for i := range registers * perReg {
		c := &client{register: fmt.Sprintf("r/%d/%d/", number, i/perReg), members: tr.c.IDs, store: tr.c.Store, values: &tr.values, began: tr.began, h: h,
			r: rand.New(rand.NewPCG(tr.r.Uint64(), 3))}
		clients.Go(func() { c.run(ctx) })
	}
	acting, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	for _, name := range names {
		sleep(ctx, time.Duration(tr.r.IntN(150))*time.Millisecond)
		if len(tr.n.down) > 0 {
			if err := tr.n.heal(acting); err != nil { // a majority is to be there
				problems = append(problems, err)
			}
		}
		once, done := context.WithTimeout(acting, 2*time.Second) // who is cut off may wait in vain
		err := actions[name](once, tr.n)
		done()
		if err != nil {
			problems = append(problems, err)
		}
	}
	<-ctx.Done()
	healed := make(chan struct{})
	go func() { // while clients still wait for what they began
		defer close(healed)
		if err := tr.n.heal(acting); err != nil {
			problems = append(problems, err)
		}
	}()
	<-healed
	clients.Wait()
	judging, done := context.WithTimeout(context.Background(), time.Minute)
	defer done()
	return h, names, append(problems, tr.judge(judging, h)...)
}

func (tr *trial) judge(ctx context.Context, h *history) (problems []error) {
	var rev int64
	for _, id := range tr.members {
		s := tr.c.Store(id)
		r, err := s.Range(ctx, raftstore.RangeRequest{CountOnly: true})
		if err != nil {
			return append(problems, fmt.Errorf("%s does not come back: %w", id, err))
		}
		if r.Revision < rev {
			problems = append(problems, fmt.Errorf("%s is at revision %d after another was at %d", id, r.Revision, rev))
		}
		rev = max(rev, r.Revision)
	}
	tr.revision = rev
	if err := tr.l.await(ctx, tr.members, rev); err != nil {
		problems = append(problems, err)
	}
	for register, ops := range h.ops {
		if result := check(ops); result != porcupine.Ok {
			problems = append(problems, fmt.Errorf("the history of %s is not linearizable (%s):\n%s", register, result, byCall(ops)))
		}
	}
	problems = append(problems, tr.l.audit(h)...)
	problems = append(problems, tr.l.drain()...)
	if tr.r.IntN(10) == 0 {
		for _, id := range tr.members {
			if err := tr.c.Store(id).Check(ctx); err != nil {
				problems = append(problems, fmt.Errorf("check %s: %w", id, err))
			}
		}
	}
	return problems
}

func byCall(ops []operation) string {
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b operation) int { return int(a.call - b.call) })
	var lines strings.Builder
	for _, o := range ops {
		fmt.Fprintln(&lines, o)
	}
	return lines.String()
}
