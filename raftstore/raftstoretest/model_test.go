package raftstoretest_test

import (
	"testing"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

// The suite asks for nothing that only raftstore can do, and the model is right.
func TestTheModelConforms(t *testing.T) {
	raftstoretest.Conformance(t, func(_ *testing.T, clock raftstore.Clock) raftstoretest.Store {
		return raftstoretest.NewModel(clock)
	})
}
