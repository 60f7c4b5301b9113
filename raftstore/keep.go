package raftstore

import (
	"context"
	"time"
)

const keepEvery = time.Second

// keep does what falls due while this node leads: leases, forgetting the past, cutting the log.
func (s *Store) keep(ctx context.Context) {
	past := history{retain: s.cfg.RetainRevisions, age: s.cfg.RetainAge}
	timer := time.NewTimer(keepEvery)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.kick:
		case <-s.overfull:
			if term := s.Term(); term != 0 {
				s.forget(ctx, &past, term)
			}
			continue
		case <-ctx.Done():
			return
		case <-s.fail.done:
			return
		}
		wait := keepEvery
		if term := s.Term(); term != 0 {
			now := s.cfg.Clock.Now()
			s.tidyDeadlines(now)
			ids, next := s.expired(now)
			for _, id := range ids {
				// It may have been kept alive since: the deadline decides, and it is past. But only in
				// this term: the next leader gives the lease its full time.
				if err := s.expire(ctx, id, term); err != nil && ctx.Err() == nil {
					s.cfg.Logger.Debug("expired lease not revoked", "lease", id, "error", err)
				}
			}
			if next > 0 && next < wait {
				wait = next
			}
			s.forget(ctx, &past, term)
		}
		if err := s.cutLog(); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Debug("log not cut", "error", err)
		}
		timer.Reset(wait)
	}
}

// forget compacts what need not be kept.
func (s *Store) forget(ctx context.Context, past *history, term uint64) {
	v := s.m.view.Load()
	target := past.target(s.cfg.Clock.Now(), v.rev, v.compacted)
	if target == 0 || s.cfg.NoAutoCompact {
		return
	}
	if _, err := s.submitHere(ctx, &command{compact: target, term: term}); err != nil && ctx.Err() == nil {
		s.cfg.Logger.Debug("history not compacted", "revision", target, "error", err)
	}
}

// forgetSoon wakes the keeper on a busy store: what a second of writes leaves behind would take too long to forget at
// once, for no write is applied meanwhile.
func (s *Store) forgetSoon() {
	v := s.m.view.Load()
	if over := v.rev - v.compacted - s.cfg.RetainRevisions; !s.cfg.NoAutoCompact && over > max(s.cfg.RetainRevisions/4, forgetAtLeast) {
		signal(s.overfull)
	}
}

// forgetAtLeast revisions are worth an entry of the log.
const forgetAtLeast = 1000

// cutLog has raft take a snapshot when the log is large, however few its entries are.
func (s *Store) cutLog() error {
	if s.files.segs == nil {
		return nil
	}
	size := s.files.segs.size()
	if size <= s.cfg.LogBytes {
		return nil
	}
	if s.c != nil {
		first, _ := s.files.segs.FirstIndex()
		last, _ := s.files.segs.LastIndex()
		rc := s.raft.ReloadableConfig()
		rc.TrailingLogs = trailing(s.cfg.LogBytes, size, last-first+1)
		if err := s.raft.ReloadConfig(rc); err != nil {
			return err
		}
	}
	return s.raft.Snapshot().Error()
}

// trailing is how many entries make up half of what the log may hold.
func trailing(limit, size int64, entries uint64) uint64 {
	each := max(1, size/int64(max(1, entries)))
	return uint64(min(max(limit/2/each, 16), 8192))
}

// history knows how old revisions are.
type history struct {
	retain  int64
	age     time.Duration
	samples []sample
	last    time.Time // of the last compaction by age
}

type sample struct {
	at  time.Time
	rev int64
}

// target is the revision to compact to, or 0.
func (h *history) target(now time.Time, rev, compacted int64) int64 {
	if n := len(h.samples); now.Before(h.last) || n > 0 && now.Before(h.samples[n-1].at) {
		h.samples, h.last = nil, time.Time{} // the clock was set back: what it said then means nothing
	}
	if n := len(h.samples); n == 0 || h.samples[n-1].rev != rev {
		// A few hundred samples cover the age well enough.
		if n == 0 || now.Sub(h.samples[n-1].at) >= h.age/256 {
			h.samples = append(h.samples, sample{now, rev})
		}
	}
	// By number, with slack, so that it is not done for every write.
	if over := rev - compacted - h.retain; over > h.retain/4 {
		return rev - h.retain
	}
	if now.Sub(h.last) < h.age/16 {
		return 0
	}
	target := int64(0)
	for len(h.samples) > 0 && now.Sub(h.samples[0].at) >= h.age {
		target = h.samples[0].rev
		h.samples = h.samples[1:]
	}
	if target <= compacted {
		return 0
	}
	h.last = now
	return target
}
