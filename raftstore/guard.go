package raftstore

import (
	"errors"
	"runtime"
	"sync"

	"github.com/hashicorp/raft"
)

// failure is the first local error that this node cannot go on after.
type failure struct {
	once sync.Once
	done chan struct{}
	err  error // readable once done is closed
}

func (f *failure) set(err error) {
	f.once.Do(func() { f.err = err; close(f.done) })
}

func (f *failure) get() error {
	select {
	case <-f.done:
		return f.err
	default:
		return nil
	}
}

// guard stands between raft and its stores. hashicorp/raft panics, on goroutines of its own, when
// they fail; here the failing goroutine ends instead and the node is marked failed. Pending calls
// end with errors when the node then shuts raft down.
type guard struct {
	f *failure
}

// check must run on raft's goroutines only: NewRaft is therefore called on a goroutine that may end.
func (g guard) check(err error) error {
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		g.f.set(err)
		runtime.Goexit()
	}
	return err
}

type guardedLog struct {
	guard
	raft.LogStore
	monotonic bool
}

func (g *guardedLog) IsMonotonic() bool                  { return g.monotonic }
func (g *guardedLog) GetLog(i uint64, l *raft.Log) error { return g.check(g.LogStore.GetLog(i, l)) }
func (g *guardedLog) StoreLog(l *raft.Log) error         { return g.check(g.LogStore.StoreLog(l)) }
func (g *guardedLog) StoreLogs(ls []*raft.Log) error     { return g.check(g.LogStore.StoreLogs(ls)) }

// DeleteRange only marks the failure: raft takes the error well, and the goroutine that cuts the
// log has callers that wait for it.
func (g *guardedLog) DeleteRange(minIndex, maxIndex uint64) error {
	err := g.LogStore.DeleteRange(minIndex, maxIndex)
	if err != nil {
		g.f.set(err)
	}
	return err
}

type guardedStable struct {
	guard
	raft.StableStore
}

func (g *guardedStable) Set(k, v []byte) error { return g.check(g.StableStore.Set(k, v)) }
func (g *guardedStable) SetUint64(k []byte, v uint64) error {
	return g.check(g.StableStore.SetUint64(k, v))
}
