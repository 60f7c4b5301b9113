// Package nodelifecycle notices nodes whose lease expires, marks them and their pods not ready,
// and keeps the taints that follow from a node's conditions. Package tainteviction evicts.
//
// The taints that evict come at a bounded rate in each zone, and not at all while most nodes of a small zone, or all
// of the cluster's, seem lost: see Rates.
package nodelifecycle

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const (
	// Name is the controller's name in events and metrics.
	Name = "node-controller"
	// DefaultGrace is how long a node may be silent.
	DefaultGrace   = 40 * time.Second
	leaseNamespace = "kube-node-lease"
	// recheck is how often a node that isn't healthy is looked at: how its zone is may have changed.
	recheck = 5 * time.Second
	// settle is how long a node isn't healthy before its pods are evicted: many that are lost at once aren't all noticed
	// in the same moment, and the first must not lose its pods for that.
	settle = 5 * time.Second
	// countFor is for how long a count of the zones serves all who ask.
	countFor = time.Second
)

// beat is the last sign of life, and when this process saw it change: a control plane that was
// away itself gives every node a whole grace period, and clocks of nodes don't matter.
type beat struct {
	sign string
	seen time.Time
}

type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder
	grace  time.Duration

	rates Rates

	mu      sync.Mutex // guards what follows
	beats   map[string]beat
	paces   map[string]*pace   // by zone
	allowed map[string]float64 // nodes a second, by zone
	allLost bool
	counted time.Time // when the two above were worked out
}

// New makes the controller; grace 0 is DefaultGrace.
func New(env reconcile.Env, events *reconcile.Recorder, grace time.Duration, rates Rates) *reconcile.Controller {
	if grace <= 0 {
		grace = DefaultGrace
	}
	c := &shell{env: env.WithDefaults(), events: events, grace: grace, rates: rates.withDefaults(),
		beats: map[string]beat{}, paces: map[string]*pace{}}
	return &reconcile.Controller{Name: Name, Workers: 2, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.Nodes()},
		{Resource: reconcile.Leases(), Map: func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			if e.Object.GetNamespace() == leaseNamespace {
				enqueue(reconcile.Key{Name: e.Object.GetName()})
			}
			return nil
		}},
	}}
}

func ready(n *corev1.Node) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == corev1.NodeReady {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

// decideStatus returns the status of a silent node.
func decideStatus(n *corev1.Node, now time.Time) corev1.NodeStatus {
	s := *n.Status.DeepCopy()
	at := metav1.NewTime(now)
	for _, t := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		i := slices.IndexFunc(s.Conditions, func(c corev1.NodeCondition) bool { return c.Type == t })
		if i < 0 {
			s.Conditions = append(s.Conditions, corev1.NodeCondition{Type: t, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated",
				Message: "Kubelet never posted node status.", LastHeartbeatTime: n.CreationTimestamp, LastTransitionTime: at})
		} else if c := &s.Conditions[i]; c.Status != corev1.ConditionUnknown {
			c.Status, c.Reason, c.Message, c.LastTransitionTime = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status.", at
		}
	}
	return s
}

// evicts are the taints for the sake of which pods leave a node; "" is no such taint.
func evicts(n *corev1.Node) (want string, has bool) {
	if r := ready(n); r != nil {
		switch r.Status {
		case corev1.ConditionFalse:
			want = corev1.TaintNodeNotReady
		case corev1.ConditionUnknown:
			want = corev1.TaintNodeUnreachable
		}
	}
	return want, slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoExecute && (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable)
	})
}

// decideTaints returns the taints that the node's conditions call for, beside those of others. Without evict it gets
// none that evicts.
func decideTaints(n *corev1.Node, evict bool, now time.Time) []corev1.Taint {
	want := map[string]bool{}
	add := func(on bool, key string, effect corev1.TaintEffect) { want[key+":"+string(effect)] = on }
	status := map[corev1.NodeConditionType]corev1.ConditionStatus{}
	for _, c := range n.Status.Conditions {
		status[c.Type] = c.Status
	}
	for _, e := range []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute} {
		on := evict || e == corev1.TaintEffectNoSchedule
		add(on && status[corev1.NodeReady] == corev1.ConditionFalse, corev1.TaintNodeNotReady, e)
		add(on && status[corev1.NodeReady] == corev1.ConditionUnknown, corev1.TaintNodeUnreachable, e)
	}
	add(status[corev1.NodeMemoryPressure] == corev1.ConditionTrue, corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)
	add(status[corev1.NodeDiskPressure] == corev1.ConditionTrue, corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule)
	add(status[corev1.NodePIDPressure] == corev1.ConditionTrue, corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule)
	add(status[corev1.NodeNetworkUnavailable] == corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	add(n.Spec.Unschedulable, corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	var out []corev1.Taint
	have := map[string]bool{}
	for _, t := range n.Spec.Taints {
		id := t.Key + ":" + string(t.Effect)
		if on, ours := want[id]; ours && !on {
			continue
		}
		have[id] = true
		out = append(out, t)
	}
	at := metav1.NewTime(now)
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure,
		corev1.TaintNodePIDPressure, corev1.TaintNodeNetworkUnavailable, corev1.TaintNodeUnschedulable} {
		for _, e := range []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute} {
			if id := key + ":" + string(e); want[id] && !have[id] {
				out = append(out, corev1.Taint{Key: key, Effect: e, TimeAdded: &at})
			}
		}
	}
	return out
}

