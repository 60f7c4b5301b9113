package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"
)

// Writes that arrive while others are being synced share the next raft entry.
const (
	batchCommands = 1024
	batchBytes    = 1 << 20
	inFlight      = 2 // one entry is synced while the next is being gathered
	// How long to offer raft an entry before looking whether the node has failed.
	enqueueFor = 100 * time.Millisecond
)

// MaxTxnBytes is the most that a Txn may hold, keys and values together.
const MaxTxnBytes = 16 << 20

type proposal struct {
	data []byte
	done chan struct{} // closed once res is set
	res  result
}

func (p *proposal) finish(r result) {
	p.res = r
	close(p.done)
}

// Txn writes atomically and returns once the write is durable and applied here. When it returns the
// cause of ctx, ErrUncertain or ErrDegraded, the write may take effect or not; after any other error
// it does not.
func (s *Store) Txn(ctx context.Context, t Txn) (TxnResult, error) {
	if err := t.check(); err != nil {
		return TxnResult{}, err
	}
	if t.Term != 0 {
		// A fenced write is for the leader alone: to wait for leadership would be to outlive it.
		if l, _ := s.Leader(); s.Err() == nil && (!l.Leading || l.Term > t.Term) {
			return TxnResult{}, ErrFenced
		}
	}
	r, err := s.submit(ctx, &command{txn: &t})
	if err != nil {
		return TxnResult{}, err
	}
	return r.txn, nil
}

// Put writes one key and returns the new revision.
func (s *Store) Put(ctx context.Context, key string, value []byte) (int64, error) {
	r, err := s.Txn(ctx, Txn{Then: []Op{{Type: OpPut, Key: key, Value: value}}})
	return r.Revision, err
}

// Delete deletes one key and says whether it was there.
func (s *Store) Delete(ctx context.Context, key string) (bool, error) {
	r, err := s.Txn(ctx, Txn{Then: []Op{{Type: OpDelete, Key: key}}})
	if err != nil {
		return false, err
	}
	return r.Results[0].Deleted > 0, nil
}

// Compact forgets the versions that were replaced at rev or before. Reads at rev and later, and
// watches from after rev, go on working.
func (s *Store) Compact(ctx context.Context, rev int64) error {
	if rev <= 0 {
		return fmt.Errorf("%w: compact to revision %d", ErrInvalid, rev)
	}
	_, err := s.submit(ctx, &command{compact: rev})
	return err
}

func (s *Store) submit(ctx context.Context, c *command) (result, error) {
	if s.c != nil && (c.txn == nil || c.txn.Term == 0) {
		return s.submitAnywhere(ctx, c)
	}
	r, err := s.submitHere(ctx, c)
	if err == nil {
		err = r.err
	}
	return r, err
}

// submitHere is for a single voter, and for what only the leader may write.
func (s *Store) submitHere(ctx context.Context, c *command) (result, error) {
	if s.c != nil && s.Term() == 0 && s.Err() == nil {
		return result{}, ErrFenced // to wait for leadership would be to outlive it
	}
	if err := s.waitLeading(ctx); err != nil {
		return result{}, err
	}
	p := &proposal{data: c.inEntry(), done: make(chan struct{})}
	select {
	case s.proposals <- p:
	case <-s.fail.done:
		return result{}, s.Err()
	case <-s.stopped:
		return result{}, ErrClosed
	case <-ctx.Done():
		return result{}, context.Cause(ctx)
	}
	return s.await(ctx, p)
}

// propose gathers proposals into entries.
func (s *Store) propose(ctx context.Context) {
	// Raft answers what is under way, or is shut down by nobody but us, after this.
	var under sync.WaitGroup
	defer under.Wait()
	slots := make(chan struct{}, inFlight)
	for {
		batch, data := gather(ctx, slots, s.proposals)
		if batch == nil {
			return
		}
		for s.m.pendingBytes() > flushStall && s.fail.get() == nil && ctx.Err() == nil {
			select {
			case <-s.room:
			case <-s.fail.done:
			case <-ctx.Done():
			}
		}
		under.Go(func() {
			s.commit(batch, data)
			<-slots
		})
	}
}

