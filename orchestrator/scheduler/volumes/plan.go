package volumes

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	binding "github.com/pintle/pintle/orchestrator/api/volumes"
)

// Reasons, in kube-scheduler's words.
const (
	UnboundImmediate = "pod has unbound immediate PersistentVolumeClaims"
	NodeConflict     = "node(s) had volume node affinity conflict"
	BindConflict     = "node(s) didn't find available persistent volumes to bind"
	NotEnoughSpace   = "node(s) did not have enough free storage"
	VolumeNotThere   = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
)

// Match is a claim, and the volume that it gets.
type Match struct {
	Claim  *corev1.PersistentVolumeClaim
	Volume *corev1.PersistentVolume
}

// Plan is what is to be written before a pod is bound to a node.
type Plan struct {
	Node      string
	Bind      []Match
	Provision []*corev1.PersistentVolumeClaim // a volume is to be made for these, for the node
}

// Empty says that nothing is to be written, nor waited for.
func (p *Plan) Empty() bool { return p == nil || len(p.Bind) == 0 && len(p.Provision) == 0 }

// claims visits the claims that a plan is for.
func (p *Plan) claims(visit func(*corev1.PersistentVolumeClaim)) {
	for _, m := range p.Bind {
		visit(m.Claim)
	}
	for _, c := range p.Provision {
		visit(c)
	}
}

// Needs are the claims of a pod, by what has to be done for them.
type Needs struct {
	book    *Book
	pod     types.UID
	bound   []*corev1.PersistentVolumeClaim
	delayed []*corev1.PersistentVolumeClaim // smallest first
}

// Needs looks at a pod's claims; nil: it has none. The error says why no node will do.
func (b *Book) Needs(pod *corev1.Pod) (*Needs, error) {
	uses := binding.Uses(pod)
	if len(uses) == 0 {
		return nil, nil
	}
	n := &Needs{book: b, pod: pod.UID}
	immediate := false
	for _, u := range uses {
		c := b.claims[key(pod.Namespace, u.Claim)]
		switch {
		case c == nil && u.Ephemeral:
			return nil, fmt.Errorf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", u.Claim)
		case c == nil:
			return nil, fmt.Errorf("persistentvolumeclaim %q not found", u.Claim)
		case c.Status.Phase == corev1.ClaimLost:
			return nil, fmt.Errorf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", c.Name, c.Spec.VolumeName)
		case c.DeletionTimestamp != nil:
			return nil, fmt.Errorf("persistentvolumeclaim %q is being deleted", c.Name)
		case u.Ephemeral:
			if err := binding.MadeFor(pod, c); err != nil {
				return nil, err
			}
		}
		if slices.Contains(n.bound, c) || slices.Contains(n.delayed, c) {
			continue
		}
		class := b.classes[api.ClaimClass(c)]
		switch {
		case Complete(c):
			n.bound = append(n.bound, c)
		case c.Spec.VolumeName == "" && class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer:
			n.delayed = append(n.delayed, c)
		default:
			immediate = true
		}
	}
	if immediate {
		return nil, errors.New(UnboundImmediate)
	}
	slices.SortStableFunc(n.delayed, func(x, y *corev1.PersistentVolumeClaim) int {
		a, b := binding.Size(x), binding.Size(y)
		return a.Cmp(b)
	})
	return n, nil
}

// Volumes are those that the pod's claims are bound to, nil in place of one that isn't there.
func (n *Needs) Volumes() (out []*Volume) {
	for _, c := range n.bound {
		out = append(out, n.book.volumes[c.Spec.VolumeName])
	}
	return out
}

