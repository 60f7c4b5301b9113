package raftstore

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// heldLog is a log whose syncs wait until let is closed, and then end with err.
func heldLog(t *testing.T) (log *logStore, let chan struct{}, err *error) {
	t.Helper()
	let, err = make(chan struct{}), new(error)
	log, openErr := openLog(t.TempDir(), &keyring{}, func(op string) error {
		if op == "log sync" {
			<-let
			return *err
		}
		return nil
	})
	if openErr != nil {
		t.Fatal(openErr)
	}
	t.Cleanup(func() {
		select {
		case <-let:
		default:
			close(let) // the test has failed: a sync that waits must not hold it up
		}
		_ = log.Close()
	})
	return log, let, err
}

func entry(index uint64, typ raft.LogType) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Type: typ, Data: []byte("d")}
}

// blocked calls f on a goroutine, and fails if it returns before let is closed.
func blocked(t *testing.T, let chan struct{}, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		t.Fatalf("it did not wait for the sync: %v", err)
	case <-time.After(50 * time.Millisecond): // too short to notice is no failure
	}
	close(let)
	return <-done
}

func TestNothingPassesTheGatesBeforeTheSync(t *testing.T) {
	t.Run("an entry is applied", func(t *testing.T) {
		log, let, _ := heldLog(t)
		if err := log.StoreLogs([]*raft.Log{entry(1, raft.LogCommand)}); err != nil {
			t.Fatal(err)
		}
		if err := blocked(t, let, func() error { return log.waitDurable(1) }); err != nil || log.durableIndex() != 1 {
			t.Error(err, log.durableIndex())
		}
	})
	t.Run("a follower answers", func(t *testing.T) {
		log, let, _ := heldLog(t)
		g := &gatedTransport{log: log, fail: &failure{done: make(chan struct{})}, closed: make(chan struct{})}
		if err := log.StoreLogs([]*raft.Log{entry(1, raft.LogCommand)}); err != nil {
			t.Fatal(err)
		}
		from, to := make(chan raft.RPCResponse, 1), make(chan raft.RPCResponse, 1)
		from <- raft.RPCResponse{}
		if err := blocked(t, let, func() error { g.answer(from, to); return nil }); err != nil || len(to) != 1 {
			t.Error(err, len(to))
		}
	})
	t.Run("a leader names the index", func(t *testing.T) {
		log, let, _ := heldLog(t)
		g := &gatedTransport{log: log}
		if err := log.StoreLogs([]*raft.Log{entry(1, raft.LogCommand)}); err != nil {
			t.Fatal(err)
		}
		r := raft.AppendEntriesRequest{LeaderCommitIndex: 1}
		if g.limit(&r); r.LeaderCommitIndex != 0 {
			t.Error("followers hear that an entry is committed which the leader may lose")
		}
		close(let)
		if err := log.waitDurable(1); err != nil {
			t.Fatal(err)
		}
		r.LeaderCommitIndex = 1
		if g.limit(&r); r.LeaderCommitIndex != 1 {
			t.Error("followers do not hear what is committed")
		}
	})
	t.Run("members change", func(t *testing.T) {
		log, let, _ := heldLog(t)
		if err := blocked(t, let, func() error { return log.StoreLogs([]*raft.Log{entry(1, raft.LogConfiguration)}) }); err != nil {
			t.Error(err)
		}
	})
}

func TestAFailedSyncOpensNoGate(t *testing.T) {
	log, let, err := heldLog(t)
	*err = errors.New("the disk is gone")
	if err := log.StoreLogs([]*raft.Log{entry(1, raft.LogCommand)}); err != nil {
		t.Fatal(err)
	}
	if got := blocked(t, let, func() error { return log.waitDurable(1) }); !errors.Is(got, *err) {
		t.Errorf("%v", got)
	}
	if got := log.StoreLogs([]*raft.Log{entry(2, raft.LogCommand)}); !errors.Is(got, *err) {
		t.Errorf("the log goes on: %v", got)
	}
}

func TestATruncatedTailIsDurableOnlyWhenItIsWrittenAgain(t *testing.T) {
	log, let, _ := heldLog(t)
	close(let)
	if err := log.StoreLogs([]*raft.Log{entry(1, raft.LogCommand), entry(2, raft.LogCommand)}); err != nil {
		t.Fatal(err)
	}
	if err := log.waitDurable(2); err != nil {
		t.Fatal(err)
	}
	if err := log.DeleteRange(2, 2); err != nil {
		t.Fatal(err)
	}
	if err := log.StoreLogs([]*raft.Log{entry(2, raft.LogCommand)}); err != nil {
		t.Fatal(err)
	}
	if d := log.durableIndex(); d != 1 {
		t.Errorf("durable up to %d", d)
	}
}
