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
	// flushEnded is closed when nothing is flushed any more.
	flushEnded chan struct{}
	kick       chan struct{} // the keeper has something new to look at
	overfull   chan struct{} // there is more of the past than is to be kept
	running    atomic.Bool
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

	// c is what a member among others has; nil for a single voter.
	c *cluster
	// tasks are goroutines that end soon after the loops of Run.
	tasks     sync.WaitGroup
	readyOnce sync.Once
	stopOnce  sync.Once
	stopping  raft.Future // set by stopOnce

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
		dirty: make(chan struct{}, 1), room: make(chan struct{}, 1), flushEnded: make(chan struct{}), kick: make(chan struct{}, 1), overfull: make(chan struct{}, 1),
		leaderChanged: make(chan struct{}), deadlines: map[int64]time.Time{}}
	if cfg.Network != nil {
		s.c = newCluster(&cfg)
	}
	if cfg.Backups.Dir != "" {
		if s.backups, err = NewBackups(s, cfg.Backups); err != nil {
			return nil, err
		}
	}
	if cfg.Dir == "" {
		s.files = openMemory(&cfg)
		s.m = newMachine(nil)
		s.m.speaks = cfg.speaks
		s.files.snaps.send = s.sendState
		return s, s.files.begin(&cfg, false)
	}
	if s.files, err = openFolder(&cfg, nil); err != nil {
		return nil, advised(err)
	}
	s.cfg.Cluster = cfg.Cluster
	s.m = newMachine(s.files.state)
	s.m.speaks = cfg.speaks
	if err := s.files.state.fill(s.m); err != nil {
		_ = s.files.close()
		return nil, err
	}
	if v := s.m.formatVersion(); v > cfg.speaks {
		_ = s.files.close()
		return nil, fmt.Errorf("%w: the folder is in version %d of the format, this program speaks %d: use a newer one",
			ErrNewer, v, cfg.speaks)
	}
	s.files.snaps.send = s.sendState
	return s, nil
}

func raftConfig(cfg *Config) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(cfg.NodeID)
	c.Logger = &raftLog{l: cfg.Logger}
	// A little more than what it is to be, so that electAtOnce can lower it.
	c.HeartbeatTimeout = heartbeat + time.Millisecond
	c.ElectionTimeout = heartbeat + time.Millisecond
	c.LeaderLeaseTimeout = leaderLease
	c.MaxAppendEntries = 32           // an entry of ours is a whole batch
	c.ShutdownOnRemove = false        // Run decides when raft ends
	c.NoSnapshotRestoreOnStart = true // the state file is ahead of any snapshot
	c.NoLegacyTelemetry = true
	// BatchApplyCh stays off: what raft has queued there when it stops is never answered.
	c.SnapshotInterval = 30 * time.Second
	c.SnapshotThreshold = 8192
	c.TrailingLogs = 64 // for members that lag, of whom a single voter has none
	if cfg.Network != nil {
		c.TrailingLogs = 4096
	}
	return c
}

const (
	heartbeat   = 700 * time.Millisecond
	leaderLease = 500 * time.Millisecond
)

// electAtOnce spares a sole voter the wait for a leader that cannot be there: raft looks at its clock
// again when the timeout gets shorter.
func (s *Store) electAtOnce() error {
	servers := s.raft.GetConfiguration().Configuration().Servers
	if len(servers) != 1 {
		return nil
	}
	if string(servers[0].ID) != s.cfg.NodeID {
		return fmt.Errorf("%w: the folder is the member %q, and NodeID says %q: it never changes", ErrInvalid, servers[0].ID, s.cfg.NodeID)
	}
	rc := s.raft.ReloadableConfig()
	rc.HeartbeatTimeout, rc.ElectionTimeout = heartbeat, heartbeat
	return s.raft.ReloadConfig(rc)
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
		s.closeNetwork()
		return fmt.Errorf("run store: %w", err)
	}
	close(s.started)
	// The loops outlive ctx by the time that it takes to hand over the leadership.
	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(nil)
	var g, watch, members errgroup.Group
	ended := make(chan struct{})
	watch.Go(func() error { s.shutWhenFailed(ended); return nil })
	loops := []func(context.Context){s.followLeadership, s.propose, s.flushLoop, s.keep, s.finishRotation, s.runBackups}
	if s.c != nil {
		members.Go(func() error { s.serveMembers(work); return nil })
		loops = append(loops, s.followLead, s.forward, s.runReads, s.nudge, s.watchMembers, s.watchLeader, s.becomeReady)
	}
	for _, f := range loops {
		g.Go(func() error { f(work); return nil })
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, ErrClosed) && s.fail.get() == nil {
		s.handOverBeforeStop()
	}
	stopWork(context.Cause(ctx))
	_ = g.Wait()
	close(ended)
	_ = watch.Wait()
	s.setLeader(Leader{Term: s.raft.CurrentTerm()})
	stopped := s.stopRaft()
	s.closeNetwork()
	if err := stopped.Error(); err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	s.refuseProposals(s.proposals)
	_ = members.Wait()
	s.tasks.Wait()
	s.refuseProposals(s.proposals)
	if s.c != nil {
		s.refuseProposals(s.c.forwards)
	}
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
	trans := s.transport()
	g := guard{f: s.fail}
	err := errors.New("the stores failed while raft started")
	done := make(chan struct{})
	go func() {
		defer close(done)
		var log raft.LogStore = &guardedLog{guard: g, LogStore: s.files.log, monotonic: true}
		if s.c != nil {
			// The entries that the others are sent are the newest, and need not be read from the disk.
			if log, err = raft.NewLogCache(logCache, log); err != nil {
				return
			}
		}
		s.raft, err = raft.NewRaft(raftConfig(&s.cfg), fsm{s}, log, &guardedStable{guard: g, StableStore: s.files.stable}, s.files.snaps, trans)
	}()
	<-done
	if s.raft == nil || err != nil {
		if c, ok := trans.(raft.WithClose); ok {
			_ = c.Close()
		}
		if s.fail.get() != nil {
			return s.Err()
		}
		return err
	}
	if err := s.electAtOnce(); err != nil {
		s.closeNetwork()
		_ = s.stopRaft().Error()
		return err
	}
	return nil
}

