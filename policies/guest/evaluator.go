package guest

import (
	"context"

	"github.com/pintle/pintle/policies/abi"
)

// What an adapter makes of a module, a policy's settings and a pool. They are safe for concurrent use, and Close
// waits for their calls until ctx ends.

// Admitter judges writes.
type Admitter interface {
	Admit(ctx context.Context, req *abi.AdmissionRequest) (*abi.AdmissionResponse, abi.Spent, error)
	Close(ctx context.Context) error
}

// Placer filters and scores nodes: it sets all of the placement's verdicts, scores and reasons, which are as some call
// before left them (abi.Placement.Reset makes them zero). After an error they mean nothing.
type Placer interface {
	Place(ctx context.Context, p *abi.Placement) (abi.Spent, error)
	Close(ctx context.Context) error
}

// A Placer may also be any of these.
type (
	// QueueKeyer orders pods that wait: smaller goes first.
	QueueKeyer interface {
		QueueKey(ctx context.Context, pod *abi.Pod) (int64, abi.Spent, error)
	}
	// Permitter is asked when a node is chosen and nothing is bound yet.
	Permitter interface {
		Permit(ctx context.Context, req *abi.PermitRequest) (*abi.PermitResponse, abi.Spent, error)
	}
	// PostFilterer is asked when no node is left.
	PostFilterer interface {
		PostFilter(ctx context.Context, req *abi.PostFilterRequest) (*abi.PostFilterResponse, abi.Spent, error)
	}
	// Hooker says which hooks it takes part in: "Place", "QueueSort", "Permit", "PostFilter".
	Hooker interface{ Hooks() []string }
)
