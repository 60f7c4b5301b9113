package raftstore

import (
	"fmt"
	"os"
	"sync"

	"github.com/hashicorp/raft"
)

// The log is synced behind the writes: StoreLogs writes and returns, and whoever needs what was written
// to be durable syncs it, with everything that has been written by then. A leader's sync thus goes on
// while the followers have the same entries sent and synced, and entries that arrive during a sync share
// the next. Raft takes what StoreLogs has returned from for durable, so whatever could follow from that
// waits at a gate:
//
//   - the machine applies no entry that is not durable here (fsm.Apply), so no write is acknowledged
//     and no read sees it before;
//   - a follower's answer to AppendEntries, on which the leader counts, leaves when everything that
//     was written before it is durable (gatedTransport);
//   - a leader tells followers that no more is committed than what is durable here, for among the
//     majority that raft counted is the leader itself (gatedTransport);
//   - entries that change who is a member are durable before StoreLogs returns.
type logSync struct {
	// tail is signalled, under the log's mu, when durable, running, held or the log's poisoned change.
	tail    *sync.Cond
	durable uint64 // every entry up to this is durable
	active  bool   // the goroutine is there
	running bool   // a sync is under way, without mu
	held    int    // who waits for running to end, so that no other sync begins
}

// syncSoon has everything that was written synced while the caller goes on.
func (s *logStore) syncSoon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncSoonLocked()
}

func (s *logStore) syncSoonLocked() {
	if !s.active && !s.running && s.durable < s.lastLocked() {
		s.active = true
		go s.syncTail()
	}
}

// syncTail syncs until nothing is left.
func (s *logStore) syncTail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.poisoned == nil && s.durable < s.lastLocked() {
		s.syncOrWaitLocked()
	}
	s.active = false
}

// syncOrWaitLocked syncs, or waits until something else has changed. It releases mu meanwhile.
func (s *logStore) syncOrWaitLocked() {
	if s.running || s.held > 0 {
		s.tail.Wait()
		return
	}
	w := s.writtenLocked()
	s.running = true
	s.mu.Unlock()
	err := s.makeDurable(w)
	s.mu.Lock()
	s.running = false
	if err != nil {
		s.poisoned = fmt.Errorf("sync log: %w", err)
	} else {
		s.durableLocked(w)
	}
	s.tail.Broadcast()
}

// written is what one sync makes durable: the newest segment, and while that has no name yet, the end of the one before.
type written struct {
	before, newest         *segment // before may be nil
	beforeSize, newestSize uint32
	last                   uint64
}

func (s *logStore) writtenLocked() written {
	n := len(s.segs)
	w := written{newest: s.segs[n-1], newestSize: s.segs[n-1].size, last: s.lastLocked()}
	if w.newest.name != "" && n > 1 && s.segs[n-2].synced < s.segs[n-2].size {
		w.before, w.beforeSize = s.segs[n-2], s.segs[n-2].size
	}
	return w
}

// makeDurable gives a segment its name when everything that the name stands for is durable: the entries before it, its
// header and its entries.
func (s *logStore) makeDurable(w written) error {
	if w.before != nil && !broken(ruleSegmentBefore) {
		if err := s.syncFile(w.before); err != nil {
			return err
		}
	}
	if err := s.syncFile(w.newest); err != nil || w.newest.name == "" {
		return err
	}
	if err := os.Rename(w.newest.path, w.newest.name); err != nil {
		return err
	}
	return syncDir(s.dir)
}

func (s *logStore) durableLocked(w written) {
	if w.before != nil {
		w.before.synced = w.beforeSize
	}
	g := w.newest
	g.synced, s.durable = w.newestSize, w.last
	if g.name != "" {
		g.path, g.name = g.name, ""
	}
}

func (s *logStore) syncFile(g *segment) error {
	if s.hook != nil {
		if err := s.hook("log sync"); err != nil {
			return err
		}
	}
	return syncData(g.f)
}

// stillLocked returns when no sync is under way, and none begins until mu is released.
func (s *logStore) stillLocked() {
	s.held++
	for s.running {
		s.tail.Wait()
	}
	s.held--
	s.tail.Broadcast()
}

// settleLocked syncs what is left itself: before something that stands on it is written.
func (s *logStore) settleLocked() error {
	s.stillLocked()
	if s.poisoned != nil { // a sync failed meanwhile: another would succeed without having written, for the error is told once
		return s.poisoned
	}
	if len(s.segs) > 0 && s.durable < s.lastLocked() {
		w := s.writtenLocked()
		if err := s.makeDurable(w); err != nil {
			return err
		}
		s.durableLocked(w)
		s.tail.Broadcast()
	}
	return nil
}

// cutLocked is for after the log has lost entries, while no sync is under way.
func (s *logStore) cutLocked() {
	s.durable = min(s.durable, s.lastLocked())
	s.tail.Broadcast()
}

// waitDurable returns once the entry, and everything before it, is durable, or gone from the log.
func (s *logStore) waitDurable(index uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.durable < min(index, s.lastLocked()) {
		if s.poisoned != nil {
			return s.poisoned
		}
		s.syncOrWaitLocked()
	}
	s.syncSoonLocked() // what was written meanwhile, while the caller does what it waited for
	return nil
}

// durableIndex is the last entry that is durable.
func (s *logStore) durableIndex() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.durable
}

// mustSync says whether an entry takes effect before it is committed.
func mustSync(logs []*raft.Log) bool {
	for _, l := range logs {
		if l.Type == raft.LogConfiguration {
			return true
		}
	}
	return false
}
