package raftstore

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// ends is what the files of a folder say of each other.
type ends struct {
	durable     uint64 // the state file has every entry up to here
	brought     uint64 // those up to here came with a whole state: the log may never have had them
	first, last uint64 // of the log; 0: it is empty
	lastTerm    uint64 // of the last entry
	noteTerm    uint64 // of the entry that the note names; 0: the log does not have it
	term        uint64 // raft's current one
	note        *snapshotNote
}

func (f *files) ends(durable uint64) (ends, error) {
	e := ends{durable: durable, brought: f.state.brought, note: f.snaps.note()}
	e.first, _ = f.segs.FirstIndex()
	e.last, _ = f.segs.LastIndex()
	var err error
	if e.last > 0 {
		if e.lastTerm, err = f.segs.term(e.last); err != nil {
			return e, err
		}
	}
	if n := e.note; n != nil && e.first > 0 && e.first <= n.Index && n.Index <= e.last {
		if e.noteTerm, err = f.segs.term(n.Index); err != nil {
			return e, err
		}
	}
	e.term, err = f.stable.GetUint64([]byte("CurrentTerm"))
	return e, err
}

// consistent says whether the files of a folder belong together: each may end where it likes, but
// what one has cut or skipped, another must have.
func (f *files) consistent() error {
	e, err := f.ends(f.state.durableIndex())
	if err != nil {
		return err
	}
	return e.check()
}

const help = "a file was lost, or comes from another copy of this folder. Bring all of the folder back from one copy, or restore a backup in another"

// begun says whether a single voter has its first entry, which the folder had before FORMAT. Without
// it nobody may vote, and raft would wait for ever.
func (f *files) begun(cfg *Config) error {
	if last, _ := f.segs.LastIndex(); cfg.Network == nil && last == 0 && f.snaps.note() == nil {
		return fmt.Errorf("%w: the log is empty: %s", ErrCorrupt, help)
	}
	return nil
}

func (e *ends) check() error {
	if e.note != nil && e.durable < e.note.Durable {
		return fmt.Errorf("%w: the state file ends at entry %d and the log begins after %d: %s", ErrCorrupt, e.durable, e.note.Durable, help)
	}
	first, last := e.first, e.last
	if e.stale() {
		first, last = 0, 0
	}
	switch {
	case first > 0 && e.durable+1 < first:
		return fmt.Errorf("%w: the state file ends at entry %d and the log begins at %d: %s", ErrCorrupt, e.durable, first, help)
	case e.note != nil && first > e.note.Index+1:
		return fmt.Errorf("%w: the snapshot ends at entry %d and the log begins at %d: %s", ErrCorrupt, e.note.Index, first, help)
	case e.note != nil && first > 0 && last < e.note.Index:
		return fmt.Errorf("%w: the snapshot has entry %d and the log ends at %d: %s", ErrCorrupt, e.note.Index, last, help)
	case max(last, e.noted()) < e.durable && e.brought < e.durable:
		return fmt.Errorf("%w: the state file has entry %d and the log ends at %d: %s", ErrCorrupt, e.durable, last, help)
	case e.term < e.lastTerm:
		return fmt.Errorf("%w: raft's term is %d and the last entry has term %d: %s", ErrCorrupt, e.term, e.lastTerm, help)
	}
	return nil
}

// noted is the entry up to which the log may have been cut, all of it perhaps.
func (e *ends) noted() uint64 {
	if e.note == nil {
		return 0
	}
	return e.note.Index
}

// stale says whether the log is from before a state that another member sent: it ends before what the
// note says, or contradicts it.
func (e *ends) stale() bool {
	return e.note != nil && e.first > 0 && e.note.Index <= e.brought && (e.last < e.note.Index || e.noteTerm != 0 && e.noteTerm != e.note.Term)
}

// term is that of an entry.
func (s *logStore) term(index uint64) (uint64, error) {
	var l raft.Log
	err := s.GetLog(index, &l)
	return l.Term, err
}
