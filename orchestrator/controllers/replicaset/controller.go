package replicaset

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controller's name in events and metrics.
const Name = "replicaset-controller"

func kind() schema.GroupVersionKind { return appsv1.SchemeGroupVersion.WithKind("ReplicaSet") }

// New makes the controller; nothing runs yet.
func New(env reconcile.Env, events *reconcile.Recorder, workers int) *reconcile.Controller {
	c := &shell{env: env.WithDefaults(), events: events}
	return &reconcile.Controller{Name: Name, Workers: workers, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.ReplicaSets()},
		{Resource: reconcile.Pods(), Map: c.fromPod},
	}}
}

type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder
}

func (c *shell) fromPod(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	_ = reconcile.EnqueueController("ReplicaSet")(ctx, e, enqueue)
	if metav1.GetControllerOfNoCopy(e.Object) != nil {
		return nil
	}
	sets, err := reconcile.List[*appsv1.ReplicaSet](ctx, c.env.Client, reconcile.ReplicaSets(), e.Object.GetNamespace(), nil)
	if err != nil {
		return err
	}
	for _, rs := range sets {
		if sel, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector); err == nil && !sel.Empty() && sel.Matches(labels.Set(e.Object.GetLabels())) {
			enqueue(reconcile.KeyOf(rs))
		}
	}
	return nil
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	rs, err := reconcile.Get[*appsv1.ReplicaSet](ctx, cl, reconcile.ReplicaSets(), k.Namespace, k.Name)
	if err != nil || rs == nil {
		return 0, err
	}
	sel, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return 0, fmt.Errorf("selector: %w", err)
	}
	if sel.Empty() {
		return 0, nil
	}
	objs, err := reconcile.Claim(ctx, cl, reconcile.Pods(), rs, kind(), sel)
	if err != nil {
		return 0, err
	}
	pods := reconcile.As[*corev1.Pod](objs)
	p := decide(rs, pods, c.related(ctx, rs), c.env.Clock.Now())
	reason, failure := "FailedCreate", error(nil)
	if p.create > 0 {
		failure = c.createPods(ctx, rs, p.create)
	} else if len(p.remove) > 0 {
		reason, failure = "FailedDelete", c.deletePods(ctx, rs, p.remove)
	}
	if p.create > 0 || len(p.remove) > 0 {
		// Count again what is there now: our own writes are seen.
		objs, err := cl.Owned(ctx, reconcile.Pods(), rs.UID)
		if err != nil {
			return 0, fmt.Errorf("count pods: %w", err)
		}
		after := decide(rs, reconcile.As[*corev1.Pod](objs), nil, c.env.Clock.Now())
		p.status, p.again = after.status, after.again
	}
	p.status.Conditions = slices.DeleteFunc(slices.Clone(rs.Status.Conditions), func(x appsv1.ReplicaSetCondition) bool {
		return x.Type == appsv1.ReplicaSetReplicaFailure && (failure == nil || x.Reason != reason)
	})
	if failure != nil && len(p.status.Conditions) == 0 {
		p.status.Conditions = append(p.status.Conditions, appsv1.ReplicaSetCondition{Type: appsv1.ReplicaSetReplicaFailure,
			Status: corev1.ConditionTrue, Reason: reason, Message: failure.Error(), LastTransitionTime: metav1.NewTime(c.env.Clock.Now())})
	}
	if !apiequality.Semantic.DeepEqual(p.status, rs.Status) {
		n := rs.DeepCopy()
		n.Status = p.status
		if _, err := cl.Update(ctx, reconcile.ReplicaSets(), "status", n); err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("update status: %w", err)
		}
	}
	return p.again, failure
}

// related lists the pods of every set of the same owner, to see who doubles up on a node.
func (c *shell) related(ctx context.Context, rs *appsv1.ReplicaSet) (out []*corev1.Pod) {
	owner := metav1.GetControllerOfNoCopy(rs)
	if owner == nil {
		return nil
	}
	sets, err := c.env.Client.Owned(ctx, reconcile.ReplicaSets(), owner.UID)
	if err != nil {
		return nil
	}
	for _, s := range sets {
		pods, err := c.env.Client.Owned(ctx, reconcile.Pods(), s.GetUID())
		if err != nil {
			return nil
		}
		out = append(out, reconcile.As[*corev1.Pod](pods)...)
	}
	return out
}

// createPods creates 1, 2, 4, … pods at a time and stops at the first batch that fails, so that a
// quota or a policy that refuses one pod isn't asked for all of them.
func (c *shell) createPods(ctx context.Context, rs *appsv1.ReplicaSet, n int) error {
	for size := 1; n > 0; size *= 2 {
		size = min(size, n)
		if err := reconcile.Each(size, func(int) error { return c.createPod(ctx, rs) }); err != nil {
			return err
		}
		n -= size
	}
	return nil
}

func (c *shell) createPod(ctx context.Context, rs *appsv1.ReplicaSet) error {
	t := rs.Spec.Template.DeepCopy()
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Spec: t.Spec}
	pod.Namespace, pod.GenerateName = rs.Namespace, rs.Name+"-"
	pod.Labels, pod.Annotations, pod.Finalizers = t.Labels, t.Annotations, t.Finalizers
	pod.OwnerReferences = []metav1.OwnerReference{reconcile.ControllerRef(rs, kind())}
	got, err := c.env.Client.Create(ctx, reconcile.Pods(), pod)
	if err != nil {
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			c.events.Emit(Name, rs, kind(), corev1.EventTypeWarning, "FailedCreate", "Error creating: "+err.Error())
		}
		return fmt.Errorf("create pod: %w", err)
	}
	c.events.Emit(Name, rs, kind(), corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+got.GetName())
	return nil
}

func (c *shell) deletePods(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	return reconcile.Each(len(pods), func(i int) error {
		uid := pods[i].UID
		err := c.env.Client.Delete(ctx, reconcile.Pods(), rs.Namespace, pods[i].Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			c.events.Emit(Name, rs, kind(), corev1.EventTypeWarning, "FailedDelete", fmt.Sprintf("Error deleting: %v", err))
			return fmt.Errorf("delete pod %s: %w", pods[i].Name, err)
		}
		c.events.Emit(Name, rs, kind(), corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+pods[i].Name)
		return nil
	})
}
