package consolidation

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	helpers "k8s.io/component-helpers/resource"

	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/scheduler/devices"
)

// Bounds of one look.
const (
	maxWaiting = 16 // pods that wait for whole GPUs
	maxNodes   = 32 // nodes that are weighed for one of them

	settling = time.Minute // as long a pod that was just made counts as one that was moved and has no node yet
)

// fractional is the mode in which GPUs are given in parts (gpu.Fractions).
const fractional = "fractional"

// input is what is decided on.
type input struct {
	nodes   []*corev1.Node
	pods    []*corev1.Pod
	budgets []*policyv1.PodDisruptionBudget
	resting func(controller types.UID) bool // its pods were moved a short time ago
	now     time.Time
	most    int  // moves
	always  bool // also without a pod that waits
}

// move ends a pod on one node; there is room for it on another.
type move struct {
	pod      *corev1.Pod
	from, to string
}

// plan is what would be done, and for whom; or why nothing is.
type plan struct {
	moves []move
	for1  *corev1.Pod // that waits; nil: for whoever comes
	node  string      // where GPUs become free for it
	why   string
}

// decide is pure.
func decide(in input) plan {
	var waiting []*corev1.Pod
	for _, p := range in.pods {
		if p.Spec.NodeName != "" || !reconcile.PodActive(p) || !devices.Asks(p) {
			continue
		}
		switch c := devices.RequestOf(p).Class; {
		case c.GPUs > 0 && c.GPUMilli < topology.Whole && in.now.Sub(p.CreationTimestamp.Time) < settling:
			return plan{why: "a pod that asks for a part of a GPU has just come: it goes first"}
		case c.GPUs > 0 && c.GPUMilli == topology.Whole && unschedulable(p):
			waiting = append(waiting, p)
		}
	}
	s := survey(in)
	if len(waiting) == 0 {
		if !in.always {
			return plan{why: "no pod waits for whole GPUs"}
		}
		p := plan{moves: s.moves(devices.Consolidate(s.hosts, in.most))}
		if len(p.moves) == 0 {
			p.why = "no GPU can be emptied"
		}
		return p
	}
	slices.SortStableFunc(waiting, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(priority(b), priority(a)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, w := range waiting[:min(len(waiting), maxWaiting)] {
		if p, ok := s.clear(w, in.most); ok {
			return p
		}
	}
	return plan{why: "no node can be given the whole GPUs that pods wait for"}
}

func unschedulable(p *corev1.Pod) bool {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodScheduled {
			return c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable
		}
	}
	return false
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// surveyed is the cluster as Consolidate takes it.
type surveyed struct {
	nodes  map[string]*corev1.Node
	pods   map[types.UID]*corev1.Pod
	hosts  []devices.Host
	places map[types.UID]int // of tenants: the GPU
}

func survey(in input) *surveyed {
	s := &surveyed{nodes: map[string]*corev1.Node{}, pods: map[types.UID]*corev1.Pod{}, places: map[types.UID]int{}}
	on := map[string][]*corev1.Pod{}
	for _, p := range in.pods {
		if p.Spec.NodeName != "" && !reconcile.PodTerminal(p) {
			on[p.Spec.NodeName] = append(on[p.Spec.NodeName], p)
		}
	}
	left := map[*policyv1.PodDisruptionBudget]int{}
	for _, b := range in.budgets {
		left[b] = allowed(b)
	}
	movable := func(p *corev1.Pod) bool {
		if stays(p) != "" {
			return false
		}
		if owner := metav1.GetControllerOfNoCopy(p); owner != nil && in.resting(owner.UID) {
			return false
		}
		budgets := covering(p, in.budgets)
		if len(budgets) > 1 { // the eviction API refuses those, too
			return false
		}
		for _, b := range budgets {
			if left[b]--; left[b] < 0 {
				return false
			}
		}
		return true
	}
	for _, n := range in.nodes {
		s.nodes[n.Name] = n
		told, err := topology.ParseNodeGPUs(n.Annotations[topology.NodeAnnotation])
		if err != nil || told.Mode != fractional || n.DeletionTimestamp != nil {
			continue
		}
		slices.SortFunc(on[n.Name], func(a, b *corev1.Pod) int { return cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
		s.hosts = append(s.hosts, s.host(n, &told, on[n.Name], movable))
	}
	slices.SortFunc(s.hosts, func(a, b devices.Host) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

// host is one node. GPUs that can't be used are as if they were full.
func (s *surveyed) host(n *corev1.Node, told *topology.NodeGPUs, pods []*corev1.Pod, movable func(*corev1.Pod) bool) devices.Host {
	h := devices.Host{Name: n.Name, Free: topology.NodeFree{CPUMilli: n.Status.Allocatable.Cpu().MilliValue(), Memory: n.Status.Allocatable.Memory().Value(),
		GPUMilli: make([]int, len(told.GPUs))}}
	at := map[string]int{}
	for i := range told.GPUs {
		g := &told.GPUs[i]
		at[g.UUID] = i
		h.Free.Model = g.Model
		if g.Unhealthy == "" && !g.Divided {
			h.Free.GPUMilli[i] = topology.Whole
		}
	}
	for _, p := range pods {
		request := helpers.PodRequests(p, helpers.PodResourcesOptions{})
		cpu, memory := request.Cpu().MilliValue(), request.Memory().Value()
		h.Free.CPUMilli -= cpu
		h.Free.Memory -= memory
		grants, err := topology.ParseGrants(p.Annotations[topology.PodAnnotation])
		if err != nil {
			continue
		}
		for _, g := range grants {
			i, known := at[g.GPU]
			if !known {
				continue
			}
			t := devices.Tenant{UID: p.UID, GPU: i, Milli: taken(g, told.GPUs[i].Memory), CPUMilli: cpu, Memory: memory}
			if t.Milli < topology.Whole && len(grants) == 1 && movable(p) {
				t.Movable, t.Suits = true, func(node string) bool { return suits(p, s.nodes[node]) }
			}
			h.Free.GPUMilli[i] = max(0, h.Free.GPUMilli[i]-t.Milli)
			h.Tenants = append(h.Tenants, t)
			s.pods[p.UID], s.places[p.UID] = p, i
		}
	}
	return h
}

// taken is how much of a GPU a grant takes, in thousandths of its time or its memory, whichever is more.
func taken(g topology.Grant, memory int64) int {
	if g.MIG != "" || g.Profile != "" || g.Claim != "" || g.Share == 0 && g.Memory == 0 {
		return topology.Whole
	}
	part := g.Part(memory)
	milli := part.Milli
	if memory > 0 {
		milli = max(milli, int((g.Memory*topology.Whole+memory-1)/memory))
	}
	return min(milli, topology.Whole)
}

func (s *surveyed) moves(planned []devices.Move) (out []move) {
	for _, m := range planned {
		out = append(out, move{s.pods[m.UID], m.From, m.To})
	}
	return out
}

// clear plans for one pod that waits: the node where the fewest must move.
func (s *surveyed) clear(w *corev1.Pod, most int) (best plan, ok bool) {
	class := devices.RequestOf(w).Class
	type option struct {
		host    int
		missing int
	}
	var options []option
	for i := range s.hosts {
		h := &s.hosts[i]
		if !suits(w, s.nodes[h.Name]) {
			continue
		}
		idle, emptied := 0, 0
		for g, free := range h.Free.GPUMilli {
			switch {
			case free == topology.Whole:
				idle++
			case s.empties(h, g):
				emptied++
			}
		}
		missing := class.GPUs - idle
		if missing <= 0 {
			if class.CPUMilli <= h.Free.CPUMilli && class.Memory <= h.Free.Memory {
				return plan{}, false // it has GPUs there: it isn't them that it waits for
			}
			continue
		}
		if missing <= emptied {
			options = append(options, option{i, missing})
		}
	}
	slices.SortStableFunc(options, func(a, b option) int { return a.missing - b.missing })
	for _, o := range options[:min(len(options), maxNodes)] {
		moves, leaves := s.emptyOn(o.host, o.missing, most)
		h := &s.hosts[o.host]
		if moves == nil || ok && len(moves) >= len(best.moves) ||
			class.CPUMilli > h.Free.CPUMilli+leaves.CPUMilli || class.Memory > h.Free.Memory+leaves.Memory {
			continue
		}
		best, ok = plan{moves: moves, for1: w, node: h.Name}, true
	}
	return best, ok
}

// empties says whether all tenants of a GPU in use may move.
func (s *surveyed) empties(h *devices.Host, gpu int) bool {
	any := false
	for _, t := range h.Tenants {
		if t.GPU == gpu {
			if any = true; !t.Movable {
				return false
			}
		}
	}
	return any
}

// emptyOn plans to empty so many GPUs of one host; nil if that can't be done with so many moves. leaves is what goes to other
// nodes of its CPU and memory.
func (s *surveyed) emptyOn(host, gpus, most int) (moves []move, leaves topology.NodeFree) {
	hosts := slices.Clone(s.hosts)
	for i := range hosts {
		if i == host {
			continue
		}
		hosts[i].Tenants = slices.Clone(hosts[i].Tenants)
		for j := range hosts[i].Tenants {
			hosts[i].Tenants[j].Movable = false
		}
	}
	planned := devices.Consolidate(hosts, most)
	emptied, last := 0, -1
	for i, m := range planned {
		if at := s.places[m.UID]; at != last { // a GPU's tenants go one after the other
			if emptied == gpus {
				planned = planned[:i]
				break
			}
			emptied, last = emptied+1, at
		}
	}
	if emptied < gpus {
		return nil, leaves
	}
	for _, m := range planned {
		if m.To == m.From {
			continue
		}
		for _, t := range hosts[host].Tenants {
			if t.UID == m.UID {
				leaves.CPUMilli += t.CPUMilli
				leaves.Memory += t.Memory
			}
		}
	}
	return s.moves(planned), leaves
}
