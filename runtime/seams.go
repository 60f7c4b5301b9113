package runtime

import (
	"context"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// Devices gives pods their devices. *gpu.Manager satisfies it. The scheduler has chosen the
// device ids and recorded them with the bind; Allocate checks and says how to inject, and never
// chooses again.
type Devices interface {
	// Resources returns what the node has, by resource name ("nvidia.com/gpu"), and how much of it is healthy.
	Resources() (capacity, allocatable corev1.ResourceList)
	// Allocate returns what to inject into one container of the pod. Idempotent.
	Allocate(ctx context.Context, pod *corev1.Pod, container string) (Injection, error)
	// Release gives back what the pod held. Idempotent.
	Release(ctx context.Context, pod *corev1.Pod) error
	// Changed is signalled when Resources would answer differently.
	Changed() <-chan struct{}
}

// Injection is what a container gets to use its devices.
type Injection struct {
	CDIDevices []string
	Devices    []Device
	Mounts     []Mount
	Env        []string
}

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