// logCache is how many entries stay in memory for the other members.
const logCache = 64

// stopRaft begins to stop raft; the future waits for the end. Only the first call of raft's own
// Shutdown returns one that does.
func (s *Store) stopRaft() raft.Future {
	s.stopOnce.Do(func() { s.stopping = s.raft.Shutdown() })
	return s.stopping
}

// closeNetwork ends every connection to other members.
func (s *Store) closeNetwork() {
	if s.c != nil {
		s.c.hub.close()
		s.c.peers.close()
	}
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
	s.stopRaft() // Run waits for it
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

// Close ends Run, waits for it, and closes the files. It does not hand over the leadership: cancel
// Run's context for that, and Close then. It may be called more than once.
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

// flushLoop copies what was applied to the state file, some moments later and many writes at once.
func (s *Store) flushLoop(ctx context.Context) {
	defer close(s.flushEnded)
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
				// A snapshot may have flushed meanwhile, and what is flushed late is often forgotten first.
				if left := flushEvery - s.files.state.sinceFlush(); left > 0 {
					timer.Reset(left)
					continue
				}
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

// throttle holds up a follower whose state file is slower than its log: raft then takes fewer entries
// from the leader. Writes on the leader itself wait in propose.
func (s *Store) throttle() {
	for s.files.state != nil && s.m.pendingBytes() > 2*flushStall {
		select {
		case <-s.flushEnded:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

const (
	flushEvery = time.Second
	// What is forgotten before it is flushed counts for nothing here, and never gets to the file. More at a time holds up
	// the log's syncs for longer than the tail of the latencies bears.
	flushBytes = 12 << 20
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
	if log := f.s.files.segs; log != nil {
		if err := log.waitDurable(l.Index); err != nil {
			f.s.fail.set(err)
			return nil
		}
	}
	results, err := f.s.m.apply(l.Index, l.Term, l.Data)
	if err != nil {
		// The machine stands still from here on. Its goroutine lives, to answer what raft has queued.
		f.s.fail.set(err)
		return nil
	}
	signal(f.s.dirty)
	f.s.forgetSoon()
	f.s.throttle()
	return results
}

func (f fsm) Snapshot() (raft.FSMSnapshot, error) { return flushed{f.s}, nil }

// StoreConfiguration tells the machine of an entry that is not for it.
func (f fsm) StoreConfiguration(index uint64, _ raft.Configuration) {
	f.s.m.pass(index)
	signal(f.s.dirty)
}

// Restore makes the machine what another member has sent; see transfer.go.
func (f fsm) Restore(r io.ReadCloser) error {
	_ = r.Close()
	in := f.s.files.snaps.take()
	if in == nil {
		return fmt.Errorf("%w: no state has arrived", ErrInvalid)
	}
	err := f.s.takeOver(in.arrived, in.note.Index)
	if err == nil && f.s.files.state != nil {
		err = f.s.files.state.flush(f.s.m)
		in.note.Durable = f.s.files.state.durableIndex()
	}
	if err == nil {
		err = f.s.files.snaps.keep(in.note)
	}
	if err != nil {
		f.s.fail.set(err)
	}
	return err
}
