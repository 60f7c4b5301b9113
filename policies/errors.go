package policies

import "errors"

var (
	// ErrNoPolicy is what calls of a policy return that isn't set.
	ErrNoPolicy = errors.New("no such policy")
	// ErrNotReady is what calls of a policy return that is set but never became ready; its Status says why.
	ErrNotReady = errors.New("the policy isn't ready")
	// ErrNoModule is what Set returns for a policy whose module isn't loaded. The policy begins when it is.
	ErrNoModule = errors.New("the module isn't loaded")
	// ErrCircuitOpen is what calls of a policy return that failed too often of late.
	ErrCircuitOpen = errors.New("the policy failed repeatedly and isn't asked for a while")
	// ErrNoHook is what a hook returns that the policy doesn't take part in.
	ErrNoHook = errors.New("the policy doesn't take part in this")
	// ErrUnknownABI is what Load returns for a module that no adapter knows.
	ErrUnknownABI = errors.New("the module speaks no ABI that is known here")
	// ErrSuperseded is what Load returns when a newer Load of the same name was done first.
	ErrSuperseded = errors.New("a newer module was loaded under this name meanwhile")
	// ErrSettings is what Set and Load return when a module refuses the settings of a policy; the text says why.
	ErrSettings = errors.New("the settings are refused")
	// ErrClosed is what Load and Set return when Run has ended; calls find no policy.
	ErrClosed = errors.New("the policy host has ended")
)