func (c *shell) silent(n *corev1.Node, lease *coordinationv1.Lease, now time.Time) (bool, time.Duration) {
	sign := ""
	if lease != nil && lease.Spec.RenewTime != nil {
		sign = lease.Spec.RenewTime.String()
	}
	if r := ready(n); r != nil { // marking the node unknown leaves its heartbeat as it was
		sign += "/" + r.LastHeartbeatTime.String()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.beats[n.Name]
	if !ok || b.sign != sign {
		b = beat{sign, now}
		c.beats[n.Name] = b
	}
	left := c.grace - now.Sub(b.seen)
	return left <= 0, left
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl, now := c.env.Client, c.env.Clock.Now()
	n, err := reconcile.Get[*corev1.Node](ctx, cl, reconcile.Nodes(), "", k.Name)
	if err != nil {
		return 0, err
	}
	if n == nil {
		c.mu.Lock()
		delete(c.beats, k.Name)
		c.mu.Unlock()
		return 0, nil
	}
	lease, err := reconcile.Get[*coordinationv1.Lease](ctx, cl, reconcile.Leases(), leaseNamespace, k.Name)
	if err != nil {
		return 0, err
	}
	silent, left := c.silent(n, lease, now)
	if silent {
		left = 0
		if s := decideStatus(n, now); !apiequality.Semantic.DeepEqual(s, n.Status) {
			m := n.DeepCopy()
			m.Status = s
			got, err := cl.Update(ctx, reconcile.Nodes(), "status", m)
			if err != nil {
				return 0, fmt.Errorf("mark node unknown: %w", err)
			}
			n = got.(*corev1.Node)
			c.events.Emit(Name, n, corev1.SchemeGroupVersion.WithKind("Node"), corev1.EventTypeNormal, "NodeNotReady", fmt.Sprintf("Node %s status is now: NodeNotReady", n.Name))
		}
	}
	evict, again, err := c.mayEvict(ctx, n, now)
	if err != nil {
		return 0, err
	}
	if taints := decideTaints(n, evict, now); !apiequality.Semantic.DeepEqual(taints, n.Spec.Taints) {
		m := n.DeepCopy()
		m.Spec.Taints = taints
		got, err := cl.Update(ctx, reconcile.Nodes(), "", m)
		if err != nil {
			if _, had := evicts(n); evict && !had {
				c.giveBack(zoneOf(n))
			}
			return 0, fmt.Errorf("taint node: %w", err)
		}
		n = got.(*corev1.Node)
	}
	if r := ready(n); silent && r != nil && r.Status == corev1.ConditionUnknown {
		if err := c.podsNotReady(ctx, n.Name, now); err != nil {
			return 0, err
		}
	}
	if again > 0 && (left <= 0 || again < left) {
		left = again
	}
	return left, nil
}

// mayEvict says whether the node may have the taint that evicts, and when to ask again. A node that has it keeps it
// until it is healthy, or nobody is.
func (c *shell) mayEvict(ctx context.Context, n *corev1.Node, now time.Time) (ok bool, again time.Duration, err error) {
	want, has := evicts(n)
	if want == "" {
		return false, 0, nil
	}
	c.mu.Lock()
	fresh := !c.counted.IsZero() && now.Sub(c.counted) < countFor
	c.mu.Unlock()
	if !fresh {
		nodes, err := reconcile.List[*corev1.Node](ctx, c.env.Client, reconcile.Nodes(), "", nil)
		if err != nil {
			return false, 0, err
		}
		rates, allLost := decideRates(countZones(nodes), c.rates)
		c.mu.Lock()
		if c.allLost != allLost && !c.counted.IsZero() {
			c.env.Logger.Warn("node evictions", "stopped", allLost)
			clear(c.paces)
		}
		c.allowed, c.allLost, c.counted = rates, allLost, now
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if has || c.allLost {
		return has && !c.allLost, recheck, nil
	}
	if left := ready(n).LastTransitionTime.Add(settle).Sub(now); left > 0 {
		return false, min(left, settle), nil
	}
	p := c.paces[zoneOf(n)]
	if p == nil {
		p = &pace{}
		c.paces[zoneOf(n)] = p
	}
	if ok, again = p.take(c.allowed[zoneOf(n)], now); ok {
		again = recheck
	}
	return ok, again, nil
}

// giveBack returns the allowance of a taint that could not be written.
func (c *shell) giveBack(zone string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.paces[zone]; p != nil {
		p.last = time.Time{}
	}
}

// podsNotReady takes a silent node's pods out of their services.
func (c *shell) podsNotReady(ctx context.Context, node string, now time.Time) error {
	pods, err := reconcile.List[*corev1.Pod](ctx, c.env.Client, reconcile.Pods(), "", nil)
	if err != nil {
		return err
	}
	for _, p := range pods {
		if ok, _ := reconcile.PodReady(p); p.Spec.NodeName != node || !ok {
			continue
		}
		m := p.DeepCopy()
		for i := range m.Status.Conditions {
			if x := &m.Status.Conditions[i]; x.Type == corev1.PodReady {
				x.Status, x.LastTransitionTime = corev1.ConditionFalse, metav1.NewTime(now)
			}
		}
		if _, err := c.env.Client.Update(ctx, reconcile.Pods(), "status", m); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("mark pod %s not ready: %w", p.Name, err)
		}
	}
	return nil
}

var _ api.Object = (*corev1.Node)(nil)
