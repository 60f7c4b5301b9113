package raftstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// Raft's own timeout notices a leader that is gone after 0.7 to 2.1 seconds: it looks at its clock at random
// moments, so that a leader on a busy machine is not deposed for being slow. Two things are known sooner and for
// certain, whatever the load:
//
//   - The leader's process has ended: its kernel closes its connections, and refuses new ones at its address.
//     Then the followers agree on who is furthest, and that one stands for election at once.
//   - It has been silent for silence, more than raft's timeout: raft is made to look at its clock now.
//
// Neither weakens anything: a wrong guess costs an election, and no write.
const (
	// silence, and up to half of it more by chance, is how long a leader may say nothing.
	silence      = time.Second
	silenceCheck = 100 * time.Millisecond
	// refusalWait bounds the question whether the leader's address refuses connections, statusWait the one how far
	// the others are.
	refusalWait = 500 * time.Millisecond
	statusWait  = 200 * time.Millisecond
	// standApart is how much later the next one stands, if the first has not been elected.
	standApart = 250 * time.Millisecond
)

// watchLeader runs on every member, and does something on followers that vote.
func (s *Store) watchLeader(ctx context.Context) {
	tick := time.NewTicker(silenceCheck)
	defer tick.Stop()
	patience := patienceNow()
	for {
		select {
		case <-s.c.hub.broke:
			s.succeedDead(ctx)
		case <-tick.C:
			if lead, ok := s.followed(); ok && lead.address != "" && time.Since(s.raft.LastContact()) > patience {
				s.lookAtClock()
				patience = patienceNow()
			}
		case <-ctx.Done():
			return
		case <-s.fail.done:
			return
		}
	}
}

// patienceNow is a little different on every member, so that not all of them stand at the same time.
func patienceNow() time.Duration { return silence + rand.N(silence/2) }

// followed is whom this member follows, and whether it could be elected itself.
func (s *Store) followed() (leadHint, bool) {
	if s.raft.State() != raft.Follower {
		return leadHint{}, false
	}
	conf, _ := s.configuration()
	me := findServer(conf, s.cfg.NodeID)
	address, id := s.raft.LeaderWithID()
	return leadHint{id: string(id), address: string(address)}, me != nil && me.Suffrage == raft.Voter
}

// lookAtClock makes raft compare the time since the leader's last word with its timeout now: it does so when the
// timeout gets shorter.
func (s *Store) lookAtClock() {
	rc := s.raft.ReloadableConfig()
	usual := rc.HeartbeatTimeout
	rc.HeartbeatTimeout, rc.ElectionTimeout = usual+time.Millisecond, rc.ElectionTimeout+time.Millisecond
	if s.raft.ReloadConfig(rc) != nil {
		return
	}
	rc.HeartbeatTimeout, rc.ElectionTimeout = usual, rc.ElectionTimeout-time.Millisecond
	_ = s.raft.ReloadConfig(rc)
}

// succeedDead is called when a connection of raft's has broken. If the leader's process has ended, this member
// stands for election, after those that are further, unless one of them has been elected meanwhile.
func (s *Store) succeedDead(ctx context.Context) {
	term := s.raft.CurrentTerm()
	dead, ok := s.followed()
	if !ok || dead.address == "" || !s.refuses(ctx, dead.address) {
		return
	}
	after := time.Duration(s.placeAfter(ctx, dead.id)) * standApart
	if after > 0 {
		after += rand.N(standApart / 2) // two that each take the other for the first do not stand together
	}
	wait := time.NewTimer(after)
	defer wait.Stop()
	for waiting := true; waiting; {
		_, changed := s.c.leader()
		if now, ok := s.followed(); !ok || now.id != "" && (now.id != dead.id || s.raft.CurrentTerm() != term) {
			return // somebody else was quicker
		}
		select {
		case <-wait.C:
			waiting = false
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
	s.cfg.Logger.Info("the leader's process has ended; this member stands for election", "leader", dead.id)
	if err := s.standNow(); err != nil {
		s.cfg.Logger.Debug("this member could not stand for election at once", "error", err)
	}
}

// refuses says whether nobody listens at the address any more. An address that does not answer at all may be
// that of a machine that is slow, and says nothing.
func (s *Store) refuses(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, refusalWait)
	defer cancel()
	c, err := s.c.hub.net.Dial(ctx, address)
	if err == nil {
		_ = c.Close()
	}
	return refused(err)
}

func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// placeAfter is how many of the other voters come before this one: those with a longer log, and, of those with as
// long a one and those that do not say, those with a lesser id: two that cannot ask each other must not both be first.
func (s *Store) placeAfter(ctx context.Context, dead string) int {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	conf, _ := s.configuration()
	mine := s.raft.LastIndex()
	var asking sync.WaitGroup
	var mu sync.Mutex
	before := 0
	for _, srv := range conf.Servers {
		id := string(srv.ID)
		if srv.Suffrage != raft.Voter || id == dead || id == s.cfg.NodeID {
			continue
		}
		asking.Go(func() {
			out, err := s.c.peers.call(ctx, string(srv.Address), callStatus, nil)
			var st memberStatus
			if err == nil {
				st, err = decodeMemberStatus(out)
			}
			if refused(err) || st.failure != "" || err == nil && st.lastIndex < mine {
				return
			}
			if id < s.cfg.NodeID || st.lastIndex > mine {
				mu.Lock()
				before++
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	return before
}

// standNow makes raft stand for election as if the leader had handed over to this member: the others vote although
// they believe to have a leader.
func (s *Store) standNow() error {
	me := raft.ServerID(s.cfg.NodeID)
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax,
		ID: []byte(me), Addr: []byte(s.cfg.Address)}}
	return votingTransport{s.c.trans}.TimeoutNow(me, raft.ServerAddress(s.cfg.Address), req, &raft.TimeoutNowResponse{})
}
