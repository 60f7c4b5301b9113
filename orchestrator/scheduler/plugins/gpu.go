package plugins

import (
	"context"
	"errors"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/scheduler/devices"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// GPU places pods that ask for GPUs, whole, in part or as MIG instances, and chooses their devices, which the binding
// records in the annotation topology.PodAnnotation. Of nodes that fit it prefers those where the least is lost for those
// that come after (devices.Policy), over what other plugins prefer. Pods that ask for none it keeps off the CPUs that
// free GPUs will need, as a preference among others.
//
// It decides about the resources that devices.Counts names; NodeResourcesFit leaves those alone.
type GPU struct {
	policy  devices.Policy  // nil: pricing
	pricer  *devices.Pricer // nil: nothing is learned
	given   *devices.Priced // nil: the pricer's
	strict  bool
	unrated bool

	last  atomic.Pointer[lastRequest]
	nodes atomic.Int64 // that have GPUs
}

// lastRequest is what a pod asks for, kept because the same pod is asked about on many nodes.
type lastRequest struct {
	pod     *corev1.Pod
	request *devices.Request
}

func asks(pod *framework.Pod) bool { return pod.AsksExtended() && devices.Asks(pod.Pod) }

func requestOf(pod *framework.Pod) *devices.Request {
	if asks(pod) {
		return devices.RequestOf(pod.Pod)
	}
	return &devices.Request{Class: topology.PodClass{CPUMilli: pod.Request.MilliCPU, Memory: pod.Request.Memory}}
}

func (g *GPU) request(pod *framework.Pod) *devices.Request {
	if last := g.last.Load(); last != nil && last.pod == pod.Pod {
		return last.request
	}
	r := requestOf(pod)
	g.last.Store(&lastRequest{pod.Pod, r})
	return r
}

// GPUOptions say how GPU rates nodes. The zero value prices leftovers by the mix that it learns from the pods that come.
type GPUOptions struct {
	// Policy rates nodes; nil: devices.Pricing.
	Policy devices.Policy
	// Pricer learns; nil: one of the plugin's own, which Run drives. With a Policy it isn't used.
	Pricer *devices.Pricer
	// Prices are of a mix that is known: nothing is learned then. Nil: it is learned.
	Prices *topology.Prices
	// Strict has pods that ask for no GPU rated like those that do, over what other plugins prefer.
	Strict bool
	// Unrated has nodes not rated at all: the policy says only which GPU of a node gives a part.
	Unrated bool
}

// NewGPU makes the plugin. One serves one scheduler, all its profiles.
func NewGPU(o GPUOptions) *GPU {
	g := &GPU{policy: o.Policy, pricer: o.Pricer, strict: o.Strict, unrated: o.Unrated}
	if o.Prices != nil {
		g.given = &devices.Priced{Prices: o.Prices}
	}
	if g.policy != nil || g.given != nil {
		g.pricer = nil
	} else if g.pricer == nil {
		g.pricer = devices.NewPricer()
	}
	return g
}

// Name implements framework.Plugin.
func (*GPU) Name() string { return "GPU" }

// Run prices what is learned until ctx ends, off the decisions' path. Without it the best fit is all that is preferred.
func (g *GPU) Run(ctx context.Context) error {
	if g.pricer == nil {
		<-ctx.Done()
		return nil
	}
	return g.pricer.Run(ctx)
}

// NewLedger implements framework.Keeper.
func (g *GPU) NewLedger(string) framework.Ledger {
	return &GPULedger{Node: devices.NewNode(), plugin: g}
}

// GPULedger is what GPU keeps of a node.
type GPULedger struct {
	*devices.Node
	plugin  *GPU
	counted bool // among the plugin's nodes with GPUs
}

// SetNode implements framework.Ledger.
func (l *GPULedger) SetNode(node *corev1.Node) {
	l.Node.SetNode(node)
	switch has := l.HasGPUs(); {
	case has && !l.counted:
		l.plugin.nodes.Add(1)
		l.counted = true
	case !has && l.counted:
		l.plugin.nodes.Add(-1)
		l.counted = false
	}
}

// AddPod implements framework.Ledger.
func (l *GPULedger) AddPod(pod *framework.Pod) {
	if !l.counted && !asks(pod) {
		return
	}
	r := requestOf(pod)
	l.Node.AddPod(pod.Pod, r)
	if l.plugin.pricer != nil {
		l.plugin.pricer.Observe(pod.UID, r.Class)
	}
}

// RemovePod implements framework.Ledger.
func (l *GPULedger) RemovePod(pod *framework.Pod) { l.Node.RemovePod(pod.UID) }

func (g *GPU) ledger(n *framework.Node) *devices.Node {
	if l, ok := n.Ledger(g.Name()).(*GPULedger); ok {
		return l.Node
	}
	return nil
}

func (g *GPU) rates() devices.Policy {
	switch {
	case g.policy != nil:
		return g.policy
	case g.given != nil:
		return devices.Pricing{Prices: g.given.Prices}
	}
	return devices.Pricing{Prices: g.pricer.Latest().Prices}
}

// Key tells apart what a pod's answers depend on beside its spec and the node: whether soft limits do, and which prices
// are the newest. It is asked at every decision, so that it is where pods are counted.
func (g *GPU) Key(pod *framework.Pod) string {
	asks := asks(pod)
	if !asks && g.nodes.Load() == 0 {
		return ""
	}
	key := "0"
	if g.pricer != nil {
		if asks {
			g.pricer.Observe(pod.UID, g.request(pod).Class)
		}
		key = g.pricer.Latest().Key
	}
	if asks && pod.Annotations[topology.SoftAnnotation] == "true" {
		key += "soft"
	}
	return key
}

// What ratings are worth as scores: thousandths of a GPU in fine steps, over all that others say; of pods that ask for no
// GPU, whose preference is one among others, a GPU that they strand counts as the whole of a score.
const (
	gpuSteps  = 10_000
	cpuWeight = 2
)

// Prepare implements framework.Plugin.
func (g *GPU) Prepare(pod *framework.Pod, _ *framework.State) framework.Prepared {
	r := g.request(pod)
	policy := g.rates()
	out := framework.Prepared{Local: true}
	if !r.Empty() {
		out.Filter = func(n *framework.Node) []string {
			l := g.ledger(n)
			if l == nil {
				return []string{"node(s) have no GPUs"}
			}
			if refusal := l.Fits(r); refusal != nil {
				return []string{refusal.Reason}
			}
			return nil
		}
	}
	if g.unrated || r.Empty() && g.nodes.Load() == 0 {
		return out
	}
	rate := func(n *framework.Node) (rating float64, ok bool) {
		l := g.ledger(n)
		if l == nil || !l.HasGPUs() {
			return 0, false
		}
		v, class, _ := l.View(r, freeCPU(n), freeMemory(n))
		rating, _ = policy.Rate(v, class)
		return rating, true
	}
	if !r.Empty() || g.strict {
		out.Weight = 1
		out.Score = func(n *framework.Node) int64 {
			rating, _ := rate(n)
			return -int64(rating * gpuSteps)
		}
		return out
	}
	out.Weight = cpuWeight
	out.Score = func(n *framework.Node) int64 {
		rating, ok := rate(n)
		if !ok {
			return framework.MaxScore
		}
		return framework.MaxScore - int64(max(0, min(1, rating/topology.Whole))*framework.MaxScore)
	}
	return out
}

func freeCPU(n *framework.Node) int64 { return n.Allocatable.MilliCPU - n.Requested.MilliCPU }

func freeMemory(n *framework.Node) int64 { return n.Allocatable.Memory - n.Requested.Memory }

// Reserve implements framework.Reserver: it chooses the devices.
func (g *GPU) Reserve(pod *framework.Pod, n *framework.Node) (map[string]string, error) {
	l := g.ledger(n)
	if l == nil || !asks(pod) || g.request(pod).Empty() {
		if pod.Annotations[topology.PodAnnotation] != "" { // what was chosen is the scheduler's to say
			return map[string]string{topology.PodAnnotation: ""}, nil
		}
		return nil, nil
	}
	grants, refusal := l.Choose(g.request(pod), g.rates(), freeCPU(n), freeMemory(n))
	if refusal != nil {
		return nil, errors.New(refusal.Reason)
	}
	if len(grants) == 0 { // the node only counts
		return nil, nil
	}
	return map[string]string{topology.PodAnnotation: topology.FormatGrants(grants)}, nil
}

// Missing implements framework.Misser.
func (g *GPU) Missing(pod *framework.Pod, n *framework.Node) (corev1.ResourceName, int64) {
	l := g.ledger(n)
	if l == nil {
		return "", 0
	}
	refusal := l.Fits(g.request(pod))
	if refusal == nil || refusal.Short == 0 {
		return "", 0
	}
	return refusal.Resource, refusal.Short
}

var (
	_ framework.Keeper   = (*GPU)(nil)
	_ framework.Keyer    = (*GPU)(nil)
	_ framework.Reserver = (*GPU)(nil)
	_ framework.Misser   = (*GPU)(nil)
)
