package gang

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// Cluster is what a gang is tried against.
type Cluster interface {
	// Nodes are those that exist.
	Nodes() []*framework.Node
	// Place chooses a node of the domain for the pod and records the pod there. The error says why there is none.
	Place(pod *framework.Pod, in Domain) (node string, err error)
	// Fits says whether the pod, which is recorded nowhere, may be recorded on the node.
	Fits(pod *framework.Pod, node string) bool
	// Set records a pod on a node, Remove takes it from there, NodeOf is where it is ("": nowhere).
	Set(pod *framework.Pod, node string)
	Remove(uid types.UID)
	NodeOf(uid types.UID) string
	// Admit says whether these pods, which are recorded nowhere, may have nodes at all: whether there is quota for them.
	Admit(pods []*framework.Pod) error
}

// Domain is the nodes whose label Key has the value; the zero Domain is all nodes.
type Domain struct{ Key, Value string }

// String is "key=value".
func (d Domain) String() string { return d.Key + "=" + d.Value }

// Has says whether the node is in the domain.
func (d Domain) Has(n *framework.Node) bool {
	if d.Key == "" {
		return true
	}
	value, ok := n.Node.Labels[d.Key]
	return ok && value == d.Value
}

// Gang is a group of pods, as it stands.
type Gang struct {
	Name string
	// Min is how many members must have nodes at the same time.
	Min int
	// Key is the node label of which all members share one value; "": they may run anywhere.
	Key string
	// Prefer are the labels of which they had better share a value, the most wanted first.
	Prefer []string
	// Placed are the nodes of the members that have one, one for each.
	Placed []string
	// Pending are the members that have none.
	Pending []*framework.Pod
	brief   bool // it need not be told how many could be placed
}

// Members is how many there are.
func (g *Gang) Members() int { return len(g.Placed) + len(g.Pending) }

// Assigned is a member and the node that it was given.
type Assigned struct {
	Pod  *framework.Pod
	Node string
}

// Placement is where a gang's pending members go.
type Placement struct {
	Domain Domain // zero: anywhere
	Placed []Assigned
	Left   []*framework.Pod // those beyond Min that found no node
}

// bySize orders pods so that those which are hardest to place come first.
func bySize(a, b *framework.Pod) int {
	if c := cmp.Compare(scalars(b), scalars(a)); c != 0 {
		return c
	}
	if c := cmp.Compare(b.Request.MilliCPU, a.Request.MilliCPU); c != 0 {
		return c
	}
	if c := cmp.Compare(b.Request.Memory, a.Request.Memory); c != 0 {
		return c
	}
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	return cmp.Compare(a.Name, b.Name)
}

func scalars(p *framework.Pod) (n int64) {
	for _, amount := range p.Request.Scalar {
		n += amount
	}
	return n
}

// Each calls f for every amount of a resource list that isn't 0.
func each(r *framework.Resource, f func(name corev1.ResourceName, amount int64)) {
	for name, amount := range map[corev1.ResourceName]int64{corev1.ResourceCPU: r.MilliCPU, corev1.ResourceMemory: r.Memory,
		corev1.ResourceEphemeralStorage: r.EphemeralStorage, corev1.ResourcePods: r.Pods} {
		if amount != 0 {
			f(name, amount)
		}
	}
	for name, amount := range r.Scalar {
		if amount != 0 {
			f(name, amount)
		}
	}
}

func free(n *framework.Node, name corev1.ResourceName) int64 {
	return max(0, n.Allocatable.Of(name)-n.Requested.Of(name))
}

// least is what every one of the pods asks for at least.
func least(pods []*framework.Pod) map[corev1.ResourceName]int64 {
	out := map[corev1.ResourceName]int64{}
	for i, p := range pods {
		if i == 0 {
			each(&p.Request, func(name corev1.ResourceName, n int64) { out[name] = n })
			continue
		}
		for name, have := range out {
			if n := p.Request.Of(name); n == 0 {
				delete(out, name)
			} else {
				out[name] = min(have, n)
			}
		}
	}
	return out
}

// total is what the pods ask for together.
func total(pods []*framework.Pod) map[corev1.ResourceName]int64 {
	out := map[corev1.ResourceName]int64{}
	for _, p := range pods {
		each(&p.Request, func(name corev1.ResourceName, n int64) { out[name] += n })
	}
	return out
}

// atMost bounds from above how many pods that ask for least find room on the nodes.
func atMost(nodes []*framework.Node, least map[corev1.ResourceName]int64, enough int) (n int) {
	for _, node := range nodes {
		fit := int64(enough)
		for name, want := range least {
			if counted(name) {
				fit = min(fit, free(node, name)/want)
			}
		}
		if n += int(fit); n >= enough {
			return enough
		}
	}
	return n
}

// counted says whether a node has as much of a resource as it says: parts of GPUs are made when a pod asks for them.
func counted(name corev1.ResourceName) bool {
	return !strings.HasPrefix(string(name), "nvidia.com/mig-") && !strings.HasPrefix(string(name), "gpu.pintle.dev/")
}

func sortedBySize(pods []*framework.Pod) []*framework.Pod {
	out := slices.Clone(pods)
	slices.SortFunc(out, bySize)
	return out
}
