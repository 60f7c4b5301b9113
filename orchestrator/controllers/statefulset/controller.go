package statefulset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/history"
)

// Name is the controller's name in events and metrics, as Kubernetes spells it.
const Name = "statefulset-controller"

const (
	minBackoff = time.Second // before a pod that has ended is replaced, doubled each time it ends soon again
	maxBackoff = 5 * time.Minute
	claimWait  = time.Second // between looks at a claim that is about to go
)

func kind() schema.GroupVersionKind { return appsv1.SchemeGroupVersion.WithKind("StatefulSet") }

// New makes the controller; nothing runs yet.
func New(env reconcile.Env, events *reconcile.Recorder, workers int) *reconcile.Controller {
	env = env.WithDefaults()
	c := &shell{env: env, events: events, backoff: flowcontrol.NewBackOff(minBackoff, maxBackoff)}
	c.backoff.Clock = env.Clock
	return &reconcile.Controller{Name: Name, Workers: workers, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.StatefulSets()},
		{Resource: reconcile.ControllerRevisions(), Map: reconcile.EnqueueController("StatefulSet")},
		{Resource: reconcile.Pods(), Map: c.fromPod},
	}}
}

type shell struct {
	env     reconcile.Env
	events  *reconcile.Recorder
	backoff *flowcontrol.Backoff // of pods that end; lost with a change of leader, which costs one early try
}

// fromPod enqueues the pod's set, or, for an orphan, the set whose name it has.
func (c *shell) fromPod(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	_ = reconcile.EnqueueController("StatefulSet")(ctx, e, enqueue)
	if metav1.GetControllerOfNoCopy(e.Object) != nil || stillOrphan(e) {
		return nil
	}
	sets, err := c.env.Client.List(ctx, reconcile.StatefulSets(), e.Object.GetNamespace(), nil)
	if err != nil {
		return fmt.Errorf("list stateful sets: %w", err)
	}
	for _, s := range sets {
		if _, ok := ordinalOf(s.(*appsv1.StatefulSet), e.Object.GetName()); ok {
			enqueue(reconcile.KeyOf(s))
		}
	}
	return nil
}

// stillOrphan says that nothing has changed by which a set would adopt the pod now and didn't before.
func stillOrphan(e reconcile.Event) bool {
	return e.Type == watch.Modified && e.Old != nil && metav1.GetControllerOfNoCopy(e.Old) == nil && maps.Equal(e.Old.GetLabels(), e.Object.GetLabels())
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	set, err := reconcile.Get[*appsv1.StatefulSet](ctx, cl, reconcile.StatefulSets(), k.Namespace, k.Name)
	if err != nil || set == nil {
		return 0, err
	}
	sel, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return 0, fmt.Errorf("selector: %w", err)
	}
	if sel.Empty() {
		c.events.Emit(Name, set, kind(), corev1.EventTypeWarning, "SelectingAll", "This stateful set is selecting all pods. A non-empty selector is required.")
		return 0, nil
	}
	in := input{set: set, now: c.env.Clock.Now(), backoff: func(p *corev1.Pod) time.Duration { return c.waits(set, p) }}
	in.newest, in.revisions, err = history.Sync(ctx, cl, history.Owner{Object: set, Kind: kind(), Selector: sel, Template: &set.Spec.Template, Collisions: set.Status.CollisionCount})
	switch {
	case errors.Is(err, history.ErrCollision):
		return 0, c.collided(ctx, set)
	case err != nil:
		return 0, err
	}
	objs, err := reconcile.ClaimIf(ctx, cl, reconcile.Pods(), set, kind(), sel, func(o api.Object) bool {
		_, ok := ordinalOf(set, o.GetName())
		return ok
	})
	if err != nil {
		return 0, err
	}
	in.pods = reconcile.As[*corev1.Pod](objs)
	if err := c.keepClaims(ctx, in); err != nil { // before a pod ends: its claims may go with it
		return 0, err
	}
	return c.act(ctx, set, decide(in))
}

func (c *shell) waits(set *appsv1.StatefulSet, p *corev1.Pod) time.Duration {
	id := string(set.UID) + "/" + p.Name
	if !c.backoff.IsInBackOffSinceUpdate(id, c.env.Clock.Now()) {
		return 0
	}
	return c.backoff.Get(id)
}

// act writes a plan in order. Every prefix is a state from which the next decision goes on. What fails is told at the end:
// the status is written all the same.
func (c *shell) act(ctx context.Context, set *appsv1.StatefulSet, p plan) (time.Duration, error) {
	cl := c.env.Client
	for _, pod := range p.relabel {
		if _, err := cl.Update(ctx, reconcile.Pods(), "", pod); err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("label pod %s: %w", pod.Name, err)
		}
	}
	if len(p.recreate) > 0 {
		c.backoff.GC() // what waits no more is forgotten
	}
	for _, pod := range p.recreate {
		c.backoff.Next(string(set.UID)+"/"+pod.Name, c.env.Clock.Now())
		typ, reason, word := corev1.EventTypeWarning, "RecreatingFailedPod", "failed"
		if pod.Status.Phase == corev1.PodSucceeded {
			typ, reason, word = corev1.EventTypeNormal, "RecreatingTerminatedPod", "terminated"
		}
		c.events.Emit(Name, set, kind(), typ, reason, fmt.Sprintf("StatefulSet %s/%s is recreating %s Pod %s", set.Namespace, set.Name, word, pod.Name))
	}
	var failure error
	if len(p.remove) > 0 {
		failure = c.deletePods(ctx, set, p.remove)
	}
	if failure == nil && len(p.create) > 0 {
		failure = c.createPods(ctx, set, p.create)
	}
	if errors.Is(failure, errClaimGoes) {
		failure, p.again = nil, claimWait
	}
	for _, r := range p.revisions {
		if _, err := cl.Update(ctx, reconcile.ControllerRevisions(), "", r); err != nil {
			return 0, fmt.Errorf("mark revision %s: %w", r.Name, err)
		}
	}
	if p.spec != nil {
		got, err := cl.Update(ctx, reconcile.StatefulSets(), "", p.spec)
		if err != nil {
			return 0, fmt.Errorf("update stateful set: %w", err)
		}
		set = got.(*appsv1.StatefulSet)
	}
	if p.status != nil {
		n := set.DeepCopy()
		n.Status = *p.status
		if _, err := cl.Update(ctx, reconcile.StatefulSets(), "status", n); err != nil && !apierrors.IsNotFound(err) {
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

// collided raises the collision count: the name of the new revision is taken by another template.
func (c *shell) collided(ctx context.Context, set *appsv1.StatefulSet) error {
	n := set.DeepCopy()
	count := int32(1)
	if have := set.Status.CollisionCount; have != nil {
		count = *have + 1
	}
	n.Status.CollisionCount = &count
	if _, err := c.env.Client.Update(ctx, reconcile.StatefulSets(), "status", n); err != nil {
		return fmt.Errorf("raise collision count: %w", err)
	}
	return nil
}
