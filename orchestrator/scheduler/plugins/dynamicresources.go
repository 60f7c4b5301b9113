package plugins

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/scheduler/claims"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// gpuDriver is the driver whose devices the GPU plugin gives, too: both draw on one ledger.
const gpuDriver = "gpu.nvidia.com"

// Reasons, in kube-scheduler's words.
const (
	cannotAllocate = "cannot allocate all claims"
	notAvailable   = "resourceclaim not available on the node"
	claimInUse     = "resourceclaim in use"
)

// DynamicResources places pods that have ResourceClaims: where their allocated claims are available, and where devices
// are left for the others, which it chooses. The choice is held from when the pod is assumed until its claims' status says
// the same, or the pod is given up; who writes the status asks Plans, and tells by SetClaim and Done what came of it.
//
// A claim's GPU is nobody else's: the plugin asks GPU's ledger which GPUs are free, and tells it which claims have. Containers
// that use the claim get it by a grant in the annotation topology.PodAnnotation, beside those of GPU, after which it must
// stand among the plugins.
type DynamicResources struct {
	ledger  *claims.Ledger
	state   *framework.State
	decided map[types.UID]map[string][]*claims.Plan // by pod, by node: what Reserve said last
	holding map[types.UID][]*claims.Plan            // by pod: what holds, for the node where it is assumed
	writing map[types.UID]bool                      // pods whose claims are being written
	onNode  map[string]map[types.UID][]string
	nodes   map[types.UID][]string // by claim: those that onNode has it for
}

// decisions bounds how many nodes' are remembered of one pod.
const decisions = 64

// NewDynamicResources makes the plugin. One serves one scheduler, all its profiles.
func NewDynamicResources() *DynamicResources {
	return &DynamicResources{ledger: claims.NewLedger(), decided: map[types.UID]map[string][]*claims.Plan{}, holding: map[types.UID][]*claims.Plan{}, writing: map[types.UID]bool{},
		onNode: map[string]map[types.UID][]string{}, nodes: map[types.UID][]string{}}
}

// Name implements framework.Plugin.
func (*DynamicResources) Name() string { return "DynamicResources" }

// Kept is told which State keeps the ledgers.
func (d *DynamicResources) Kept(s *framework.State) { d.state = s }

// NewLedger implements framework.Keeper.
func (d *DynamicResources) NewLedger(node string) framework.Ledger { return &claimsOnNode{d, node} }

// claimsOnNode hears of the pods of a node. Its claims themselves are the plugin's.
type claimsOnNode struct {
	plugin *DynamicResources
	node   string
}

// SetNode implements framework.Ledger.
func (l *claimsOnNode) SetNode(node *corev1.Node) {
	if node == nil {
		return
	}
	for claim, uuids := range l.plugin.onNode[l.node] {
		if gpus := l.plugin.gpus(l.node); gpus != nil {
			gpus.SetClaim(claim, uuids)
		}
	}
}

// AddPod implements framework.Ledger: an assumed pod holds what was decided for it.
func (l *claimsOnNode) AddPod(pod *framework.Pod) {
	d := l.plugin
	plans, ok := d.decided[pod.UID][l.node]
	if pod.Spec.NodeName != "" || !ok || d.writing[pod.UID] || !d.vacant(plans) {
		return
	}
	d.ledger.Assume(pod.UID, plans)
	d.holding[pod.UID] = plans
	d.tellOf(plans)
}

// vacant says whether what was decided can still be had.
func (d *DynamicResources) vacant(plans []*claims.Plan) bool {
	for _, p := range plans {
		c := d.ledger.Claim(p.Claim.Namespace, p.Claim.Name)
		if c == nil || c.UID != p.Claim.UID {
			return false
		}
		if have := d.ledger.Allocation(c); have != nil {
			if have != p.Allocation && !apiequality.Semantic.DeepEqual(have, p.Allocation) {
				return false
			}
			continue
		}
		for i := range p.Allocation.Devices.Results {
			r := &p.Allocation.Devices.Results[i]
			id := claims.ID{Driver: r.Driver, Pool: r.Pool, Device: r.Device}
			device := d.ledger.Device(id)
			if device == nil || !d.ledger.Free(id) {
				return false
			}
			if free := d.free(device.Node()); free != nil && !free(device) {
				return false
			}
		}
	}
	return true
}

