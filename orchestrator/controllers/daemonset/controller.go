package daemonset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/history"
)

// Name is the controller's name in events and metrics, as Kubernetes spells it.
const Name = "daemonset-controller"

const (
	minBackoff = time.Second // before a pod that has ended is replaced, doubled each time it ends soon again
	maxBackoff = 15 * time.Minute
)

func kind() schema.GroupVersionKind { return appsv1.SchemeGroupVersion.WithKind("DaemonSet") }

// New makes the controller; nothing runs yet.
func New(env reconcile.Env, events *reconcile.Recorder, workers int) *reconcile.Controller {
	env = env.WithDefaults()
	c := &shell{env: env, events: events, backoff: flowcontrol.NewBackOff(minBackoff, maxBackoff)}
	c.backoff.Clock = env.Clock
	return &reconcile.Controller{Name: Name, Workers: workers, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.DaemonSets()},
		{Resource: reconcile.ControllerRevisions(), Map: reconcile.EnqueueController("DaemonSet")},
		{Resource: reconcile.Pods(), Map: c.fromPod},
		{Resource: reconcile.Nodes(), Map: c.fromNode},
	}}
}

type shell struct {
	env     reconcile.Env
	events  *reconcile.Recorder
	backoff *flowcontrol.Backoff // of pods that end, by set and node; lost with a change of leader, which costs one early try
}

// fromPod enqueues the pod's set, or, for an orphan, those that may adopt it.
func (c *shell) fromPod(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	_ = reconcile.EnqueueController("DaemonSet")(ctx, e, enqueue)
	if metav1.GetControllerOfNoCopy(e.Object) != nil {
		return nil
	}
	sets, err := reconcile.List[*appsv1.DaemonSet](ctx, c.env.Client, reconcile.DaemonSets(), e.Object.GetNamespace(), nil)
	if err != nil {
		return err
	}
	for _, s := range sets {
		if sel, err := metav1.LabelSelectorAsSelector(s.Spec.Selector); err == nil && sel.Matches(labels.Set(e.Object.GetLabels())) {
			enqueue(reconcile.KeyOf(s))
		}
	}
	return nil
}

// fromNode enqueues every set when what they look at has changed: a heartbeat is nothing to them.
func (c *shell) fromNode(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	now, _ := e.Object.(*corev1.Node)
	old, _ := e.Old.(*corev1.Node)
	if now != nil && old != nil && now != old && maps.Equal(now.Labels, old.Labels) && nodeReady(now) == nodeReady(old) &&
		apiequality.Semantic.DeepEqual(now.Spec.Taints, old.Spec.Taints) {
		return nil
	}
	sets, err := c.env.Client.List(ctx, reconcile.DaemonSets(), "", nil)
	if err != nil {
		return fmt.Errorf("list daemon sets: %w", err)
	}
	for _, s := range sets {
		enqueue(reconcile.KeyOf(s))
	}
	return nil
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	set, err := reconcile.Get[*appsv1.DaemonSet](ctx, cl, reconcile.DaemonSets(), k.Namespace, k.Name)
	if err != nil || set == nil {
		return 0, err
	}
	sel, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return 0, fmt.Errorf("selector: %w", err)
	}
	if sel.Empty() {
		c.events.Emit(Name, set, kind(), corev1.EventTypeWarning, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.")
		return 0, nil
	}
	in := input{set: set, now: c.env.Clock.Now(), backoff: func(node string) time.Duration { return c.waits(set, node) }}
	in.newest, in.revisions, err = history.Sync(ctx, cl, history.Owner{Object: set, Kind: kind(), Selector: sel, Template: &set.Spec.Template, Collisions: set.Status.CollisionCount})
	switch {
	case errors.Is(err, history.ErrCollision):
		return 0, c.collided(ctx, set)
	case err != nil:
		return 0, err
	}
	objs, err := reconcile.Claim(ctx, cl, reconcile.Pods(), set, kind(), sel)
	if err != nil {
		return 0, err
	}
	in.pods = reconcile.As[*corev1.Pod](objs)
	if in.nodes, err = reconcile.List[*corev1.Node](ctx, cl, reconcile.Nodes(), "", nil); err != nil {
		return 0, err
	}
	return c.act(ctx, set, history.HashOf(in.newest), decide(in))
}

