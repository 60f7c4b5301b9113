package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"
)

// Store is one member of the store. Open it, Run it; see the package's documentation.
type Store struct {
	cfg     Config
	files   *files
	m       *machine
	fail    *failure
	backups *Backups // nil: none are scheduled

	raft      *raft.Raft    // set before started is closed
	started   chan struct{} // raft runs
	ready     chan struct{} // this member led once, with everything applied
	stopped   chan struct{} // Run has ended, or never will begin
	proposals chan *proposal
	dirty     chan struct{} // something was applied
	room      chan struct{} // a flush has ended
	kick      chan struct{} // the keeper has something new to look at
	running   atomic.Bool
	// committing counts the commits that may be waiting for raft's answer.
	committing atomic.Int64
	closing    sync.Once

	// leaderMu guards what follows. Never held while calling out.
	leaderMu      sync.Mutex
	leader        Leader
	leaderChanged chan struct{} // closed at the next change

	// leaseMu guards the deadlines, which only the leader's keeper acts on.
	leaseMu   sync.Mutex
	deadlines map[int64]time.Time

	// runMu guards cancel, with which Close ends Run.
	runMu  sync.Mutex
	cancel context.CancelCauseFunc
}

// Open opens the folder, or makes it, and reads its state. It starts nothing: see Run. Errors:
// ErrLocked when the folder is in use, ErrCorrupt when what it holds cannot be right.
func Open(cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, fail: &failure{done: make(chan struct{})}, started: make(chan struct{}),
		ready: make(chan struct{}), stopped: make(chan struct{}), proposals: make(chan *proposal, 256),
		dirty: make(chan struct{}, 1), room: make(chan struct{}, 1), kick: make(chan struct{}, 1),
		leaderChanged: make(chan struct{}), deadlines: map[int64]time.Time{}}
	if cfg.Backups.Dir != "" {
		if s.backups, err = NewBackups(s, cfg.Backups); err != nil {
			return nil, err
		}
	}
	if cfg.Dir == "" {
		s.files = openMemory(&cfg)
		s.m = newMachine(nil)
		return s, bootstrap(&cfg, s.files)
	}
	if s.files, err = openFolder(&cfg, nil); err != nil {
		return nil, advised(err)
	}
	s.m = newMachine(s.files.state)
	if err := s.files.state.fill(s.m); err != nil {
		_ = s.files.close()
		return nil, err
	}
	return s, nil
}

func raftConfig(cfg *Config) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(cfg.NodeID)
	c.Logger = &raftLog{l: cfg.Logger}
	// A single voter waits for nobody: these only delay its own election. Timeouts of a second,
	// raft's defaults, would be most of the time that the store takes to start.
	c.HeartbeatTimeout = 20 * time.Millisecond
	c.ElectionTimeout = 20 * time.Millisecond
	c.LeaderLeaseTimeout = 20 * time.Millisecond
	c.NoSnapshotRestoreOnStart = true // the state file is ahead of any snapshot
	c.NoLegacyTelemetry = true
	// BatchApplyCh stays off: what raft has queued there when it stops is never answered.
	c.SnapshotInterval = 30 * time.Second
	c.SnapshotThreshold = 8192
	c.TrailingLogs = 64 // for members that lag, of whom there are none
	return c
}

// Run takes part until ctx ends, then flushes and returns nil. A disk that fails does not end it:
// the node is degraded, and Run returns why once ctx ends. It can be called once.
func (s *Store) Run(ctx context.Context) (err error) {
	s.runMu.Lock()
	if !s.running.CompareAndSwap(false, true) {
		s.runMu.Unlock()
		return fmt.Errorf("run store: %w", ErrClosed)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s.cancel = cancel
	s.runMu.Unlock()
	defer cancel(nil)
	defer close(s.stopped)

	if err := s.startRaft(); err != nil {
		return fmt.Errorf("run store: %w", err)
	}
	close(s.started)
	var g, watch errgroup.Group
	ended := make(chan struct{})
	watch.Go(func() error { s.shutWhenFailed(ended); return nil })
	for _, f := range []func(context.Context){s.followLeadership, s.propose, s.flushLoop, s.keep, s.finishRotation, s.runBackups} {
		g.Go(func() error { f(ctx); return nil })
	}
	_ = g.Wait()
	close(ended)
	_ = watch.Wait()
	s.setLeader(Leader{Term: s.raft.CurrentTerm()})
	if err := s.raft.Shutdown().Error(); err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	s.refuseProposals()
	if err := s.fail.get(); err != nil {
		return fmt.Errorf("%w: %w", ErrDegraded, advised(err))
	}
	if s.files.state != nil {
		if err := s.files.state.flush(s.m); err != nil {
			return fmt.Errorf("%w: %w", ErrDegraded, advised(err))
		}
	}
	return nil
}

func (s *Store) runBackups(ctx context.Context) {
	if s.backups != nil {
		s.backups.Run(ctx)
	}
}

// startRaft makes raft on a goroutine that a failing store may end.
func (s *Store) startRaft() error {
	_, trans := raft.NewInmemTransport(raft.ServerAddress(s.cfg.NodeID))
	g := guard{f: s.fail}
	err := errors.New("the stores failed while raft started")
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.raft, err = raft.NewRaft(raftConfig(&s.cfg), fsm{s}, &guardedLog{guard: g, LogStore: s.files.log, monotonic: true},
			&guardedStable{guard: g, StableStore: s.files.stable}, s.files.snaps, trans)
	}()
	<-done
	if s.raft == nil && s.fail.get() != nil {
		return s.Err()
	}
	return err
}