// RemovePod implements framework.Ledger.
func (l *claimsOnNode) RemovePod(pod *framework.Pod) {
	if pod.Spec.NodeName == "" && len(pod.Spec.ResourceClaims) > 0 && !l.plugin.writing[pod.UID] {
		l.plugin.release(pod.UID)
	}
}

func (d *DynamicResources) release(pod types.UID) {
	plans, ok := d.holding[pod]
	if !ok {
		return
	}
	delete(d.holding, pod)
	d.ledger.Release(pod)
	d.tellOf(plans)
}

func (d *DynamicResources) tellOf(plans []*claims.Plan) {
	for _, p := range plans {
		if c := d.ledger.Claim(p.Claim.Namespace, p.Claim.Name); c != nil && c.UID == p.Claim.UID {
			d.tell(c)
		}
	}
}

// SetClass adds or replaces a DeviceClass.
func (d *DynamicResources) SetClass(c *resourcev1.DeviceClass) { d.ledger.SetClass(c) }

// RemoveClass forgets one.
func (d *DynamicResources) RemoveClass(name string) { d.ledger.RemoveClass(name) }

// SetSlice adds or replaces a ResourceSlice.
func (d *DynamicResources) SetSlice(s *resourcev1.ResourceSlice) {
	d.ledger.SetSlice(s)
	for _, c := range d.ledger.Holders(s) {
		d.tell(c)
	}
}

// RemoveSlice forgets one.
func (d *DynamicResources) RemoveSlice(name string) { d.ledger.RemoveSlice(name) }

// SetClaim adds or replaces a ResourceClaim; an older version than is known changes nothing. It says whether devices became
// free, or the claim new to the pods that wait for it.
func (d *DynamicResources) SetClaim(c *resourcev1.ResourceClaim) (helps bool) {
	before := d.ledger.Claim(c.Namespace, c.Name)
	d.ledger.SetClaim(c)
	if before != nil && before.UID != c.UID {
		d.untell(before.UID)
	}
	d.tell(c)
	return before == nil || before.UID != c.UID || before.Status.Allocation != nil && c.Status.Allocation == nil ||
		len(c.Status.ReservedFor) < len(before.Status.ReservedFor)
}

// Known says whether the claim is among those that were set, and not removed.
func (d *DynamicResources) Known(c *resourcev1.ResourceClaim) bool {
	have := d.ledger.Claim(c.Namespace, c.Name)
	return have != nil && have.UID == c.UID
}

// RemoveClaim forgets one.
func (d *DynamicResources) RemoveClaim(namespace, name string) {
	if c := d.ledger.Claim(namespace, name); c != nil {
		d.ledger.RemoveClaim(namespace, name)
		d.untell(c.UID)
	}
}

// Plans are what was decided for the claims of a pod that is assumed, to be written before it is bound; false: nothing was, or
// it can't be had any more. It holds until Done.
func (d *DynamicResources) Plans(pod types.UID) ([]*claims.Plan, bool) {
	plans, ok := d.holding[pod]
	if ok {
		d.writing[pod] = true
	}
	return plans, ok
}

// Writing says whether a pod's claims are being written.
func (d *DynamicResources) Writing(pod types.UID) bool { return d.writing[pod] }

// Done ends what was decided for a pod: its claims' status says it now, or it was not to be.
func (d *DynamicResources) Done(pod types.UID) {
	delete(d.writing, pod)
	d.release(pod)
	delete(d.decided, pod)
}

// GPU's ledger, as far as claims need it.
type gpuLedger interface {
	Free(uuid string) bool
	SetClaim(claim types.UID, uuids []string)
	RemoveClaim(claim types.UID)
}

