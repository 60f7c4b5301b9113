// Package nodelifecycle notices nodes whose lease expires, marks them and their pods not ready,
// and keeps the taints that follow from a node's conditions. Package tainteviction evicts.
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

	mu    sync.Mutex
	beats map[string]beat
}

// New makes the controller; grace 0 is DefaultGrace.
func New(env reconcile.Env, events *reconcile.Recorder, grace time.Duration) *reconcile.Controller {
	if grace <= 0 {
		grace = DefaultGrace
	}
	c := &shell{env: env.WithDefaults(), events: events, grace: grace, beats: map[string]beat{}}
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

// decideTaints returns the taints that the node's conditions call for, beside those of others.
func decideTaints(n *corev1.Node, now time.Time) []corev1.Taint {
	want := map[string]bool{}
	add := func(on bool, key string, effect corev1.TaintEffect) { want[key+":"+string(effect)] = on }
	status := map[corev1.NodeConditionType]corev1.ConditionStatus{}
	for _, c := range n.Status.Conditions {
		status[c.Type] = c.Status
	}
	for _, e := range []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute} {
		add(status[corev1.NodeReady] == corev1.ConditionFalse, corev1.TaintNodeNotReady, e)
		add(status[corev1.NodeReady] == corev1.ConditionUnknown, corev1.TaintNodeUnreachable, e)
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
	if taints := decideTaints(n, now); !apiequality.Semantic.DeepEqual(taints, n.Spec.Taints) {
		m := n.DeepCopy()
		m.Spec.Taints = taints
		got, err := cl.Update(ctx, reconcile.Nodes(), "", m)
		if err != nil {
			return 0, fmt.Errorf("taint node: %w", err)
		}
		n = got.(*corev1.Node)
	}
	if r := ready(n); silent && r != nil && r.Status == corev1.ConditionUnknown {
		if err := c.podsNotReady(ctx, n.Name, now); err != nil {
			return 0, err
		}
	}
	return left, nil
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