func (c *shell) waits(set *appsv1.DaemonSet, node string) time.Duration {
	id := string(set.UID) + "/" + node
	if !c.backoff.IsInBackOffSinceUpdate(id, c.env.Clock.Now()) {
		return 0
	}
	return c.backoff.Get(id)
}

// act writes a plan in order. Every prefix is a state from which the next decision goes on. What fails is told at the end:
// the status is written all the same.
func (c *shell) act(ctx context.Context, set *appsv1.DaemonSet, hash string, p plan) (time.Duration, error) {
	cl := c.env.Client
	if len(p.recreate) > 0 {
		c.backoff.GC() // what waits no more is forgotten
	}
	for _, pod := range p.recreate {
		node := nodeOf(pod)
		c.backoff.Next(string(set.UID)+"/"+node, c.env.Clock.Now())
		typ, reason, word := corev1.EventTypeWarning, "FailedDaemonPod", "failed"
		if pod.Status.Phase == corev1.PodSucceeded {
			typ, reason, word = corev1.EventTypeNormal, "SucceededDaemonPod", "succeeded"
		}
		c.events.Emit(Name, set, kind(), typ, reason, fmt.Sprintf("Found %s daemon pod %s/%s on node %s, will try to delete it", word, pod.Namespace, pod.Name, node))
	}
	failure := c.deletePods(ctx, set, p.remove)
	if failure == nil {
		failure = c.createPods(ctx, set, hash, p.create)
	}
	for _, r := range p.revisions {
		if _, err := cl.Update(ctx, reconcile.ControllerRevisions(), "", r); err != nil {
			return 0, fmt.Errorf("mark revision %s: %w", r.Name, err)
		}
	}
	if p.spec != nil {
		got, err := cl.Update(ctx, reconcile.DaemonSets(), "", p.spec)
		if err != nil {
			return 0, fmt.Errorf("update daemon set: %w", err)
		}
		set = got.(*appsv1.DaemonSet)
	}
	if p.status != nil {
		n := set.DeepCopy()
		n.Status = *p.status
		if _, err := cl.Update(ctx, reconcile.DaemonSets(), "status", n); err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("update status: %w", err)
		}
	}
	if err := history.Remove(ctx, cl, p.forget); err != nil {
		return 0, err
	}
	for _, e := range p.events {
		c.events.Emit(Name, set, kind(), e.Type, e.Reason, e.Message)
	}
	return p.again, failure
}

// createPods creates 1, 2, 4, … pods at a time and stops at the first batch that fails.
func (c *shell) createPods(ctx context.Context, set *appsv1.DaemonSet, hash string, nodes []string) error {
	for size := 1; len(nodes) > 0; size *= 2 {
		size = min(size, len(nodes))
		err := reconcile.Each(size, func(i int) error {
			got, err := c.env.Client.Create(ctx, reconcile.Pods(), newPod(set, hash, nodes[i]))
			if err != nil {
				if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
					c.events.Emit(Name, set, kind(), corev1.EventTypeWarning, "FailedCreate", "Error creating: "+err.Error())
				}
				return fmt.Errorf("create pod for node %s: %w", nodes[i], err)
			}
			c.events.Emit(Name, set, kind(), corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+got.GetName())
			return nil
		})
		if err != nil {
			return err
		}
		nodes = nodes[size:]
	}
	return nil
}

func (c *shell) deletePods(ctx context.Context, set *appsv1.DaemonSet, pods []*corev1.Pod) error {
	return reconcile.Each(len(pods), func(i int) error {
		uid := pods[i].UID
		err := c.env.Client.Delete(ctx, reconcile.Pods(), set.Namespace, pods[i].Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			c.events.Emit(Name, set, kind(), corev1.EventTypeWarning, "FailedDelete", fmt.Sprintf("Error deleting: %v", err))
			return fmt.Errorf("delete pod %s: %w", pods[i].Name, err)
		}
		c.events.Emit(Name, set, kind(), corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+pods[i].Name)
		return nil
	})
}

// collided raises the collision count: the name of the new revision is taken by another template.
func (c *shell) collided(ctx context.Context, set *appsv1.DaemonSet) error {
	n := set.DeepCopy()
	count := int32(1)
	if have := set.Status.CollisionCount; have != nil {
		count = *have + 1
	}
	n.Status.CollisionCount = &count
	if _, err := c.env.Client.Update(ctx, reconcile.DaemonSets(), "status", n); err != nil {
		return fmt.Errorf("raise collision count: %w", err)
	}
	return nil
}
