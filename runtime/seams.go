package runtime

import (
	"context"
	"net/netip"
)

// Drainer keeps the order of endings: the agent asks it before it signals a pod's containers.
// *netproxy.Proxy satisfies it.
type Drainer interface {
	// Drained returns once no proxy or ingress sends new connections to addr, or when ctx ends.
	Drained(ctx context.Context, addr netip.Addr) error
}

// Preparer is an Engine whose containers may have to wait for something long before they start, which
// their pod then says in an event.
type Preparer interface {
	// Preparing is what StartContainer of the container would wait for now, in words; "" is nothing.
	Preparing(containerID string) string
}

// CgroupStarter is an Engine that can be told something to do between the making of a container's cgroup and the
// start of its program.
type CgroupStarter interface {
	// StartContainerIn is StartContainer. It calls before with the cgroup's folder; its error is that of a container
	// that can't run.
	StartContainerIn(ctx context.Context, id string, before func(cgroup string) error) error
}

// Resizer is an Engine that can change the limits of what runs. Zeros leave what is set: limits change, and don't go.
type Resizer interface {
	// ResizeContainer makes r the limits of a running container, without a restart.
	ResizeContainer(ctx context.Context, id string, r Resources) error
	// ResizeSandbox makes r the limits of all that a sandbox's containers use together.
	ResizeSandbox(ctx context.Context, id string, r Resources) error
}
