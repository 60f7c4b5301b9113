package raftstoretest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pintle/pintle/raftstore"
)

// ClusterConfig says what NewCluster starts.
type ClusterConfig struct {
	// Members is how many; 0 is 3.
	Members int
	// Memory keeps everything in memory: a member that is killed forgets all, and must not come back.
	Memory bool
	// KeyProvider seals the folder of every member; nil: none, or Key where the environment has
	// PINTLE_SEALED.
	KeyProvider raftstore.KeyProvider
	// Configure changes the configuration of a member, each time before it is opened; nil: nothing.
	Configure func(id string, c *raftstore.Config)
}

// Cluster is a store on several members in this process, on a Net. Its methods may be called at the
// same time, but Kill, Stop and Start of the same member may not.
type Cluster struct {
	Net *Net

	t   testing.TB
	cfg ClusterConfig
	dir string

	mu      sync.Mutex
	members map[string]*clusterMember
}

type clusterMember struct {
	store  *raftstore.Store
	net    raftstore.Network
	cancel context.CancelFunc
	done   chan error
}

// settle is how long the helper waits for anything; it is only a bound for tests that hang.
const settle = 60 * time.Second

// NewCluster starts the members "n1", "n2", … and returns when all of them are voters. They stop when
// the test ends.
func NewCluster(t testing.TB, cfg ClusterConfig) *Cluster {
	t.Helper()
	if cfg.Members == 0 {
		cfg.Members = 3
	}
	if cfg.KeyProvider == nil && os.Getenv("PINTLE_SEALED") != "" {
		cfg.KeyProvider = Key()
	}
	c := &Cluster{Net: NewNet(), t: t, cfg: cfg, dir: t.TempDir(), members: map[string]*clusterMember{}}
	t.Cleanup(c.stopAll)
	for i := range cfg.Members {
		c.Join(fmt.Sprintf("n%d", i+1))
	}
	return c
}

// Address is where the others dial a member.
func Address(id string) string { return id + ":1" }

// Join starts a new member, adds it, and waits until it is a voter. The first starts the store.
func (c *Cluster) Join(id string) {
	c.t.Helper()
	first := len(c.IDs()) == 0
	s := c.start(id, !first)
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	if first {
		c.await(ctx, s)
		return
	}
	for _, other := range c.IDs() {
		if other != id {
			if err := c.Store(other).AddMember(ctx, id, Address(id)); err != nil {
				c.t.Fatalf("add %s: %v", id, err)
			}
			break
		}
	}
	c.await(ctx, s)
	if err := s.PromoteMember(ctx, id); err != nil { // it would come by itself, a second later
		c.t.Fatalf("promote %s: %v", id, err)
	}
}

func (c *Cluster) await(ctx context.Context, s *raftstore.Store) {
	c.t.Helper()
	select {
	case <-s.Ready():
	case <-ctx.Done():
		c.t.Fatal("a member is not ready")
	}
}

// StartJoining starts a new member and leaves it to the caller to add it.
func (c *Cluster) StartJoining(id string) *raftstore.Store {
	c.t.Helper()
	return c.start(id, true)
}

// Config is what a member is opened with; its Network is a new host.
func (c *Cluster) Config(id string) raftstore.Config {
	cfg := raftstore.Config{NodeID: id, Network: c.Net.Host(Address(id)), Address: Address(id)}
	if !c.cfg.Memory {
		cfg.Dir, cfg.KeyProvider = filepath.Join(c.dir, id), c.cfg.KeyProvider
	}
	if c.cfg.Configure != nil {
		c.cfg.Configure(id, &cfg)
	}
	return cfg
}

