package raftstore

import (
	"time"

	"github.com/hashicorp/raft"
)

// votingTransport asks for votes again where a connection was of no use. Raft keeps connections to the others, and
// those to one that has been started again since are broken, which nobody notices before they are used. A vote that is
// lost that way would cost an election: raft asks each member once, and waits for its timeout then.
type votingTransport struct{ *raft.NetworkTransport }

const (
	// raftPool is how many connections to each member raft keeps.
	raftPool = 4
	// broken connections say so at once; whoever does not answer in this time is not asked again.
	brokenWithin = 100 * time.Millisecond
)

// RequestVote implements raft.Transport.
func (t votingTransport) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return askAnew(func() error { return t.NetworkTransport.RequestVote(id, to, req, resp) })
}

// RequestPreVote implements raft.WithPreVote.
func (t votingTransport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return askAnew(func() error { return t.NetworkTransport.RequestPreVote(id, to, req, resp) })
}

// TimeoutNow implements raft.Transport.
func (t votingTransport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return askAnew(func() error { return t.NetworkTransport.TimeoutNow(id, to, req, resp) })
}

// askAnew makes a call once more than there may be broken connections. A member votes for one candidate of a term, and
// may say so twice.
func askAnew(call func() error) (err error) {
	begun := time.Now()
	for range raftPool + 1 {
		if err = call(); err == nil || refused(err) || time.Since(begun) > brokenWithin {
			return err
		}
	}
	return err
}
