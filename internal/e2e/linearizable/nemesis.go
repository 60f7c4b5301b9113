//go:build raftstore_faults

package linearizable

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

// nemesis disturbs a cluster. What it did is undone by heal.
type nemesis struct {
	c    *raftstoretest.Cluster
	r    *rand.Rand
	dir  string
	next int // the number of the next new member

	mu     sync.Mutex
	clocks map[string]*skewed
	disks  map[string]*stalling
	down   []string
	guests []string // members that joined in this round
}

// skewed is a member's clock: the system's, some way off.
type skewed struct {
	mu  sync.Mutex
	off time.Duration
}

func (s *skewed) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.off)
}

func (s *skewed) jump(off time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = off
}

// stalling is a member's disk: every operation waits while it stalls.
type stalling struct {
	mu    sync.Mutex
	until chan struct{} // nil: it does not stall
}

func (s *stalling) stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = make(chan struct{})
	}
}

func (s *stalling) goOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until != nil {
		close(s.until)
		s.until = nil
	}
}

func (s *stalling) fault(string) error {
	s.mu.Lock()
	until := s.until
	s.mu.Unlock()
	if until != nil {
		<-until
	}
	return nil
}

// configure gives a member its clock and its disk, the same ones after each restart.
func (n *nemesis) configure(id string, cfg *raftstore.Config) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.clocks[id] == nil {
		n.clocks[id], n.disks[id] = &skewed{}, &stalling{}
	}
	cfg.Clock = n.clocks[id]
	cfg.RemoveDeadAfter = -1
	raftstore.SetFault(cfg, n.disks[id].fault)
}

// actions are what can happen in a round. heal undoes them. Those that return an error have found
// something wrong.
var actions = map[string]func(context.Context, *nemesis) error{
	"peace":              func(context.Context, *nemesis) error { return nil },
	"partition":          partition,
	"isolate the leader": isolateLeader,
	"cut one way":        cutOneWay,
	"slow network": func(_ context.Context, n *nemesis) error {
		n.c.Net.Delay(time.Duration(1+n.r.IntN(30)) * time.Millisecond)
		return nil
	},
	"kill the leader":  killLeader,
	"kill a minority":  killMinority,
	"kill and restart": killAndRestart,
	"stop in order":    stopInOrder,
	"pause":            pause,
	"hand over":        handOver,
	"clocks jump":      clocksJump,
	"disk stalls":      diskStalls,
	"join and leave":   joinAndLeave,
	"compaction":       compaction,
	"snapshots":        snapshots,
	"lag":              lag,
	"backup":           backup,
}

// actionNames are sorted, so that a seed means the same each time.
func actionNames() []string { return slices.Sorted(maps.Keys(actions)) }

func (n *nemesis) shuffled() []string {
	ids := n.c.IDs()
	n.r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}

// leader is who leads just now; "" if nobody does.
func (n *nemesis) leader() string {
	for _, id := range n.c.IDs() {
		if s := n.c.Store(id); s != nil && s.Term() != 0 {
			return id
		}
	}
	return ""
}

func (n *nemesis) anyStore() *raftstore.Store {
	ids := n.shuffled()
	return n.c.Store(ids[0])
}

func addresses(ids []string) []string {
	var as []string
	for _, id := range ids {
		as = append(as, raftstoretest.Address(id))
	}
	return as
}

func partition(_ context.Context, n *nemesis) error {
	ids := n.shuffled()
	cut := 1 + n.r.IntN(len(ids)-1)
	n.c.Net.Partition(addresses(ids[:cut]), addresses(ids[cut:]))
	return nil
}

func isolateLeader(_ context.Context, n *nemesis) error {
	if id := n.leader(); id != "" {
		n.c.Net.Isolate(raftstoretest.Address(id))
	}
	return nil
}

func cutOneWay(_ context.Context, n *nemesis) error {
	from := raftstoretest.Address(n.shuffled()[0])
	if id := n.leader(); id != "" && n.r.IntN(2) == 0 {
		from = raftstoretest.Address(id)
	}
	for _, to := range addresses(n.shuffled())[:1+n.r.IntN(2)] {
		if to == from {
			continue
		}
		if n.r.IntN(2) == 0 {
			n.c.Net.Cut(from, to)
		} else {
			n.c.Net.Cut(to, from)
		}
	}
	return nil
}

func (n *nemesis) kill(id string) {
	n.disks[id].goOn()
	n.c.Kill(id)
	n.down = append(n.down, id)
}

func killLeader(_ context.Context, n *nemesis) error {
	if id := n.leader(); id != "" {
		n.kill(id)
	}
	return nil
}

func killMinority(_ context.Context, n *nemesis) error {
	ids := n.shuffled()
	for _, id := range ids[:1+n.r.IntN((len(ids)-1)/2)] {
		n.kill(id)
	}
	return nil
}

