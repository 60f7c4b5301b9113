package plugins

import (
	"errors"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	binding "github.com/pintle/pintle/orchestrator/api/volumes"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/volumes"
)

// VolumeBinding places pods that have PersistentVolumeClaims: where the volumes are that their claims are bound to, and where
// others can be had for the claims that wait for their first consumer. What it chooses for those is promised from when the pod
// is assumed until it is bound or given up; who binds it asks Plan, writes that, and waits until the claims are bound.
//
// Its book of volumes is VolumeRestrictions', VolumeZone's and NodeVolumeLimits', too.
type VolumeBinding struct {
	book    *volumes.Book
	state   *framework.State
	decided map[types.UID]map[string]*volumes.Plan // by pod, by node: what Reserve said last
}

// NewVolumeBinding makes the plugin. One serves one scheduler, all its profiles.
func NewVolumeBinding() *VolumeBinding {
	return &VolumeBinding{book: volumes.NewBook(), decided: map[types.UID]map[string]*volumes.Plan{}}
}

// Name implements framework.Plugin.
func (*VolumeBinding) Name() string { return "VolumeBinding" }

// Kept is told which State keeps the ledgers.
func (v *VolumeBinding) Kept(s *framework.State) { v.state = s }

// NewLedger implements framework.Keeper.
func (v *VolumeBinding) NewLedger(node string) framework.Ledger { return &volumesOnNode{v, node} }

// volumesOnNode hears of the pods of a node. What they use is in the plugin's book.
type volumesOnNode struct {
	plugin *VolumeBinding
	node   string
}

// SetNode implements framework.Ledger.
func (*volumesOnNode) SetNode(*corev1.Node) {}

// AddPod implements framework.Ledger: an assumed pod has what was decided for it.
func (l *volumesOnNode) AddPod(pod *framework.Pod) {
	if !hasClaims(pod) {
		return
	}
	l.plugin.book.AddUser(pod.Pod)
	if plan := l.plugin.decided[pod.UID][l.node]; pod.Spec.NodeName == "" && plan != nil {
		l.plugin.book.Promise(pod.UID, plan)
	}
}

// RemovePod implements framework.Ledger.
func (l *volumesOnNode) RemovePod(pod *framework.Pod) {
	if !hasClaims(pod) {
		return
	}
	l.plugin.book.RemoveUser(pod.Pod)
	if pod.Spec.NodeName == "" {
		l.plugin.book.Release(pod.UID)
	}
}

func hasClaims(pod *framework.Pod) bool {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.PersistentVolumeClaim != nil || v.Ephemeral != nil {
			return true
		}
	}
	return false
}

// Set adds or replaces an object of storage. It says whether that may help a pod that was refused.
func (v *VolumeBinding) Set(o runtime.Object) (helps bool) { return v.book.Set(o) }

// Remove forgets the object of that resource.
func (v *VolumeBinding) Remove(resource, namespace, name string) {
	v.book.Remove(resource, namespace, name)
}

// Book is the plugin's.
func (v *VolumeBinding) Book() *volumes.Book { return v.book }

// Plan is what is to be done before a pod that is assumed is bound; nil: nothing. False: what was decided can't be had any more.
func (v *VolumeBinding) Plan(pod types.UID) (*volumes.Plan, bool) {
	if plan := v.book.Promised(pod); plan != nil {
		return plan, true
	}
	if v.state == nil {
		return nil, true
	}
	return nil, v.decided[pod][v.state.NodeOf(pod)].Empty()
}

// Done forgets what was decided for a pod that is bound or gone.
func (v *VolumeBinding) Done(pod types.UID) {
	v.book.Release(pod)
	delete(v.decided, pod)
}

// volumesOf is the plugin that the State knows, nil if there is none.
func volumesOf(s *framework.State) *VolumeBinding {
	v, _ := s.Keeper((*VolumeBinding)(nil).Name()).(*VolumeBinding)
	return v
}

// Prepare implements framework.Plugin.
func (v *VolumeBinding) Prepare(pod *framework.Pod, s *framework.State) framework.Prepared {
	if !hasClaims(pod) {
		return framework.Prepared{Local: true}
	}
	if shared := volumesOf(s); shared != nil {
		v = shared
	}
	needs, err := v.book.Needs(pod.Pod)
	if err != nil {
		reasons := []string{err.Error()}
		return framework.Prepared{Lasting: true, Refusal: reasons[0], Filter: func(*framework.Node) []string { return reasons }}
	}
	return framework.Prepared{Lasting: true, Filter: func(n *framework.Node) []string {
		if n.Node == nil {
			return []string{volumes.NodeConflict}
		}
		_, reasons := needs.Plan(n.Node, exists(s))
		return reasons
	}}
}

func exists(s *framework.State) func(string) bool {
	return func(name string) bool {
		n := s.Node(name)
		return n != nil && n.Node != nil
	}
}

// Reserve implements framework.Reserver: it decides which volumes the pod's claims get on the node.
func (v *VolumeBinding) Reserve(pod *framework.Pod, n *framework.Node) (map[string]string, error) {
	if !hasClaims(pod) {
		return nil, nil
	}
	if l, ok := n.Ledger(v.Name()).(*volumesOnNode); ok {
		v = l.plugin
	}
	needs, err := v.book.Needs(pod.Pod)
	if err != nil {
		return nil, err
	}
	there := func(string) bool { return true }
	if v.state != nil {
		there = exists(v.state)
	}
	plan, reasons := needs.Plan(n.Node, there)
	if len(reasons) > 0 {
		return nil, errors.New(strings.Join(reasons, ", "))
	}
	if v.decided[pod.UID] == nil || len(v.decided[pod.UID]) >= decisions {
		v.decided[pod.UID] = map[string]*volumes.Plan{}
	}
	v.decided[pod.UID][n.Name] = plan
	return nil, nil
}

// SharesClaim says whether two pods have a claim in common.
func SharesClaim(a, b *framework.Pod) bool {
	if a.Namespace != b.Namespace || !hasClaims(a) || !hasClaims(b) {
		return false
	}
	for _, x := range binding.Uses(a.Pod) {
		for _, y := range binding.Uses(b.Pod) {
			if x.Claim == y.Claim {
				return true
			}
		}
	}
	return false
}
