package raftstore_test

import (
	"testing"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		raftstoretest.Conformance(t, func(t *testing.T, clock raftstore.Clock) raftstoretest.Store {
			s, _ := run(t, raftstore.Config{NoAutoCompact: true, Clock: clock})
			return raftstoretest.Of(s)
		})
	})
	t.Run("follower", func(t *testing.T) {
		raftstoretest.Conformance(t, func(t *testing.T, clock raftstore.Clock) raftstoretest.Store {
			c := raftstoretest.NewCluster(t, raftstoretest.ClusterConfig{Memory: true, Configure: func(_ string, cfg *raftstore.Config) {
				cfg.NoAutoCompact, cfg.Clock = true, clock
			}})
			_, s := c.Follower()
			return raftstoretest.Of(s)
		})
	})
	t.Run("disk", func(t *testing.T) {
		raftstoretest.Conformance(t, func(t *testing.T, clock raftstore.Clock) raftstoretest.Store {
			return newRestartable(t, raftstore.Config{NoAutoCompact: true, Clock: clock, Dir: t.TempDir()})
		})
	})
	t.Run("sealed", func(t *testing.T) {
		raftstoretest.Conformance(t, func(t *testing.T, clock raftstore.Clock) raftstoretest.Store {
			return newRestartable(t, raftstore.Config{NoAutoCompact: true, Clock: clock, Dir: t.TempDir(), KeyProvider: raftstoretest.Key()})
		})
	})
}

// restartable is a store on disk that starts again in place.
type restartable struct {
	raftstoretest.Store
	cfg  raftstore.Config
	s    *raftstore.Store
	stop func()
}

func newRestartable(t testing.TB, cfg raftstore.Config) *restartable {
	r := &restartable{cfg: cfg}
	r.start(t)
	return r
}

func (r *restartable) start(t testing.TB) {
	r.s, r.stop = run(t, r.cfg)
	r.Store = raftstoretest.Of(r.s)
}

func (r *restartable) Restart(t testing.TB) {
	r.stop()
	r.start(t)
}