func killAndRestart(ctx context.Context, n *nemesis) error {
	for range 2 {
		id := n.shuffled()[0]
		n.c.Kill(id)
		sleep(ctx, time.Duration(n.r.IntN(100))*time.Millisecond)
		n.c.Start(id)
		sleep(ctx, time.Duration(n.r.IntN(200))*time.Millisecond)
	}
	return nil
}

func stopInOrder(_ context.Context, n *nemesis) error {
	id := n.shuffled()[0]
	if leader := n.leader(); leader != "" {
		id = leader
	}
	n.c.Stop(id)
	n.down = append(n.down, id)
	return nil
}

// pause: a member does nothing for a while, and goes on as if nothing had been.
func pause(ctx context.Context, n *nemesis) error {
	id := n.leader()
	if id == "" || n.r.IntN(3) == 0 {
		id = n.shuffled()[0]
	}
	n.c.Net.Isolate(raftstoretest.Address(id))
	n.disks[id].stall()
	sleep(ctx, time.Duration(300+n.r.IntN(1200))*time.Millisecond)
	n.disks[id].goOn()
	n.c.Net.Heal()
	return nil
}

func handOver(ctx context.Context, n *nemesis) error {
	_ = n.anyStore().HandOver(ctx, "") // it need not succeed
	return nil
}

func clocksJump(_ context.Context, n *nemesis) error {
	for _, id := range n.c.IDs() {
		off := []time.Duration{0, 10 * 365 * 24 * time.Hour, -10 * 365 * 24 * time.Hour, time.Hour, -time.Minute}[n.r.IntN(5)]
		n.clocks[id].jump(off)
	}
	return nil
}

func diskStalls(ctx context.Context, n *nemesis) error {
	for range 3 {
		id := n.shuffled()[0]
		n.disks[id].stall()
		sleep(ctx, time.Duration(n.r.IntN(400))*time.Millisecond)
		n.disks[id].goOn()
	}
	return nil
}

// joinAndLeave: a new member gets the state as a snapshot where the log no longer begins at 1.
func joinAndLeave(_ context.Context, n *nemesis) error {
	n.c.Net.Heal() // it waits until the member has joined
	n.next++
	id := fmt.Sprintf("g%d", n.next)
	n.c.Join(id)
	n.guests = append(n.guests, id)
	return nil
}

func compaction(ctx context.Context, n *nemesis) error {
	for range 3 {
		s := n.anyStore()
		if rev := s.Revision() - 200; rev > s.CompactedRevision() {
			_ = s.Compact(ctx, rev) // another member may have compacted more
		}
		sleep(ctx, 50*time.Millisecond)
	}
	return nil
}

func snapshots(_ context.Context, n *nemesis) error {
	for _, s := range n.c.Stores() {
		_ = raftstore.Snapshot(s) // nothing new to snapshot is an error, too
	}
	return nil
}

// lag: a member is away until the others have cut what it lacks from their logs. It is sent a snapshot
// when it is back.
func lag(ctx context.Context, n *nemesis) error {
	n.kill(n.shuffled()[0])
	sleep(ctx, 200*time.Millisecond)
	return snapshots(ctx, n)
}

// backup makes a backup under load, restores it, and looks at what it holds.
func backup(ctx context.Context, n *nemesis) error {
	s := n.anyStore()
	before := s.Revision()
	var b bytes.Buffer
	if err := s.Backup(ctx, &b); err != nil {
		return nil // the member may have been stopped, or have lost its leader
	}
	dir := filepath.Join(n.dir, "restored")
	defer func() { _ = os.RemoveAll(dir) }()
	cfg := raftstore.Config{Dir: dir}
	if err := raftstore.Restore(cfg, &b); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	r, err := raftstore.Open(cfg)
	if err != nil {
		return fmt.Errorf("open what was restored: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(context.WithoutCancel(ctx)) }()
	defer func() { _ = r.Close(); <-done }()
	<-r.Ready()
	if err := r.Check(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("check what was restored: %w", err)
	}
	if r.Revision() <= before {
		return fmt.Errorf("restored to revision %d, it was at %d", r.Revision(), before)
	}
	return nil
}

// heal undoes everything, and sends guests away.
func (n *nemesis) heal(ctx context.Context) error {
	n.c.Net.Heal()
	n.c.Net.Delay(0)
	for id := range n.clocks {
		n.clocks[id].jump(0)
		n.disks[id].goOn()
	}
	for _, id := range n.down {
		n.c.Start(id)
	}
	n.down = nil
	for _, id := range n.guests {
		var err error
		for { // it may lead, and then hands over first
			for _, s := range n.c.Stores() {
				if s == n.c.Store(id) {
					continue
				}
				once, cancel := context.WithTimeout(ctx, 5*time.Second)
				err = s.RemoveMember(once, id)
				cancel()
				break
			}
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("remove %s: %w", id, err)
			}
			sleep(ctx, 50*time.Millisecond)
		}
		n.c.Kill(id)
	}
	n.guests = nil
	return nil
}
