package scheduler

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/policies/abi"
)

// Policy takes part in decisions from outside the scheduler: all policies there are, as one. *policy.Engine satisfies
// it. A profile is a pod's schedulerName. Only the scheduler's goroutine calls it.
type Policy interface {
	// Has says whether a policy of the profile takes part in a hook ("Place", "QueueSort", "Permit", "PostFilter");
	// with "", whether there is any: then pods of that profile are scheduled here.
	Has(profile, hook string) bool
	// Changed is closed when policies have changed.
	Changed() <-chan struct{}
	// QueueKey is the pod's place in the queue: smaller goes first, equals by priority and age.
	QueueKey(ctx context.Context, pod *abi.Pod) int64
	// Place fills in verdicts, reasons (worded to follow a count) and scores, of any size, of the nodes that passed
	// the plugins. An error leaves the pod unscheduled, with the error as the reason. It must not keep p: the slices are used again.
	Place(ctx context.Context, p *abi.Placement) error
	// Permitters names the policies that say when a pod of the profile may be bound; Permit asks one.
	Permitters(profile string) []string
	Permit(ctx context.Context, policy string, req *abi.PermitRequest) (*abi.PermitResponse, error)
	// PostFilter tells that no node is left for the pod.
	PostFilter(ctx context.Context, req *abi.PostFilterRequest) *abi.PostFilterResponse
}

// The hooks, and the name under which policies count among the plugins that refused a pod.
const (
	hookPlace      = "Place"
	hookQueueSort  = "QueueSort"
	hookPermit     = "Permit"
	hookPostFilter = "PostFilter"

	policyPlugin = "Policy"
)

// policyView is what the policies are shown: the nodes as records, kept between pods. It belongs to the loop. A nil
// one has no policies.
type policyView struct {
	policy Policy
	nodes  nodeRecords
	rows   []uint32 // ask's, between calls
	which  []int
	said   []verdict

	verdicts []uint32
	scores   []int32
}

func newPolicyView(p Policy) *policyView {
	if p == nil {
		return nil
	}
	return &policyView{policy: p, nodes: newNodeRecords()}
}

func (v *policyView) has(pod *corev1.Pod, hook string) bool {
	return v != nil && v.policy.Has(pod.Spec.SchedulerName, hook)
}

// verdict is what the policies say of one node.
type verdict struct {
	reason string // why not; "": it may be taken
	score  int64
}

// ask puts a pod and the nodes that are left to the policies, in one call. nil: they have nothing to say. What it returns is
// good until it is called again.
func (v *policyView) ask(ctx context.Context, pod *framework.Pod, nodes []*framework.Node, s *framework.State) ([]verdict, error) {
	if len(nodes) == 0 || !v.has(pod.Pod, hookPlace) {
		return nil, nil
	}
	v.nodes.update(s)
	v.rows, v.which = v.nodes.candidates(nodes, v.rows, v.which)
	p := abi.Placement{Pod: policyPod(pod), Nodes: v.nodes.table, Rows: v.rows, Verdicts: v.verdicts[:0], Scores: v.scores[:0],
		PodObject: pod.Marshal,
		NodeObject: func(row uint32) ([]byte, error) {
			return s.Node(v.nodes.table.Name(row)).Node.Marshal()
		}}
	v.verdicts, v.scores = nil, nil // of one that fails, or panics, nobody knows whether it has let go of them
	if err := v.policy.Place(ctx, &p); err != nil {
		return nil, err
	}
	v.verdicts, v.scores = p.Verdicts, p.Scores
	v.said = slices.Grow(v.said[:0], len(nodes))[:len(nodes)]
	out := v.said
	clear(out)
	for at, i := range v.which {
		out[i].score = int64(p.Scores[at])
		if n := p.Verdicts[at]; n > 0 {
			out[i].reason = p.Reasons[n-1]
		}
	}
	return out, nil
}

// policyPod is a pod as policies see it.
func policyPod(p *framework.Pod) *abi.Pod {
	out := &abi.Pod{
		UID: string(p.UID), Namespace: p.Namespace, Name: p.Name,
		Labels: abi.Pairs(p.Labels), Annotations: abi.Pairs(p.Annotations),
		Priority: priority(p), PriorityClass: p.Spec.PriorityClassName,
		SchedulerName: p.Spec.SchedulerName, ServiceAccount: p.Spec.ServiceAccountName,
		Requests: quantities(p.Request), NodeSelector: abi.Pairs(p.Spec.NodeSelector),
		CreatedUnixMs: p.CreationTimestamp.UnixMilli(),
	}
	if owner := metav1.GetControllerOf(p.Pod); owner != nil {
		out.OwnerKind, out.OwnerName = owner.Kind, owner.Name
	}
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			out.Images = append(out.Images, containers[i].Image)
		}
	}
	return out
}