func (d *DynamicResources) gpus(node string) gpuLedger {
	if d.state == nil {
		return nil
	}
	n := d.state.Node(node)
	if n == nil {
		return nil
	}
	l, ok := n.Ledger((*GPU)(nil).Name()).(gpuLedger)
	if !ok {
		return nil
	}
	return l
}

// free says whether GPU's ledger lets a claim have the device. It knows nothing of other drivers' devices, nor of the GPUs of
// a node that doesn't say which it has.
func (d *DynamicResources) free(node string) func(*claims.Device) bool {
	gpus := d.gpus(node)
	if gpus == nil {
		return nil
	}
	if n := d.state.Node(node); n.Node == nil || n.Node.Annotations[topology.NodeAnnotation] == "" {
		return nil
	}
	return func(device *claims.Device) bool {
		uuid := device.Text("uuid")
		return device.Driver != gpuDriver || uuid == "" || device.Node() != node || gpus.Free(uuid)
	}
}

// tell lets GPU's ledgers know which GPUs a claim has. Of a device that isn't published they keep what they knew.
func (d *DynamicResources) tell(c *resourcev1.ResourceClaim) {
	c = d.ledger.Claim(c.Namespace, c.Name)
	if c == nil {
		return
	}
	a := d.ledger.Allocation(c)
	if a == nil {
		d.untell(c.UID)
		return
	}
	now := map[string][]string{}
	for i := range a.Devices.Results {
		r := &a.Devices.Results[i]
		if r.Driver != gpuDriver {
			continue
		}
		device := d.ledger.Device(claims.ID{Driver: r.Driver, Pool: r.Pool, Device: r.Device})
		if device == nil {
			return
		}
		if uuid := device.Text("uuid"); uuid != "" && device.Node() != "" {
			now[device.Node()] = append(now[device.Node()], uuid)
		}
	}
	for _, node := range d.nodes[c.UID] {
		if _, ok := now[node]; !ok {
			d.forget(c.UID, node)
		}
	}
	d.nodes[c.UID] = nil
	for node, uuids := range now {
		d.nodes[c.UID] = append(d.nodes[c.UID], node)
		if slices.Equal(d.onNode[node][c.UID], uuids) {
			continue
		}
		if d.onNode[node] == nil {
			d.onNode[node] = map[types.UID][]string{}
		}
		d.onNode[node][c.UID] = uuids
		if gpus := d.gpus(node); gpus != nil {
			gpus.SetClaim(c.UID, uuids)
			d.state.Touch(node)
		}
	}
	if len(now) == 0 {
		delete(d.nodes, c.UID)
	}
}

func (d *DynamicResources) untell(claim types.UID) {
	for _, node := range d.nodes[claim] {
		d.forget(claim, node)
	}
	delete(d.nodes, claim)
}

func (d *DynamicResources) forget(claim types.UID, node string) {
	if delete(d.onNode[node], claim); len(d.onNode[node]) == 0 {
		delete(d.onNode, node)
	}
	if gpus := d.gpus(node); gpus != nil {
		gpus.RemoveClaim(claim)
		d.state.Touch(node)
	}
}

// shared is the instance that the State knows: that of the first profile.
func (d *DynamicResources) shared(s *framework.State) *DynamicResources {
	if k, ok := s.Keeper(d.Name()).(*DynamicResources); ok {
		return k
	}
	return d
}

// Prepare implements framework.Plugin.
func (d *DynamicResources) Prepare(pod *framework.Pod, s *framework.State) framework.Prepared {
	if len(pod.Spec.ResourceClaims) == 0 {
		return framework.Prepared{Local: true}
	}
	d = d.shared(s)
	all, err := d.claimsOf(pod.Pod)
	if err != nil {
		reasons := []string{err.Error()}
		return framework.Prepared{Lasting: true, Filter: func(*framework.Node) []string { return reasons }}
	}
	return framework.Prepared{Filter: func(n *framework.Node) []string {
		if _, err := d.plan(all, n); err != nil {
			return []string{err.Error()}
		}
		return nil
	}}
}

