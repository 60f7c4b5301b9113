package gpu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pintle/pintle/gpu/topology"
)

// Injection is what a container needs to use what its pod was given.
type Injection struct {
	// CDI names the devices, fully qualified, as a runtime that reads CDI specifications takes them.
	CDI []string
	// Env are variables as NAME=value. NVIDIA_VISIBLE_DEVICES is for runtimes and programs that know no
	// CDI; the specification sets it to void, so that NVIDIA's runtime doesn't inject a second time.
	Env []string
	// Mounts are folders that both sides see, as for the MPS daemon.
	Mounts []Mount
	// NUMA are the nodes of the devices that are known, in order: where to pin CPUs and memory.
	NUMA []int
}

// Mount is a folder of the host in the container.
type Mount struct{ Host, Container string }

// mpsPipes is where containers see the MPS daemon's pipes.
const mpsPipes = "/tmp/nvidia-mps"

// Injection is what the container of the pod gets; nothing, where the pod has no devices for it.
func (m *Manager) Injection(pod, container string) (Injection, error) {
	c, ok := m.claims.all()[pod]
	if !ok {
		return Injection{}, nil
	}
	inv := m.Inventory()
	var out Injection
	var visible []string
	share, memory := 0, int64(0)
	for _, g := range c.Grants {
		if g.Container != "" && g.Container != container {
			continue
		}
		if g.Profile != "" && g.MIG == "" {
			return Injection{}, fmt.Errorf("the MIG %s for pod %s was promised and isn't there; release the claim and make it again", g.Profile, pod)
		}
		visible = append(visible, g.Device())
		out.CDI = append(out.CDI, CDIKind+"="+g.Device())
		d, ok := inv.Device(g.GPU)
		if !ok {
			continue
		}
		if part := g.Part(int64(d.MemoryBytes)); g.Share > 0 {
			share, memory = max(share, part.Milli), max(memory, part.Memory)
		}
		if d.NUMA >= 0 && !slices.Contains(out.NUMA, d.NUMA) {
			out.NUMA = append(out.NUMA, d.NUMA)
		}
	}
	if len(visible) == 0 {
		return Injection{}, nil
	}
	slices.Sort(out.NUMA)
	out.Env = []string{"NVIDIA_VISIBLE_DEVICES=" + strings.Join(visible, ",")}
	switch inv.Sharing.Mode {
	case MPS:
		out.Env = append(out.Env,
			"CUDA_MPS_PIPE_DIRECTORY="+mpsPipes,
			fmt.Sprintf("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=%d", max(1, 100/inv.Sharing.shares())),
		)
		if limit := pinned(inv, visible); limit != "" {
			out.Env = append(out.Env, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT="+limit)
		}
		// Clients and the daemon's servers share memory, too.
		out.Mounts = append(out.Mounts, Mount{Host: m.cfg.MPS.Dir, Container: mpsPipes}, Mount{Host: "/dev/shm", Container: "/dev/shm"})
	case Fractions:
		out.Env = append(out.Env, fmt.Sprintf("PINTLE_GPU_SHARE=%d", share), fmt.Sprintf("PINTLE_GPU_MEMORY=%d", memory))
	}
	return out, nil
}

// pinned divides each GPU's memory evenly among its clients, as MPS writes it: 0=10240M,1=10240M, counted
// among the devices that the container sees.
func pinned(inv *Inventory, visible []string) string {
	var limits []string
	for i, uuid := range visible {
		if d, ok := inv.Device(uuid); ok && d.MemoryBytes > 0 {
			limits = append(limits, fmt.Sprintf("%d=%dM", i, d.MemoryBytes>>20/uint64(inv.Sharing.shares())))
		}
	}
	return strings.Join(limits, ",")
}

// LimitMemory has the driver keep a container to the memory that its pod was given, by the folder of its
// cgroup: call it when the cgroup is there and before the container's program starts. A whole GPU is not
// limited, and a soft grant only where the driver can.
func (m *Manager) LimitMemory(pod, container, cgroup string) error {
	c, ok := m.claims.all()[pod]
	if !ok {
		return nil
	}
	inv := m.Inventory()
	for _, g := range c.Grants {
		d, found := inv.Device(g.GPU)
		if g.Container != "" && g.Container != container || g.Share == 0 || g.Share >= topology.Whole {
			continue
		}
		if !found || !d.MemoryLimits {
			if g.Soft {
				continue
			}
			return fmt.Errorf("limit the GPU memory of pod %s: GPU %s: %w", pod, g.GPU, ErrNotEnforced)
		}
		if err := m.withSession(func(s Session) error {
			return s.LimitMemory(g.GPU, cgroup, uint64(g.Part(int64(d.MemoryBytes)).Memory))
		}); err != nil {
			return fmt.Errorf("limit the GPU memory of pod %s: %w", pod, err)
		}
	}
	return nil
}
