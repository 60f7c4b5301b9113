package orchestratortest

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/orchestrator"
)

// Members is a control plane of several members in this process, each with a TLS port on loopback and a data
// folder of its own. Its methods may be called at the same time, but not Stop and Start of the same member.
type Members struct {
	t      testing.TB
	dir    string
	change []func(member string, cfg *orchestrator.Config)

	mu    sync.Mutex // guards what follows
	token string
	all   map[string]*member
}

type member struct {
	*Cluster
	address string // kept over restarts
	wire    *wire
	cancel  context.CancelFunc
	ended   chan error
	killed  bool // and may not have ended yet
}

// StartMembers returns a control plane of n members "m1", "m2", … that are all voters. It ends with the test.
func StartMembers(t testing.TB, n int, change ...func(member string, cfg *orchestrator.Config)) *Members {
	t.Helper()
	m := &Members{t: t, dir: t.TempDir(), change: change, all: map[string]*member{}}
	t.Cleanup(func() {
		for i := range n {
			m.Stop(m.Name(i))
		}
		for name, one := range m.all {
			if one.killed {
				m.bury(name, one)
			}
		}
	})
	for i := range n {
		m.Start(m.Name(i))
	}
	m.WaitVoters(n)
	return m
}

// Name is the name of the member i, counted from 0.
func (m *Members) Name(i int) string { return fmt.Sprintf("m%d", i+1) }

// Get is a member that runs.
func (m *Members) Get(name string) *Cluster {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all[name] == nil || m.all[name].Cluster == nil {
		m.t.Fatalf("orchestratortest: member %s does not run", name)
	}
	return m.all[name].Cluster
}

// Running are the members that run.
func (m *Members) Running() (all []*Cluster) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.all {
		if one.Cluster != nil {
			all = append(all, one.Cluster)
		}
	}
	return all
}

// Start starts a member that does not run, a new one or one that was stopped, and waits until it is of use.
func (m *Members) Start(name string) *Cluster {
	m.t.Helper()
	m.mu.Lock()
	one := m.all[name]
	if one == nil {
		one = &member{address: "127.0.0.1:0"}
		m.all[name] = one
	}
	join, token := m.join(name)
	killed := one.killed
	m.mu.Unlock()
	if killed {
		m.bury(name, one)
	}
	listener, err := net.Listen("tcp", one.address)
	if err != nil {
		m.t.Fatalf("orchestratortest: %v", err)
	}
	w := &wire{listener: listener}
	cfg := orchestrator.Config{Name: "test", Member: name, DataDir: filepath.Join(m.dir, name), Listener: wiredListener{listener, w}, DialMember: w.dial}
	if len(join) > 0 {
		cfg.Join = &orchestrator.Join{Addresses: join, Token: token}
	}
	for _, change := range m.change {
		change(name, &cfg)
	}
	o, err := orchestrator.New(cfg)
	if err != nil {
		m.t.Fatalf("orchestratortest: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	select {
	case <-o.Ready():
	case err := <-ended:
		cancel()
		m.t.Fatalf("orchestratortest: member %s did not start: %v", name, err)
	case <-time.After(startTimeout):
		cancel()
		m.t.Fatalf("orchestratortest: member %s is not ready after %v", name, startTimeout)
	}
	client, err := kubernetes.NewForConfig(o.RESTConfig())
	if err != nil {
		cancel()
		m.t.Fatalf("orchestratortest: %v", err)
	}
	c := &Cluster{Orchestrator: o, Client: client}
	m.mu.Lock()
	defer m.mu.Unlock()
	one.Cluster, one.cancel, one.ended, one.address, one.wire = c, cancel, ended, o.Addr().String(), w
	return c
}

// join is what a member needs to find the others; nothing for the first.
func (m *Members) join(name string) (addresses []string, token string) {
	for other, one := range m.all {
		if other == name || one.Cluster == nil {
			continue
		}
		addresses = append(addresses, one.address)
		if m.token == "" {
			ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
			token, err := one.JoinToken(ctx, orchestrator.RoleMember, 0)
			cancel()
			if err != nil {
				m.t.Fatalf("orchestratortest: %v", err)
			}
			m.token = token
		}
	}
	return addresses, m.token
}

// Stop ends a member in an orderly way; nothing happens if it does not run.
func (m *Members) Stop(name string) {
	m.t.Helper()
	m.mu.Lock()
	one := m.all[name]
	if one == nil || one.Cluster == nil {
		m.mu.Unlock()
		return
	}
	one.Cluster = nil
	m.mu.Unlock()
	one.cancel()
	m.await(name, one)
}

// Kill takes a member from the others as if its process had been killed: its connections break, nobody reaches it
// any more, and it hands nothing over. Start brings it back, on what its data folder holds. Nothing happens if it
// does not run.
func (m *Members) Kill(name string) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	one := m.all[name]
	if one == nil || one.Cluster == nil {
		return
	}
	one.wire.kill()
	one.cancel()
	one.Cluster, one.killed = nil, true
}

// bury waits until a member that was killed has ended here.
func (m *Members) bury(name string, one *member) {
	m.t.Helper()
	m.await(name, one)
	m.mu.Lock()
	defer m.mu.Unlock()
	one.killed = false
}

func (m *Members) await(name string, one *member) {
	m.t.Helper()
	select {
	case err := <-one.ended:
		if err != nil && !one.killed {
			m.t.Errorf("orchestratortest: member %s ended with %v", name, err)
		}
	case <-time.After(startTimeout):
		m.t.Fatalf("orchestratortest: member %s has not ended after %v", name, startTimeout)
	}
}

// WaitVoters waits until n members vote and one of them leads.
func (m *Members) WaitVoters(n int) {
	m.t.Helper()
	m.wait(fmt.Sprintf("%d voters and a leader", n), func(ctx context.Context, c *Cluster) bool {
		members, err := c.Members(ctx)
		voters, leaders := 0, 0
		for _, one := range members {
			if one.Voter {
				voters++
			}
			if one.Leader {
				leaders++
			}
		}
		return err == nil && voters == n && leaders == 1
	})
}

// Leader waits until a member that runs leads, and names it.
func (m *Members) Leader() (name string) {
	m.t.Helper()
	m.wait("a leader", func(ctx context.Context, c *Cluster) bool {
		members, err := c.Members(ctx)
		if err != nil {
			return false
		}
		for _, one := range members {
			if one.Leader {
				name = one.ID
				return true
			}
		}
		return false
	})
	return name
}

func (m *Members) wait(what string, ok func(context.Context, *Cluster) bool) {
	m.t.Helper()
	for end := time.Now().Add(startTimeout); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, c := range m.Running() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			found := ok(ctx, c)
			cancel()
			if found {
				return
			}
		}
	}
	m.t.Fatalf("orchestratortest: after %v there is still not: %s", startTimeout, what)
}
