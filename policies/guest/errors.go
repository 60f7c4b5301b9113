package guest

import (
	"errors"
	"fmt"
)

// Why a call ended, beside *Trap and *Exit. Test for them with errors.Is.
var (
	ErrFuel      = errors.New("guest: out of fuel: the call needs more instructions than its limit allows")
	ErrMemory    = errors.New("guest: out of memory: the module needs more than its limit allows")
	ErrStack     = errors.New("guest: out of stack: the guest recurses deeper than its limit allows")
	ErrTimeout   = errors.New("guest: the call took longer than its limit allows")
	ErrHostCalls = errors.New("guest: more calls to the host than the limit allows")
	ErrOutput    = errors.New("guest: the answer is longer than the limit allows")
	ErrBounds    = errors.New("guest: an address or a length lies outside the guest's memory")
	ErrClosed    = errors.New("guest: closed")
)

// Refused says why a module can't be run at all. It is never worth trying again with the same bytes.
type Refused struct{ Err error }

func (e *Refused) Error() string { return "guest: module refused: " + e.Err.Error() }
func (e *Refused) Unwrap() error { return e.Err }

// Trap is a guest that failed: it aborted itself, divided by zero, reached outside its memory.
type Trap struct {
	Reason string // as WebAssembly names it
	Stack  string // where, as far as the module has names; several lines
	Cause  error  // ErrMemory where the guest was refused memory before; nil otherwise
}

func (e *Trap) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("guest: %s, after it was refused memory", e.Reason)
	}
	return "guest: " + e.Reason
}

func (e *Trap) Unwrap() error { return e.Cause }

// Exit is a guest that called proc_exit. Its instance stays usable: some languages exit from _start and export
// functions that are called afterwards.
type Exit struct{ Code uint32 }

func (e *Exit) Error() string { return fmt.Sprintf("guest: exited with code %d", e.Code) }
