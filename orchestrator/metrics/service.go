package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/clock"
)

// Config says where a Service looks. Nodes, Pods and Dial are required.
type Config struct {
	// Nodes and Pods list what there is, of one namespace or, with "", of all; a nil selector matches everything. What
	// they return is not changed.
	Nodes func(ctx context.Context, selector labels.Selector) ([]*corev1.Node, error)
	Pods  func(ctx context.Context, namespace string, selector labels.Selector) ([]*corev1.Pod, error)
	// Dial connects to the agent of a node, which speaks HTTP/1.1.
	Dial func(ctx context.Context, node string) (net.Conn, error)

	Custom   Custom   // nil: none beside what is built in
	External External // nil: none

	Resolution time.Duration    // between two readings of a node; 0: 5 s
	Logger     *slog.Logger     // nil discards
	Clock      clock.WithTicker // nil: the machine's
}

// DefaultResolution is how often a node is read where Config says nothing.
const DefaultResolution = 5 * time.Second

const (
	firstWindow  = time.Second      // between the two readings that a sleeping Service makes first
	linger       = 2 * time.Minute  // how long it gathers after the last question
	nodePatience = 10 * time.Second // for one node's answer
)

// Service gathers and answers. Make it with New.
type Service struct {
	cfg   Config
	nodes *nodes
	wake  chan struct{} // has one when somebody asks

	mu      sync.Mutex // guards the rest
	asked   time.Time
	warm    chan struct{} // closed once there are two readings; another one after each sleep
	history map[string]history
	busy    map[string]bool // nodes that are being asked
	devices map[string]deviceReading
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Nodes == nil || cfg.Pods == nil || cfg.Dial == nil {
		return nil, errors.New("metrics: Config.Nodes, Pods and Dial are required")
	}
	if cfg.Resolution <= 0 {
		cfg.Resolution = DefaultResolution
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	return &Service{cfg: cfg, nodes: newNodes(cfg.Dial), wake: make(chan struct{}, 1), warm: make(chan struct{}),
		history: map[string]history{}, busy: map[string]bool{}, devices: map[string]deviceReading{}}, nil
}

// Run gathers while somebody asks, until ctx ends and all that it started has ended. It returns nil then.
func (s *Service) Run(ctx context.Context) error {
	var asking sync.WaitGroup
	defer asking.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		s.gather(ctx, &asking)
	}
}

// gather reads all nodes again and again until nobody has asked for a while.
func (s *Service) gather(ctx context.Context, asking *sync.WaitGroup) {
	defer s.sleep()
	pause := min(firstWindow, s.cfg.Resolution)
	for first := true; ; first = false {
		s.readAll(ctx, asking)
		if !first {
			s.setWarm()
			pause = s.cfg.Resolution
		}
		timer := s.cfg.Clock.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		}
		if s.unasked() {
			return
		}
	}
}

// ask says that somebody wants to know, and waits until there is something to tell.
func (s *Service) ask(ctx context.Context) error {
	s.mu.Lock()
	s.asked = s.cfg.Clock.Now()
	warm := s.warm
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	select {
	case <-warm:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Service) setWarm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.warm:
	default:
		close(s.warm)
	}
}

func (s *Service) unasked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg.Clock.Since(s.asked) > linger
}

// sleep forgets: what is old by the next question would be taken for a rate over hours.
func (s *Service) sleep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.warm:
		s.warm = make(chan struct{})
	default:
	}
	clear(s.history)
	select { // a question that this gathering has answered
	case <-s.wake:
	default:
	}
	if s.cfg.Clock.Since(s.asked) <= linger { // somebody asked in this moment
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// readAll asks every node at the same time, and goes on without those that take longer than a resolution.
func (s *Service) readAll(ctx context.Context, asking *sync.WaitGroup) {
	all, err := s.cfg.Nodes(ctx, nil)
	if err != nil {
		s.cfg.Logger.Warn("nodes are not listed", "error", err)
		return
	}
	var round sync.WaitGroup
	there := make(map[string]bool, len(all))
	for _, n := range all {
		there[n.Name] = true
		if !s.begin(n.Name) {
			continue
		}
		round.Add(1)
		asking.Go(func() {
			defer round.Done()
			s.read(ctx, n.Name)
		})
	}
	s.forget(there)
	done := make(chan struct{})
	asking.Go(func() {
		round.Wait()
		close(done)
	})
	timer := s.cfg.Clock.NewTimer(s.cfg.Resolution)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C():
	case <-ctx.Done():
	}
}

func (s *Service) begin(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[node] {
		return false
	}
	s.busy[node] = true
	return true
}

func (s *Service) read(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, nodePatience)
	defer cancel()
	got, err := s.nodes.summary(ctx, node)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, node)
	if err != nil {
		s.cfg.Logger.Debug("a node doesn't say what it uses", "node", node, "error", err)
		return
	}
	s.history[node] = s.history[node].with(got.reading(s.cfg.Clock.Now()))
}

// forget drops nodes that are gone, and those that have been silent too long.
func (s *Service) forget(there map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for node, h := range s.history {
		if !there[node] || s.cfg.Clock.Since(h[len(h)-1].at) > s.tooOld() {
			delete(s.history, node)
		}
	}
	for node := range s.devices {
		if !there[node] {
			delete(s.devices, node)
		}
	}
}

// tooOld is when a reading says nothing any more.
func (s *Service) tooOld() time.Duration { return max(4*s.cfg.Resolution, 20*time.Second) }

// of is a node's history; it isn't changed afterwards.
func (s *Service) of(node string) history {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.history[node]
}
