package policy

import (
	"context"

	"github.com/pintle/pintle/policies/abi"
)

// Host runs modules. *policies.Host satisfies it. All methods may be called concurrently; only the Engine calls Load,
// Unload, Set and Remove, so that a host serves one control plane at a time.
type Host interface {
	// Load compiles a module and has the policies that use its name go over to it, between calls. When it fails, or
	// a policy's settings are refused, the previous module stays.
	Load(ctx context.Context, name string, wasm []byte) (abi.Module, error)
	// Unload forgets a module. Policies that use it may go on with it until they are removed.
	Unload(name string)
	// Set adds a policy or replaces it. When it fails the previous one stays.
	Set(ctx context.Context, policy abi.Policy) error
	// Remove forgets a policy.
	Remove(kind abi.Kind, name string)

	Admit(ctx context.Context, policy string, req *abi.AdmissionRequest) (*abi.AdmissionResponse, abi.Spent, error)
	Place(ctx context.Context, policy string, p *abi.Placement) (abi.Spent, error)
	QueueKey(ctx context.Context, policy string, pod *abi.Pod) (int64, abi.Spent, error)
	Permit(ctx context.Context, policy string, req *abi.PermitRequest) (*abi.PermitResponse, abi.Spent, error)
	PostFilter(ctx context.Context, policy string, req *abi.PostFilterRequest) (*abi.PostFilterResponse, abi.Spent, error)

	// Status says how a policy fares, and, of a scheduling policy, which hooks it takes part in.
	Status(kind abi.Kind, name string) abi.Status
}