// shutWhenFailed stops raft after a failure, so that whoever waits for raft gets an answer.
func (s *Store) shutWhenFailed(ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-s.fail.done:
	}
	s.cfg.Logger.Error("the local storage failed; this node takes no more writes", "error", s.fail.get())
	s.setLeader(Leader{Term: s.raft.CurrentTerm()})
	// Entries that raft holds are answered while its state machine's goroutine lives, and never
	// after; those that wait to be taken time out.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.committing.Load() > 0 {
		<-tick.C
	}
	s.raft.Shutdown() // Run waits for it
}

// Ready is closed once the store takes reads and writes for the first time.
func (s *Store) Ready() <-chan struct{} { return s.ready }

// Degraded is closed when the local storage has failed; Err then says why.
func (s *Store) Degraded() <-chan struct{} { return s.fail.done }

// Err is nil, or an ErrDegraded with its cause.
func (s *Store) Err() error {
	if err := s.fail.get(); err != nil {
		return fmt.Errorf("%w: %w", ErrDegraded, advised(err))
	}
	return nil
}

// Revision is the newest revision that this node has applied.
func (s *Store) Revision() int64 { return s.m.view.Load().rev }

// CompactedRevision is the newest revision that is no longer kept: the least one to watch from is
// one more, the least one to read at is itself.
func (s *Store) CompactedRevision() int64 { return s.m.view.Load().compacted }

// Close ends Run, waits for it, and closes the files. It may be called more than once.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		s.runMu.Lock()
		if s.running.CompareAndSwap(false, true) {
			close(s.stopped) // it never ran and never will
		} else if s.cancel != nil {
			s.cancel(ErrClosed)
		}
		s.runMu.Unlock()
		<-s.stopped
		err = s.files.close()
	})
	return err
}

func (s *Store) waitStarted(ctx context.Context) error {
	select {
	case <-s.started:
		return nil
	default:
	}
	select {
	case <-s.started:
		return nil
	case <-s.stopped:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// readIndex returns once this node's state includes every write acknowledged before the call.
func (s *Store) readIndex(ctx context.Context) error {
	// A single voter is the only leader there can be, and acknowledges what it has applied: to be
	// the leader, with the barrier of its term behind it, is enough.
	return s.waitLeading(ctx)
}

// flushLoop copies what was applied to the state file, some moments later and many writes at once.
func (s *Store) flushLoop(ctx context.Context) {
	if s.files.state == nil {
		return
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-s.dirty:
		case <-ctx.Done():
			return
		case <-s.fail.done:
			return
		}
		timer.Reset(flushEvery)
	wait:
		for s.m.pendingBytes() < flushBytes {
			select {
			case <-s.dirty:
			case <-timer.C:
				break wait
			case <-ctx.Done():
				return
			case <-s.fail.done:
				return
			}
		}
		if err := s.files.state.flush(s.m); err != nil {
			s.fail.set(err)
			return
		}
		signal(s.room)
	}
}

const (
	flushEvery = 100 * time.Millisecond
	flushBytes = 4 << 20
	// Above this much unflushed, writes wait: the disk is slower than the log.
	flushStall = 64 << 20
)

func (m *machine) pendingBytes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pending.bytes
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// fsm is the machine as raft sees it.
type fsm struct{ s *Store }

func (f fsm) Apply(l *raft.Log) any {
	results, err := f.s.m.apply(l.Index, l.Term, l.Data)
	if err != nil {
		// The machine stands still from here on. Its goroutine lives, to answer what raft has queued.
		f.s.fail.set(err)
		return nil
	}
	signal(f.s.dirty)
	return results
}

func (f fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.s.files.state == nil {
		return flushed{}, nil
	}
	if err := f.s.files.state.flush(f.s.m); err != nil {
		f.s.fail.set(err)
		return nil, err
	}
	return flushed{durable: f.s.files.state.durableIndex()}, nil
}

func (f fsm) Restore(r io.ReadCloser) error {
	_ = r.Close()
	return fmt.Errorf("%w: this store has a single voter and takes no snapshot from others", ErrInvalid)
}