// start opens and runs a member.
func (c *Cluster) start(id string, join bool) *raftstore.Store {
	c.t.Helper()
	cfg := c.Config(id)
	cfg.Join = join
	s, err := raftstore.Open(cfg)
	if err != nil {
		c.t.Fatalf("open %s: %v", id, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &clusterMember{store: s, net: cfg.Network, cancel: cancel, done: make(chan error, 1)}
	go func() { m.done <- s.Run(ctx) }()
	c.mu.Lock()
	c.members[id] = m
	c.mu.Unlock()
	return s
}

// IDs returns the members that run, sorted.
func (c *Cluster) IDs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []string
	for id := range c.members {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Store returns a member that runs; nil if it does not.
func (c *Cluster) Store(id string) *raftstore.Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.members[id]; m != nil {
		return m.store
	}
	return nil
}

// Stores returns the members that run, by ID.
func (c *Cluster) Stores() []*raftstore.Store {
	var all []*raftstore.Store
	for _, id := range c.IDs() {
		if s := c.Store(id); s != nil {
			all = append(all, s)
		}
	}
	return all
}

// Leader waits until a member leads, and returns it.
func (c *Cluster) Leader() (id string, s *raftstore.Store) {
	c.t.Helper()
	return c.LeaderOtherThan("")
}

// LeaderOtherThan waits until another member than the one given leads.
func (c *Cluster) LeaderOtherThan(not string) (id string, s *raftstore.Store) {
	c.t.Helper()
	for end := time.Now().Add(settle); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, id := range c.IDs() {
			if s := c.Store(id); id != not && s != nil && s.Term() != 0 {
				return id, s
			}
		}
	}
	c.t.Fatal("nobody leads")
	return "", nil
}

// Follower returns a member that does not lead.
func (c *Cluster) Follower() (id string, s *raftstore.Store) {
	c.t.Helper()
	leader, _ := c.Leader()
	for _, id := range c.IDs() {
		if id != leader {
			return id, c.Store(id)
		}
	}
	c.t.Fatal("there is no follower")
	return "", nil
}

// AwaitMembers waits until what Members says is as wanted.
func (c *Cluster) AwaitMembers(want func([]raftstore.Member) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	var last []raftstore.Member
	for ctx.Err() == nil {
		for _, s := range c.Stores() {
			once, done := context.WithTimeout(ctx, 2*time.Second)
			ms, err := s.Members(once)
			done()
			if err == nil {
				if last = ms; want(ms) {
					return
				}
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.t.Fatalf("the members are not as wanted: %+v", last)
}

// AwaitHealthy waits until n voters are healthy.
func (c *Cluster) AwaitHealthy(n int) {
	c.t.Helper()
	c.AwaitMembers(func(ms []raftstore.Member) bool {
		healthy := 0
		for _, m := range ms {
			if m.Voter && m.Healthy {
				healthy++
			}
		}
		return healthy >= n
	})
}

// Kill ends a member at once: its connections break, and nothing is handed over.
func (c *Cluster) Kill(id string) {
	c.t.Helper()
	m := c.take(id)
	_ = m.net.Close()
	c.closed(id, m)
}

// Stop ends a member in order: it hands its leadership over first.
func (c *Cluster) Stop(id string) {
	c.t.Helper()
	m := c.take(id)
	m.cancel()
	if err := <-m.done; err != nil && m.store.Err() == nil {
		c.t.Errorf("run %s: %v", id, err)
	}
	m.done <- nil
	c.closed(id, m)
}

func (c *Cluster) take(id string) *clusterMember {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.members[id]
	if m == nil {
		c.t.Fatalf("%s does not run", id)
	}
	delete(c.members, id)
	return m
}

func (c *Cluster) closed(id string, m *clusterMember) {
	c.t.Helper()
	if err := m.store.Close(); err != nil {
		c.t.Errorf("close %s: %v", id, err)
	}
	if err := <-m.done; err != nil && m.store.Err() == nil && !errors.Is(err, raftstore.ErrClosed) {
		c.t.Errorf("run %s: %v", id, err)
	}
	m.cancel()
}

// Start starts a member again on its folder. It does not wait until it is ready.
func (c *Cluster) Start(id string) *raftstore.Store {
	c.t.Helper()
	return c.start(id, false)
}

func (c *Cluster) stopAll() {
	c.Net.Heal()
	for _, id := range c.IDs() {
		c.Kill(id)
	}
}