// podClaim is a claim of a pod, and what is to be done for it.
type podClaim struct {
	claim     *resourcev1.ResourceClaim
	have      *resourcev1.AllocationResult // nil: it must be allocated
	available *nodeaffinity.NodeSelector   // of have; nil: everywhere
}

// claimsOf finds the claims of a pod and checks that it may use them. The error says why no node will do.
func (d *DynamicResources) claimsOf(pod *corev1.Pod) (out []podClaim, err error) {
	for i := range pod.Spec.ResourceClaims {
		c, err := d.claimOf(pod, &pod.Spec.ResourceClaims[i])
		if err != nil {
			return nil, err
		}
		if c == nil || slices.ContainsFunc(out, func(w podClaim) bool { return w.claim == c }) {
			continue
		}
		if c.DeletionTimestamp != nil {
			return nil, fmt.Errorf("resourceclaim %q is being deleted", c.Name)
		}
		if n, mine := d.ledger.Reserved(c, pod.UID); !mine && n >= resourcev1.ResourceClaimReservedForMaxSize {
			return nil, errors.New(claimInUse)
		}
		w := podClaim{claim: c, have: d.ledger.Allocation(c)}
		if w.have == nil {
			if err := d.classes(c); err != nil {
				return nil, err
			}
		} else if w.have.NodeSelector != nil {
			if w.available, err = nodeaffinity.NewNodeSelector(w.have.NodeSelector); err != nil {
				return nil, fmt.Errorf("resourceclaim %s: %w", c.Name, err)
			}
		}
		out = append(out, w)
	}
	return out, nil
}

// claimOf is the claim of an entry, nil if it needs none.
func (d *DynamicResources) claimOf(pod *corev1.Pod, entry *corev1.PodResourceClaim) (*resourcev1.ResourceClaim, error) {
	name := entry.ResourceClaimName
	if name == nil {
		i := slices.IndexFunc(pod.Status.ResourceClaimStatuses, func(s corev1.PodResourceClaimStatus) bool { return s.Name == entry.Name })
		if i < 0 {
			return nil, fmt.Errorf("pod %q: ResourceClaim not created yet", pod.Namespace+"/"+pod.Name)
		}
		if name = pod.Status.ResourceClaimStatuses[i].ResourceClaimName; name == nil {
			return nil, nil
		}
	}
	c := d.ledger.Claim(pod.Namespace, *name)
	if c == nil {
		return nil, fmt.Errorf("resourceclaim %q not found", *name)
	}
	if entry.ResourceClaimName == nil && !metav1.IsControlledBy(c, pod) {
		return nil, fmt.Errorf("ResourceClaim %s/%s was not created for pod %s/%s (pod is not owner)", c.Namespace, c.Name, pod.Namespace, pod.Name)
	}
	return c, nil
}

// classes checks that those that a claim needs exist.
func (d *DynamicResources) classes(c *resourcev1.ResourceClaim) error {
	check := func(request, class string) error {
		if d.ledger.Class(class) == nil {
			return fmt.Errorf("request %s: device class %s does not exist", request, class)
		}
		return nil
	}
	for _, r := range c.Spec.Devices.Requests {
		if r.Exactly != nil {
			if err := check(r.Name, r.Exactly.DeviceClassName); err != nil {
				return err
			}
		}
		for _, sub := range r.FirstAvailable {
			if err := check(r.Name+"/"+sub.Name, sub.DeviceClassName); err != nil {
				return err
			}
		}
	}
	return nil
}

// plan decides on a node. The error says why it won't do.
func (d *DynamicResources) plan(all []podClaim, n *framework.Node) ([]*claims.Plan, error) {
	if n.Node == nil {
		return nil, errors.New(notAvailable)
	}
	plans := make([]*claims.Plan, len(all))
	var allocate []*resourcev1.ResourceClaim
	for i, w := range all {
		plans[i] = &claims.Plan{Claim: w.claim, Allocation: w.have}
		switch {
		case w.have == nil:
			allocate = append(allocate, w.claim)
		case w.available != nil && !w.available.Match(n.Node):
			return nil, errors.New(notAvailable)
		}
	}
	if len(allocate) == 0 {
		return plans, nil
	}
	results, err := d.ledger.Allocate(n.Node, allocate, d.free(n.Name))
	if err != nil {
		return nil, err
	}
	if results == nil {
		return nil, errors.New(cannotAllocate)
	}
	for _, p := range plans {
		if p.Allocation == nil {
			p.Allocation, results = results[0], results[1:]
		}
	}
	return plans, nil
}

