package deployment

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controller's name in events and metrics, as Kubernetes spells it.
const Name = "deployment-controller"

func kind() schema.GroupVersionKind { return appsv1.SchemeGroupVersion.WithKind("Deployment") }

// New makes the controller; nothing runs yet.
func New(env reconcile.Env, events *reconcile.Recorder, workers int) *reconcile.Controller {
	c := &shell{env: env.WithDefaults(), events: events}
	return &reconcile.Controller{Name: Name, Workers: workers, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.Deployments()},
		{Resource: reconcile.ReplicaSets(), Map: c.fromSet},
		{Resource: reconcile.Pods(), Map: c.fromPod},
	}}
}

type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder
}

// fromSet enqueues the set's deployment, or, for an orphan, those that may adopt it.
func (c *shell) fromSet(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	_ = reconcile.EnqueueController("Deployment")(ctx, e, enqueue)
	if metav1.GetControllerOfNoCopy(e.Object) != nil {
		return nil
	}
	ds, err := c.env.Client.List(ctx, reconcile.Deployments(), e.Object.GetNamespace(), nil)
	if err != nil {
		return fmt.Errorf("list deployments: %w", err)
	}
	for _, d := range ds {
		enqueue(reconcile.KeyOf(d))
	}
	return nil
}

func (c *shell) fromPod(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	ref := metav1.GetControllerOfNoCopy(e.Object)
	if ref == nil || ref.Kind != "ReplicaSet" {
		return nil
	}
	rs, err := c.env.Client.Get(ctx, reconcile.ReplicaSets(), e.Object.GetNamespace(), ref.Name)
	if apierrors.IsNotFound(err) {
		return nil // a set that is gone has told by its own event
	}
	if err != nil {
		return fmt.Errorf("get replica set of pod: %w", err)
	}
	if owner := metav1.GetControllerOfNoCopy(rs); owner != nil && owner.Kind == "Deployment" {
		enqueue(reconcile.Key{Namespace: rs.GetNamespace(), Name: owner.Name})
	}
	return nil
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	d, err := reconcile.Get[*appsv1.Deployment](ctx, cl, reconcile.Deployments(), k.Namespace, k.Name)
	if err != nil || d == nil {
		return 0, err
	}
	sel, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return 0, fmt.Errorf("selector: %w", err)
	}
	if sel.Empty() {
		c.events.Emit(Name, d, kind(), corev1.EventTypeWarning, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")
		return 0, nil
	}
	objs, err := reconcile.Claim(ctx, cl, reconcile.ReplicaSets(), d, kind(), sel)
	if err != nil {
		return 0, err
	}
	in := input{deployment: d, sets: reconcile.As[*appsv1.ReplicaSet](objs), pods: map[string][]*corev1.Pod{}, now: c.env.Clock.Now()}
	for _, rs := range in.sets {
		pods, err := cl.Owned(ctx, reconcile.Pods(), rs.UID)
		if err != nil {
			return 0, fmt.Errorf("pods of %s: %w", rs.Name, err)
		}
		in.pods[string(rs.UID)] = reconcile.As[*corev1.Pod](pods)
	}
	return c.act(ctx, d, decide(in))
}

// act writes a plan in order. It stops at the first error; every prefix is a state from which the
// next decision goes on.
func (c *shell) act(ctx context.Context, d *appsv1.Deployment, p plan) (time.Duration, error) {
	cl := c.env.Client
	if p.create != nil {
		p.create.OwnerReferences = []metav1.OwnerReference{reconcile.ControllerRef(d, kind())}
		if _, err := cl.Create(ctx, reconcile.ReplicaSets(), p.create); apierrors.IsAlreadyExists(err) {
			return 0, c.collided(ctx, d, p.create)
		} else if err != nil {
			n := d.DeepCopy()
			msg := fmt.Sprintf("Failed to create new replica set %q: %v", p.create.Name, err)
			if hasDeadline(d) {
				setCondition(&n.Status, appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonCreateErr, msg, c.env.Clock.Now(), false)
				_, _ = cl.Update(ctx, reconcile.Deployments(), "status", n) // the create's error is what counts
			}
			c.events.Emit(Name, d, kind(), corev1.EventTypeWarning, reasonCreateErr, msg)
			return 0, fmt.Errorf("create replica set %s: %w", p.create.Name, err)
		}
	}
	for _, rs := range p.update {
		if _, err := cl.Update(ctx, reconcile.ReplicaSets(), "", rs); err != nil {
			return 0, fmt.Errorf("update replica set %s: %w", rs.Name, err)
		}
	}
	for _, rs := range p.remove {
		uid := rs.UID
		err := cl.Delete(ctx, reconcile.ReplicaSets(), rs.Namespace, rs.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("delete replica set %s: %w", rs.Name, err)
		}
	}
	if p.spec != nil {
		got, err := cl.Update(ctx, reconcile.Deployments(), "", p.spec)
		if err != nil {
			return 0, fmt.Errorf("update deployment: %w", err)
		}
		d = got.(*appsv1.Deployment)
	}
	if p.status != nil {
		n := d.DeepCopy()
		n.Status = *p.status
		if _, err := cl.Update(ctx, reconcile.Deployments(), "status", n); err != nil {
			return 0, fmt.Errorf("update status: %w", err)
		}
	}
	for _, e := range p.events {
		c.events.Emit(Name, d, kind(), e.typ, e.reason, e.message)
	}
	return p.again, nil
}

// collided raises the collision count when the name is taken by a set of another template.
func (c *shell) collided(ctx context.Context, d *appsv1.Deployment, want *appsv1.ReplicaSet) error {
	have, err := reconcile.Get[*appsv1.ReplicaSet](ctx, c.env.Client, reconcile.ReplicaSets(), want.Namespace, want.Name)
	if err != nil {
		return err
	}
	if have != nil && metav1.IsControlledBy(have, d) && sameTemplate(&have.Spec.Template, &want.Spec.Template) {
		return fmt.Errorf("replica set %s has just been made: %w", want.Name, apierrors.NewConflict(reconcile.ReplicaSets().GroupResource(), want.Name, nil))
	}
	n := d.DeepCopy()
	count := int32(1)
	if d.Status.CollisionCount != nil {
		count = *d.Status.CollisionCount + 1
	}
	n.Status.CollisionCount = &count
	if _, err := c.env.Client.Update(ctx, reconcile.Deployments(), "status", n); err != nil {
		return fmt.Errorf("raise collision count: %w", err)
	}
	return nil
}

var _ api.Object = (*appsv1.Deployment)(nil)
