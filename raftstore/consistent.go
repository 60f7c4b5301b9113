package raftstore

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// ends is what the files of a folder say of each other.
type ends struct {
	durable     uint64 // the state file has every entry up to here
	first, last uint64 // of the log; 0: it is empty
	lastTerm    uint64 // of the last entry
	term        uint64 // raft's current one
	note        *snapshotNote
	// alone: there are no other members. Among others, a state that one of them sent may be ahead of
	// the log: the entries between are committed, will come, and are skipped.
	alone bool
}

// end is the last entry that raft knows.
func (e *ends) end() uint64 {
	if e.note != nil {
		return max(e.last, e.note.Index)
	}
	return e.last
}

func (f *files) ends(durable uint64) (ends, error) {
	e := ends{durable: durable, note: f.snaps.note(), alone: f.alone}
	e.first, _ = f.segs.FirstIndex()
	e.last, _ = f.segs.LastIndex()
	var err error
	if e.last > 0 {
		if e.lastTerm, err = f.segs.term(e.last); err != nil {
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

func (e *ends) check() error {
	const help = "a file was lost, or comes from another copy of this folder. Bring all of the folder back from one copy, or restore a backup in another"
	switch {
	case e.note != nil && e.durable < e.note.Durable:
		return fmt.Errorf("%w: the state file ends at entry %d and the log begins after %d: %s", ErrCorrupt, e.durable, e.note.Durable, help)
	case e.first > 0 && e.durable+1 < e.first:
		return fmt.Errorf("%w: the state file ends at entry %d and the log begins at %d: %s", ErrCorrupt, e.durable, e.first, help)
	case e.note != nil && e.first > e.note.Index+1:
		return fmt.Errorf("%w: the snapshot ends at entry %d and the log begins at %d: %s", ErrCorrupt, e.note.Index, e.first, help)
	case e.alone && e.end() < e.durable:
		return fmt.Errorf("%w: the state file has entry %d and the log ends at %d: %s", ErrCorrupt, e.durable, e.last, help)
	case e.term < e.lastTerm:
		return fmt.Errorf("%w: raft's term is %d and the last entry has term %d: %s", ErrCorrupt, e.term, e.lastTerm, help)
	}
	return nil
}

// term is that of an entry.
func (s *logStore) term(index uint64) (uint64, error) {
	var l raft.Log
	err := s.GetLog(index, &l)
	return l.Term, err
}
