package raftstore

import (
	"sync"

	"github.com/hashicorp/raft"
)

// gatedTransport keeps raft's promises to other members to what is durable here: see logSync.
type gatedTransport struct {
	votingTransport
	log  *logStore
	fail *failure

	consumer chan raft.RPC
	once     *sync.Once
	closed   chan struct{}
}

func newGatedTransport(t *raft.NetworkTransport, log *logStore, fail *failure) *gatedTransport {
	g := &gatedTransport{votingTransport: votingTransport{t}, log: log, fail: fail,
		consumer: make(chan raft.RPC), once: new(sync.Once), closed: make(chan struct{})}
	go g.pump()
	return g
}

// Consumer implements raft.Transport.
func (g *gatedTransport) Consumer() <-chan raft.RPC { return g.consumer }

// Close implements raft.WithClose.
func (g *gatedTransport) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.NetworkTransport.Close()
}

// pump hands calls to raft, and has its answers to AppendEntries wait.
func (g *gatedTransport) pump() {
	in := g.NetworkTransport.Consumer()
	for {
		select {
		case rpc := <-in:
			if _, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
				answer := make(chan raft.RPCResponse, 1)
				go g.answer(answer, rpc.RespChan)
				rpc.RespChan = answer
			}
			select {
			case g.consumer <- rpc:
			case <-g.closed:
				return
			}
		case <-g.closed:
			return
		}
	}
}

func (g *gatedTransport) answer(from <-chan raft.RPCResponse, to chan<- raft.RPCResponse) {
	select {
	case r := <-from:
		last, err := g.log.LastIndex()
		if err == nil {
			err = g.log.waitDurable(last)
		}
		if err != nil {
			g.fail.set(err)
			r.Error = err
		}
		to <- r // has room for one
	case <-g.closed:
	}
}

// AppendEntries implements raft.Transport.
func (g *gatedTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	g.limit(req)
	return g.NetworkTransport.AppendEntries(id, to, req, resp)
}

// AppendEntriesPipeline implements raft.Transport.
func (g *gatedTransport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := g.NetworkTransport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	return gatedPipeline{p, g}, nil
}

type gatedPipeline struct {
	raft.AppendPipeline
	g *gatedTransport
}

func (p gatedPipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	p.g.limit(req)
	return p.AppendPipeline.AppendEntries(req, resp)
}

// limit is for what a leader sends: while it is under way, the leader syncs the same entries.
func (g *gatedTransport) limit(req *raft.AppendEntriesRequest) {
	if len(req.Entries) > 0 {
		g.log.syncSoon()
	}
	req.LeaderCommitIndex = min(req.LeaderCommitIndex, g.log.durableIndex())
}
