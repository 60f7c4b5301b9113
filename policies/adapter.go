package policies

import (
	"context"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// Adapter runs the modules of one ABI. Everything may be called by several goroutines at once.
type Adapter interface {
	// Name is what Module.ABI says.
	Name() string
	// Detect tells whether a module speaks the ABI.
	Detect(*guest.Info) bool
	// Hosts are the functions that the module may import.
	Hosts(*guest.Info) []guest.HostModule
	// Admission and Scheduling make a policy of a module and its settings. An error refuses the policy: it has the
	// wrong kind for the module, or its settings are no good. What Scheduling returns may implement guest.QueueKeyer,
	// guest.Permitter and guest.PostFilterer too.
	Admission(context.Context, *guest.Module, abi.Policy) (guest.Admitter, error)
	Scheduling(context.Context, *guest.Module, abi.Policy) (guest.Placer, error)
}

// checker is an Adapter that can tell, before any policy uses a module, whether it can be run.
type checker interface {
	Check(context.Context, *guest.Module) error
}
