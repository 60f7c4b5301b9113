package raftstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
)

// Writes on a member that does not lead are sent to the leader, many in one call. Every write carries
// the number that its session gave it, so that it can be sent again, to whoever leads then, until its
// outcome is known: the machine does it once.

// clientSession numbers this Store's writes.
type clientSession struct {
	mu      sync.Mutex
	id      uint64
	opening chan struct{} // not nil while a session is being opened
	next    uint64
	low     uint64 // the least number whose outcome is still wanted
	ended   map[uint64]struct{}
}

func (c *clientSession) init() { c.ended, c.next, c.low = map[uint64]struct{}{}, 1, 1 }

// begin returns the next number, in a session that open opens when there is none.
func (c *clientSession) begin(ctx context.Context, open func(context.Context) (uint64, error)) (request, error) {
	for {
		c.mu.Lock()
		if c.id != 0 {
			q := request{client: c.id, seq: c.next, floor: c.low}
			c.next++
			c.mu.Unlock()
			return q, nil
		}
		wait := c.opening
		if wait == nil {
			wait = make(chan struct{})
			c.opening = wait
			c.mu.Unlock()
			id, err := open(ctx)
			c.mu.Lock()
			if err == nil {
				c.id, c.next, c.low = id, 1, 1
				clear(c.ended)
			}
			c.opening = nil
			close(wait)
			c.mu.Unlock()
			if err != nil {
				return request{}, err
			}
			continue
		}
		c.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return request{}, context.Cause(ctx)
		}
	}
}

// end says that the outcome is not wanted any more.
func (c *clientSession) end(q request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id != q.client {
		return
	}
	c.ended[q.seq] = struct{}{}
	for {
		if _, ok := c.ended[c.low]; !ok {
			return
		}
		delete(c.ended, c.low)
		c.low++
	}
}

// lost says that the machine does not know the session any more.
func (c *clientSession) lost(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id == id {
		c.id = 0
	}
}

// submitAnywhere has the command done, by whoever leads, and returns when this member has it too.
func (s *Store) submitAnywhere(ctx context.Context, c *command) (result, error) {
	if err := s.waitStarted(ctx); err != nil {
		return result{}, err
	}
	q, err := s.c.client.begin(ctx, s.openSession)
	if err != nil {
		return result{}, err
	}
	defer func() { s.c.client.end(q) }()
	c.request = q
	data := c.inEntry()
	for tries := 0; ; tries++ {
		r, err := s.try(ctx, data)
		if tries > 0 && (err != nil || errors.Is(r.err, ErrClosed)) {
			return result{}, fmt.Errorf("%w: %w", cmp.Or(err, r.err), ErrUncertain) // an earlier try may have been done
		}
		switch {
		case err != nil:
			return result{}, err
		case errors.Is(r.err, errSessionLost):
			s.c.client.lost(q.client)
			if tries > 0 {
				return result{}, ErrUncertain
			}
			s.c.client.end(q)
			if q, err = s.c.client.begin(ctx, s.openSession); err != nil {
				return result{}, err
			}
			c.request = q
			data = c.inEntry()
			continue
		case !r.lost:
			return s.hasApplied(ctx, r)
		}
		if err := s.pause(ctx, r.err); err != nil {
			return result{}, fmt.Errorf("%w: %w", err, ErrUncertain)
		}
	}
}

// hasApplied waits until this member has applied what the result is the outcome of.
func (s *Store) hasApplied(ctx context.Context, r result) (result, error) {
	if r.err == nil && r.index > s.m.appliedIndex() {
		select {
		case <-s.m.passed(r.index):
		case <-s.fail.done:
			return result{}, s.Err()
		case <-s.stopped:
			return result{}, fmt.Errorf("%w: %w", ErrClosed, ErrUncertain)
		case <-ctx.Done():
			return result{}, context.Cause(ctx)
		}
	}
	return r, r.err
}