// Plan says what is to be done for the pod to run on a node, or why it can't. there says whether a node exists.
func (n *Needs) Plan(node *corev1.Node, there func(name string) bool) (*Plan, []string) {
	var reasons []string
	add := func(reason string) {
		if !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	for _, c := range n.bound {
		switch v := n.book.volumes[c.Spec.VolumeName]; {
		case v == nil:
			add(VolumeNotThere)
		case !v.Reaches(node):
			add(NodeConflict)
		}
	}
	plan := &Plan{Node: node.Name}
	chosen := map[string]bool{}
	for _, c := range n.delayed {
		if at := n.book.promise(c, n.pod); at != nil { // another pod's binding is on its way
			if at.Node != "" && at.Node != node.Name || at.Node == "" && (at.volume == nil || !at.volume.Reaches(node)) {
				add(BindConflict)
				continue
			}
			if at.volume != nil {
				plan.Bind = append(plan.Bind, Match{c, at.volume.PersistentVolume})
			} else {
				plan.Provision = append(plan.Provision, c)
			}
			continue
		}
		selected := c.Annotations[binding.SelectedNode]
		if selected != "" && selected != node.Name && there(selected) {
			add(BindConflict)
			continue
		}
		if selected != node.Name {
			if v := n.book.match(c, n.pod, node, chosen); v != nil {
				chosen[v.Name] = true
				plan.Bind = append(plan.Bind, Match{c, v.PersistentVolume})
				continue
			}
		}
		if reason := n.book.provision(c, node); reason != "" {
			add(reason)
			continue
		}
		plan.Provision = append(plan.Provision, c)
	}
	if len(reasons) > 0 {
		return nil, reasons
	}
	return plan, nil
}

// match is the volume of a person's making that a claim would get on a node.
func (b *Book) match(c *corev1.PersistentVolumeClaim, pod types.UID, node *corev1.Node, chosen map[string]bool) (best *Volume) {
	m := binding.NewMatcher(c)
	for name, v := range b.reserved[key(c.Namespace, c.Name)] {
		if !chosen[name] && m.Reserved(v.PersistentVolume) && (best == nil || v.Name < best.Name) {
			best = v
		}
	}
	if best != nil {
		if !best.Reaches(node) {
			return nil
		}
		return best
	}
	for name, v := range b.free[api.ClaimClass(c)] {
		if by, taken := b.takenVolumes[name]; chosen[name] || taken && by != pod || best != nil && !binding.Smaller(v.PersistentVolume, best.PersistentVolume) {
			continue
		}
		if v.Reaches(node) && m.Free(v.PersistentVolume) {
			best = v
		}
	}
	return best
}

// provision says why no volume can be made for a claim on a node, "" if one can.
func (b *Book) provision(c *corev1.PersistentVolumeClaim, node *corev1.Node) string {
	class := b.classes[api.ClaimClass(c)]
	if class == nil || class.Provisioner == "" || class.Provisioner == binding.NoProvisioner || !allowed(class.AllowedTopologies, node) {
		return BindConflict
	}
	if d := b.drivers[class.Provisioner]; d != nil && d.Spec.StorageCapacity != nil && *d.Spec.StorageCapacity && !b.roomFor(c, class, node) {
		return NotEnoughSpace
	}
	return ""
}

// allowed says whether the node is in one of a class's topologies.
func allowed(terms []corev1.TopologySelectorTerm, node *corev1.Node) bool {
	if len(terms) == 0 {
		return true
	}
	return slices.ContainsFunc(terms, func(t corev1.TopologySelectorTerm) bool {
		if len(t.MatchLabelExpressions) == 0 {
			return false
		}
		for _, r := range t.MatchLabelExpressions {
			if value, ok := node.Labels[r.Key]; !ok || !slices.Contains(r.Values, value) {
				return false
			}
		}
		return true
	})
}

// roomFor says whether the driver reported room for a claim where the node is.
func (b *Book) roomFor(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node) bool {
	size := binding.Size(c)
	enough := func(q *resource.Quantity) bool { return q != nil && q.Cmp(size) >= 0 }
	for _, capacity := range b.capacities {
		if capacity.StorageClassName != class.Name || capacity.NodeTopology == nil {
			continue
		}
		if capacity.MaximumVolumeSize != nil && !enough(capacity.MaximumVolumeSize) || capacity.MaximumVolumeSize == nil && !enough(capacity.Capacity) {
			continue
		}
		if s, err := metav1.LabelSelectorAsSelector(capacity.NodeTopology); err == nil && s.Matches(labels.Set(node.Labels)) {
			return true
		}
	}
	return false
}

// Driver is who handles the volume that a claim has or will have, and the volume's name among that driver's; "" if it is no
// CSI driver's.
func (b *Book) Driver(namespace, claim string) (driver, volume string) {
	c := b.claims[key(namespace, claim)]
	if c == nil {
		return "", ""
	}
	if v := b.volumes[c.Spec.VolumeName]; v != nil {
		if v.Spec.CSI == nil {
			return "", ""
		}
		return v.Spec.CSI.Driver, v.Spec.CSI.VolumeHandle
	}
	if class := b.classes[api.ClaimClass(c)]; class != nil && !strings.HasPrefix(class.Provisioner, "kubernetes.io/") && class.Provisioner != api.LocalPathProvisioner {
		return class.Provisioner, key(namespace, claim)
	}
	return "", ""
}

// Limit is how many volumes of a driver fit on a node; false: any number. missing says that the driver isn't there, and pods
// shall not go where it isn't.
func (b *Book) Limit(node, driver string) (limit int, limited, missing bool) {
	if n := b.nodes[node]; n != nil {
		for _, d := range n.Spec.Drivers {
			if d.Name == driver {
				if d.Allocatable == nil || d.Allocatable.Count == nil {
					return 0, false, false
				}
				return int(*d.Allocatable.Count), true, false
			}
		}
	}
	d := b.drivers[driver]
	return 0, false, d != nil && d.Spec.PreventPodSchedulingIfMissing != nil && *d.Spec.PreventPodSchedulingIfMissing
}