// gather takes a slot, and then what there is; nil when ctx has ended.
func gather(ctx context.Context, slots chan struct{}, from <-chan *proposal) (batch []*proposal, data []byte) {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return nil, nil
	}
	select {
	case p := <-from:
		batch = append(batch, p)
	case <-ctx.Done():
		return nil, nil
	}
	size := len(batch[0].data)
gather:
	for len(batch) < batchCommands && size < batchBytes {
		select {
		case p := <-from:
			batch = append(batch, p)
			size += len(p.data)
		default:
			break gather
		}
	}
	parts := make([][]byte, len(batch))
	for i, p := range batch {
		parts[i] = p.data
	}
	return batch, bytes.Join(parts, nil) // which does not clear what it fills
}

func (s *Store) commit(batch []*proposal, data []byte) {
	s.committing.Add(1)
	defer s.committing.Add(-1)
	data = s.m.newestForm(data)
	var f raft.ApplyFuture
	err := raft.ErrEnqueueTimeout
	for errors.Is(err, raft.ErrEnqueueTimeout) && s.fail.get() == nil {
		f = s.raft.Apply(data, enqueueFor)
		err = f.Error()
	}
	if err == nil {
		s.committed(f.Index())
		if results, ok := f.Response().([]result); ok && len(results) == len(batch) {
			for i, p := range batch {
				results[i].index = f.Index()
				p.finish(results[i])
			}
			return
		}
		err = raft.ErrRaftShutdown // the state machine gave up on it
	}
	err = s.translate(err)
	for _, p := range batch {
		p.finish(result{lost: true, err: err})
	}
}

func (s *Store) translate(err error) error {
	switch {
	case s.fail.get() != nil:
		return fmt.Errorf("%w: %w", s.Err(), ErrUncertain)
	case errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrRaftShutdown):
		return fmt.Errorf("%w: %w", ErrClosed, ErrUncertain)
	}
	return fmt.Errorf("%w: %w", ErrUncertain, err)
}

// refuseProposals answers what nobody will take any more.
func (s *Store) refuseProposals(waiting <-chan *proposal) {
	for {
		select {
		case p := <-waiting:
			p.finish(result{lost: true, err: ErrClosed})
		default:
			return
		}
	}
}

// check refuses what could never work, so that it does not reach the log.
func (t *Txn) check() error {
	size := 0
	for i := range t.If {
		c := &t.If[i]
		size += len(c.Key) + len(c.Value)
		if c.Key == "" || c.Target > Value || c.Relation > Greater {
			return fmt.Errorf("%w: compare %d", ErrInvalid, i)
		}
	}
	for _, ops := range [][]Op{t.Then, t.Else} {
		written := make(map[string]struct{}, len(ops))
		var prefixes []string
		for i := range ops {
			o := &ops[i]
			size += len(o.Key) + len(o.Value) + 2*protowire.SizeVarint(uint64(len(o.Value)))
			switch {
			case o.Type > OpDeletePrefix:
				return fmt.Errorf("%w: operation %d", ErrInvalid, o.Type)
			case o.Key == "" && o.Type != OpDeletePrefix:
				return fmt.Errorf("%w: empty key", ErrInvalid)
			case o.Type == OpDeletePrefix:
				prefixes = append(prefixes, o.Key)
			case o.Type == OpPut || o.Type == OpDelete:
				if _, twice := written[o.Key]; twice {
					return fmt.Errorf("%w: %q is written twice", ErrInvalid, o.Key)
				}
				written[o.Key] = struct{}{}
			}
		}
		if err := overlap(prefixes, written); err != nil {
			return err
		}
	}
	if size > MaxTxnBytes {
		return fmt.Errorf("%w: %d bytes in one Txn, %d are allowed", ErrInvalid, size, MaxTxnBytes)
	}
	return nil
}