// openSession is done as often as it takes; a session that nobody uses does no harm.
func (s *Store) openSession(ctx context.Context) (uint64, error) {
	data := putMessage(nil, 1, (&command{open: true}).encode())
	for {
		r, err := s.try(ctx, data)
		switch {
		case err != nil:
			return 0, err
		case !r.lost:
			return r.session, r.err
		}
		if err := s.pause(ctx, r.err); err != nil {
			return 0, err
		}
	}
}

// try hands the command to the leader once. An error means that there is no sense in another try.
func (s *Store) try(ctx context.Context, data []byte) (result, error) {
	to := s.c.forwards
	lead, changed := s.c.leader()
	switch {
	case s.Term() != 0:
		to = s.proposals
	case lead.address == "":
		select {
		case <-changed:
		case <-s.fail.done:
			return result{}, s.Err()
		case <-s.stopped:
			return result{}, ErrClosed
		case <-ctx.Done():
			return result{}, fmt.Errorf("%w (%w)", context.Cause(ctx), errNoLeader)
		}
		return result{lost: true, err: errNoLeader}, nil
	}
	p := &proposal{data: data, done: make(chan struct{})}
	select {
	case to <- p:
	case <-s.fail.done:
		return result{}, s.Err()
	case <-s.stopped:
		return result{}, ErrClosed
	case <-ctx.Done():
		return result{}, context.Cause(ctx)
	}
	return s.await(ctx, p)
}

// await waits for what becomes of a proposal.
func (s *Store) await(ctx context.Context, p *proposal) (result, error) {
	select {
	case <-p.done:
	case <-ctx.Done():
		return result{}, context.Cause(ctx)
	case <-s.stopped:
		select {
		case <-p.done: // answered all the same
		default:
			return result{}, fmt.Errorf("%w: %w", ErrClosed, ErrUncertain)
		}
	}
	return p.res, nil
}

// forward gathers writes for the leader, as propose does for raft.
func (s *Store) forward(ctx context.Context) {
	var under sync.WaitGroup
	defer under.Wait()
	slots := make(chan struct{}, forwardsInFlight)
	for {
		batch, data := gather(ctx, slots, s.c.forwards)
		if batch == nil {
			return
		}
		under.Go(func() {
			s.send(ctx, batch, data)
			<-slots
		})
	}
}

const forwardsInFlight = 4

func (s *Store) send(ctx context.Context, batch []*proposal, data []byte) {
	out, err := s.askLeader(ctx, callPropose, data)
	var results [][]byte
	if err == nil {
		results, err = decodeMessages(out)
	}
	if err == nil && len(results) != len(batch) {
		err = fmt.Errorf("%w: %d answers for %d writes", ErrCorrupt, len(results), len(batch))
	}
	for i, p := range batch {
		if err != nil {
			p.finish(result{lost: true, err: err})
			continue
		}
		r, err := decodeResult(results[i])
		if err != nil {
			r = result{lost: true, err: err}
		}
		p.finish(r)
	}
}

// proposeForOther does the writes of another member.
func (s *Store) proposeForOther(ctx context.Context, payload []byte) ([]byte, error) {
	commands, err := decodeMessages(payload)
	if err != nil {
		return nil, err
	}
	if s.Term() == 0 {
		return nil, ErrNotLeader
	}
	ps := make([]*proposal, len(commands))
	for i, c := range commands {
		ps[i] = &proposal{data: putMessage(make([]byte, 0, len(c)+8), 1, c), done: make(chan struct{})}
		select {
		case s.proposals <- ps[i]:
		case <-s.fail.done:
			return nil, s.Err()
		case <-s.stopped:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	out := make([][]byte, len(ps))
	for i, p := range ps {
		r, err := s.await(ctx, p)
		if err != nil {
			return nil, err
		}
		if r.lease != 0 {
			s.adoptLease(r.lease)
		}
		out[i] = encodeResult(&r)
	}
	return encodeMessages(out), nil
}
