package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// cluster is what a Store with a Network has beside the others.
type cluster struct {
	hub    *hub
	peers  *peers
	client clientSession
	reads  readRounds
	health healthTable
	nudges nudges
	trans  *raft.NetworkTransport // set before started is closed
	// forwards are the writes that wait to be sent to the leader.
	forwards chan *proposal

	// mu guards what follows.
	mu      sync.Mutex
	lead    leadHint
	changed chan struct{} // closed when lead changes
}

// leadHint is who leads, as far as this member knows; all empty: nobody.
type leadHint struct{ id, address string }

func newCluster(cfg *Config) *cluster {
	h := newHub(cfg.Network, cfg.Address)
	c := &cluster{hub: h, peers: newPeers(h), forwards: make(chan *proposal, 256), changed: make(chan struct{})}
	c.client.init()
	c.reads.kick = make(chan struct{}, 1)
	c.nudges.kick, c.nudges.busy = make(chan struct{}, 1), map[raft.ServerID]bool{}
	return c
}

func (c *cluster) setLead(l leadHint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l != c.lead {
		c.lead = l
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

func (c *cluster) leader() (leadHint, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lead, c.changed
}

// followLead keeps the hint of who leads.
func (s *Store) followLead(ctx context.Context) {
	seen := make(chan raft.Observation, 16)
	o := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	s.raft.RegisterObserver(o)
	defer s.raft.DeregisterObserver(o)
	tick := time.NewTicker(200 * time.Millisecond) // an observation may be dropped
	defer tick.Stop()
	for {
		address, id := s.raft.LeaderWithID()
		if s.fail.get() != nil {
			address, id = "", ""
		}
		s.c.setLead(leadHint{id: string(id), address: string(address)})
		select {
		case <-seen:
		case <-tick.C:
		case <-ctx.Done():
			s.c.setLead(leadHint{})
			return
		}
	}
}

// errNoLeader: there is none right now. Ask again.
var errNoLeader = errors.New("raftstore: no leader is known")

// askLeader calls the leader once. The call is given up when this member hears of another leader.
func (s *Store) askLeader(ctx context.Context, kind callKind, payload []byte) ([]byte, error) {
	lead, changed := s.c.leader()
	if lead.address == "" {
		return nil, errNoLeader
	}
	if lead.id == s.cfg.NodeID {
		return s.handle(ctx, kind, payload)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-changed:
			cancel(ErrNotLeader)
		case <-s.stopped:
			cancel(ErrClosed)
		case <-stop:
		}
	}()
	return s.c.peers.call(ctx, lead.address, kind, payload)
}

const askAgain = 20 * time.Millisecond

// pause waits a moment, or until something is worth another try. An error means: no more tries.
func (s *Store) pause(ctx context.Context, last error) error {
	if err := s.Err(); err != nil {
		return err
	}
	_, changed := s.c.leader()
	t := time.NewTimer(askAgain)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-s.fail.done:
		return s.Err()
	case <-s.stopped:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("%w (the last try: %w)", context.Cause(ctx), last)
	}
	return nil
}

// ask calls the leader until it answers with something that another leader would not answer better.
func (s *Store) ask(ctx context.Context, kind callKind, payload []byte) ([]byte, error) {
	if err := s.waitStarted(ctx); err != nil {
		return nil, err
	}
	for {
		out, err := s.askLeader(ctx, kind, payload)
		if err == nil || final(err) {
			return out, err
		}
		if err := s.pause(ctx, err); err != nil {
			return nil, err
		}
	}
}

// final says that to ask again would bring the same.
func final(err error) bool {
	for _, e := range []error{ErrInvalid, ErrLeaseNotFound, ErrConflict, ErrCompacted, ErrFutureRevision, ErrFenced} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// serveMembers answers the other members until the hub is closed.
func (s *Store) serveMembers(ctx context.Context) {
	s.c.hub.serve(func(c net.Conn) { serveCalls(ctx, c, s.handle) })
}

// handle answers one call.
func (s *Store) handle(ctx context.Context, kind callKind, payload []byte) ([]byte, error) {
	switch kind {
	case callPropose:
		return s.proposeForOther(ctx, payload)
	case callReadIndex:
		index, err := s.leaderIndex(ctx)
		return encodeOne(index), err
	case callTerm:
		return encodeOne(s.raft.CurrentTerm()), s.Err()
	case callStatus:
		st := s.status()
		return st.encode(), nil
	case callChange:
		c, err := decodeMemberChange(payload)
		if err != nil {
			return nil, err
		}
		return nil, s.change(ctx, c)
	case callList:
		return s.listMembers()
	case callKeepAlive:
		id, err := decodeOne(payload)
		if err != nil {
			return nil, err
		}
		if s.Term() == 0 {
			return nil, ErrNotLeader
		}
		return nil, s.keepAlive(int64(id))
	}
	return nil, fmt.Errorf("%w: call %d is not known to this version", ErrInvalid, kind)
}

// transport is raft's way to the others.
func (s *Store) transport() raft.Transport {
	if s.c == nil {
		_, t := raft.NewInmemTransport(s.cfg.raftAddress())
		return t
	}
	s.c.trans = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: raftStream{h: s.c.hub, once: new(sync.Once), done: make(chan struct{})}, MaxPool: raftPool, MaxRPCsInFlight: 4, Timeout: raftCallWait,
		Logger: &raftLog{l: s.cfg.Logger},
	})
	if s.files.segs == nil {
		return votingTransport{s.c.trans}
	}
	return newGatedTransport(s.c.trans, s.files.segs, s.fail)
}