// Reserve implements framework.Reserver: it decides what the pod's claims get on the node, and grants the GPUs among it.
func (d *DynamicResources) Reserve(pod *framework.Pod, n *framework.Node) (map[string]string, error) {
	if len(pod.Spec.ResourceClaims) == 0 {
		return nil, nil
	}
	if l, ok := n.Ledger(d.Name()).(*claimsOnNode); ok {
		d = l.plugin
	}
	all, err := d.claimsOf(pod.Pod)
	if err != nil {
		return nil, err
	}
	plans, err := d.plan(all, n)
	if err != nil {
		return nil, err
	}
	// What another plugin has just reserved of the node for this pod is in no ledger yet.
	had, err := topology.ParseGrants(pod.Annotations[topology.PodAnnotation])
	if err != nil {
		had = nil
	}
	had = slices.DeleteFunc(had, func(g topology.Grant) bool { return g.Claim != "" })
	grants, err := d.grants(pod.Pod, plans)
	if err != nil {
		return nil, err
	}
	for _, g := range grants {
		if slices.ContainsFunc(had, func(h topology.Grant) bool { return h.GPU == g.GPU && (h.MIG == "" || g.MIG == "" || h.MIG == g.MIG) }) {
			return nil, errors.New(cannotAllocate)
		}
	}
	if d.decided[pod.UID] == nil || len(d.decided[pod.UID]) >= decisions {
		d.decided[pod.UID] = map[string][]*claims.Plan{}
	}
	d.decided[pod.UID][n.Name] = plans
	if len(grants) == 0 {
		return nil, nil
	}
	return map[string]string{topology.PodAnnotation: topology.FormatGrants(append(had, grants...))}, nil
}

// grants are those of a pod's containers for the GPUs of the claims that they use.
func (d *DynamicResources) grants(pod *corev1.Pod, plans []*claims.Plan) (out []topology.Grant, err error) {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			for _, use := range c.Resources.Claims {
				plan := planOf(pod, use.Name, plans, d)
				if plan == nil {
					continue
				}
				for j := range plan.Allocation.Devices.Results {
					r := &plan.Allocation.Devices.Results[j]
					if r.Driver != gpuDriver || !claims.Names(use.Request, r.Request) {
						continue
					}
					device := d.ledger.Device(claims.ID{Driver: r.Driver, Pool: r.Pool, Device: r.Device})
					if device == nil {
						return nil, fmt.Errorf("device %s/%s/%s of resourceclaim %s is not published", r.Driver, r.Pool, r.Device, plan.Claim.Name)
					}
					g := topology.Grant{Container: c.Name, GPU: device.Text("uuid"), Claim: plan.Claim.Namespace + "/" + plan.Claim.Name}
					if parent := device.Text("parentUUID"); parent != "" {
						g.GPU, g.MIG = parent, g.GPU
					}
					if !slices.Contains(out, g) {
						out = append(out, g)
					}
				}
			}
		}
	}
	return out, nil
}

// planOf is the plan for the claim that the pod calls name.
func planOf(pod *corev1.Pod, name string, plans []*claims.Plan, d *DynamicResources) *claims.Plan {
	for i := range pod.Spec.ResourceClaims {
		entry := &pod.Spec.ResourceClaims[i]
		if entry.Name != name {
			continue
		}
		c, err := d.claimOf(pod, entry)
		if err != nil || c == nil {
			return nil
		}
		if i := slices.IndexFunc(plans, func(p *claims.Plan) bool { return p.Claim.UID == c.UID }); i >= 0 {
			return plans[i]
		}
	}
	return nil
}
