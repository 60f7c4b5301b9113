package abi

import "time"

// Limits is what one call of a policy may use, and what its module may be. Zero fields take the default.
type Limits struct {
	Fuel        uint64        // instructions of one call; default 50 million
	MemoryBytes uint64        // linear memory of one instance; default 64 MiB
	OutputBytes int           // of one answer; default 4 MiB
	HostCalls   int           // of one call; default 10,000
	Timeout     time.Duration // backstop behind Fuel; default 1 s
}

// Kind says what a policy takes part in.
type Kind string

const (
	Admission  Kind = "Admission"
	Scheduling Kind = "Scheduling"
)

// Policy is one policy as the host runs it: a module, its settings and what it may do.
type Policy struct {
	Name         string // unique within its kind
	Kind         Kind
	Module       string   // by the name under which it was loaded
	Settings     []byte   // a JSON value; empty: none
	Limits       Limits   // of each call
	Capabilities []string // granted: "clock", "read:group/resource" (core is the empty group: "read:/pods")
	Hooks        []string // of a scheduling policy: "Place", "QueueSort", "Permit", "PostFilter"; nil: what the module exports
}

// Module says what a loaded module is.
type Module struct {
	Name      string
	Digest    string // "sha256:" and hex, of the bytes that were given
	ABI       string // "pintle/v1", or the adapter's name
	Size      int    // bytes
	Toolchain string // what made it, as far as its producers section says
	Compile   time.Duration
}

// Status is how a policy fares.
type Status struct {
	Ready      bool
	Reason     string // why it isn't ready, or what it does instead ("CircuitOpen")
	Message    string
	Digest     string // of the module in use
	Calls      uint64
	Rejections uint64
	Errors     uint64
	P50, P99   time.Duration // of recent calls
	Fuel       uint64        // of all calls
	Hooks      []string      // of a scheduling policy that is ready: those that it takes part in
}

// Spent is what one call used.
type Spent struct {
	Time   time.Duration
	Fuel   uint64
	Memory uint64 // bytes of linear memory after the call
}
