package job

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controller's name in events and metrics.
const Name = "job-controller"

func kind() schema.GroupVersionKind { return batchv1.SchemeGroupVersion.WithKind("Job") }

type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder
}

// New makes the controller; nothing runs yet. Its keys name Jobs, and pods that no Job controls.
func New(env reconcile.Env, events *reconcile.Recorder, workers int) *reconcile.Controller {
	c := &shell{env: env.WithDefaults(), events: events}
	return &reconcile.Controller{Name: Name, Workers: workers, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.Jobs(), Map: c.fromJob},
		{Resource: reconcile.Pods(), Map: c.fromPod},
	}}
}

func podKey(p api.Object) reconcile.Key {
	return reconcile.Key{Resource: reconcile.Pods(), Namespace: p.GetNamespace(), Name: p.GetName()}
}

// fromJob asks for the Job, and, once it is gone, for the pods that it leaves.
func (c *shell) fromJob(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	enqueue(reconcile.KeyOf(e.Object))
	if e.Type != "DELETED" {
		return nil
	}
	pods, err := c.env.Client.Owned(ctx, reconcile.Pods(), e.Object.GetUID())
	if err != nil {
		return fmt.Errorf("list pods of job %s: %w", e.Object.GetName(), err)
	}
	for _, p := range pods {
		enqueue(podKey(p))
	}
	return nil
}

// fromPod asks for the Job that controls the pod, and for the pod itself where none does that is there.
func (c *shell) fromPod(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	pod, ok := e.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	_ = reconcile.EnqueueController("Job")(ctx, e, enqueue)
	switch ref := metav1.GetControllerOfNoCopy(pod); {
	case e.Type == "DELETED":
		return nil
	case tracked(pod): // its Job may be gone
	case ref == nil && (e.Old == nil || metav1.GetControllerOfNoCopy(e.Old) != nil || !maps.Equal(pod.Labels, e.Old.GetLabels())): // one may select it
	default:
		return nil
	}
	owner, err := c.owner(ctx, pod)
	if err == nil && owner == nil {
		enqueue(podKey(pod))
	}
	return err
}

// groupOf names the PodGroup of the Job's pods. It is read whenever one of them changes, and makes no difference before.
func groupOf(j *batchv1.Job) string {
	return api.PodGroupOf(&corev1.Pod{ObjectMeta: j.Spec.Template.ObjectMeta, Spec: j.Spec.Template.Spec})
}

// owner is the Job that controls the pod, nil if it is gone or nobody's.
func (c *shell) owner(ctx context.Context, pod *corev1.Pod) (*batchv1.Job, error) {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil || ref.Kind != kind().Kind {
		return nil, nil
	}
	j, err := reconcile.Get[*batchv1.Job](ctx, c.env.Client, reconcile.Jobs(), pod.Namespace, ref.Name)
	if err != nil || j == nil || j.UID != ref.UID {
		return nil, err
	}
	return j, nil
}

// managed says whether the Job is this controller's to run.
func managed(j *batchv1.Job) bool {
	return j.Spec.ManagedBy == nil || *j.Spec.ManagedBy == batchv1.JobControllerName
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	if k.Resource == reconcile.Pods() {
		return 0, c.reconcileOrphan(ctx, k)
	}
	j, err := reconcile.Get[*batchv1.Job](ctx, c.env.Client, reconcile.Jobs(), k.Namespace, k.Name)
	if err != nil || j == nil || !managed(j) {
		return 0, err
	}
	if mode := j.Spec.CompletionMode; mode != nil && *mode != batchv1.NonIndexedCompletion && !api.Indexed(j) {
		return 0, nil
	}
	pods, err := c.podsOf(ctx, j)
	if err != nil {
		return 0, err
	}
	gang, err := c.isGang(ctx, j)
	if err != nil {
		return 0, err
	}
	p := decide(state{job: j, pods: pods, gang: gang, now: c.env.Clock.Now()})
	return p.again, c.act(ctx, j, p)
}

// podsOf are the pods that the Job controls; it lets go those that its selector doesn't select.
func (c *shell) podsOf(ctx context.Context, j *batchv1.Job) ([]*corev1.Pod, error) {
	sel, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector: %w", err)
	}
	if sel.Empty() {
		return nil, errors.New("selector: it selects every pod")
	}
	if manual := j.Spec.ManualSelector; manual != nil && *manual && api.JobFinished(j) == nil {
		// Pods that were there before the Job may be its own: all are looked at, those adopted get the finalizer below.
		if err := c.adoptSelected(ctx, j, sel); err != nil {
			return nil, err
		}
	}
	objs, err := c.env.Client.Owned(ctx, reconcile.Pods(), j.UID)
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var mine []*corev1.Pod
	for _, p := range reconcile.As[*corev1.Pod](objs) {
		switch ref := metav1.GetControllerOfNoCopy(p); {
		case ref == nil || ref.UID != j.UID:
		case sel.Matches(labels.Set(p.Labels)) || p.DeletionTimestamp != nil || j.DeletionTimestamp != nil:
			mine = append(mine, p)
		default:
			if err := c.letGo(ctx, p, j.UID); err != nil {
				return nil, err
			}
		}
	}
	return mine, nil
}

func (c *shell) isGang(ctx context.Context, j *batchv1.Job) (bool, error) {
	name := groupOf(j)
	if name == "" {
		return false, nil
	}
	group, err := reconcile.Get[*schedulingv1beta1.PodGroup](ctx, c.env.Client, reconcile.PodGroups(), j.Namespace, name)
	return isGang(j, group), err
}

// act writes what was decided. Each step leaves a state from which the next decision goes on.
func (c *shell) act(ctx context.Context, j *batchv1.Job, p plan) error {
	if p.status != nil {
		n := j.DeepCopy()
		n.Status = *p.status
		if _, err := c.env.Client.Update(ctx, reconcile.Jobs(), "status", n); err != nil {
			return ignoreGone(fmt.Errorf("write status: %w", err))
		}
		for _, e := range p.events {
			c.events.Emit(Name, j, kind(), e.typ, e.reason, e.message)
		}
	}
	if err := inParallel(len(p.release), func(i int) error { return c.release(ctx, p.release[i]) }); err != nil {
		return err
	}
	if p.releaseLast != nil {
		if err := c.release(ctx, p.releaseLast); err != nil {
			return err
		}
	}
	err := inParallel(len(p.drop), func(i int) error {
		if err := c.release(ctx, p.drop[i]); err != nil {
			return err
		}
		return c.deletePod(ctx, j, p.drop[i])
	})
	if err != nil {
		return err
	}
	if err := inParallel(len(p.remove), func(i int) error { return c.deletePod(ctx, j, p.remove[i]) }); err != nil {
		return err
	}
	return c.createPods(ctx, j, p.create)
}

// release takes the finalizer from the pod, however often others write it meanwhile.
func (c *shell) release(ctx context.Context, pod *corev1.Pod) error {
	for range 5 {
		if !tracked(pod) {
			return nil
		}
		n := pod.DeepCopy()
		n.Finalizers = slices.DeleteFunc(n.Finalizers, func(f string) bool { return f == batchv1.JobTrackingFinalizer })
		_, err := c.env.Client.Update(ctx, reconcile.Pods(), "", n)
		if !apierrors.IsConflict(err) {
			return ignoreGone(err)
		}
		now, err := reconcile.Get[*corev1.Pod](ctx, c.env.Client, reconcile.Pods(), pod.Namespace, pod.Name)
		if err != nil || now == nil || now.UID != pod.UID {
			return err
		}
		pod = now
	}
	return apierrors.NewConflict(reconcile.Pods().GroupResource(), pod.Name, errors.New("it changes too often"))
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// reconcileOrphan looks at a pod that no Job controls: one that selects it adopts it; otherwise nobody will count it, and
// it loses its finalizer.
func (c *shell) reconcileOrphan(ctx context.Context, k reconcile.Key) error {
	pod, err := reconcile.Get[*corev1.Pod](ctx, c.env.Client, reconcile.Pods(), k.Namespace, k.Name)
	if err != nil || pod == nil {
		return err
	}
	if owner, err := c.owner(ctx, pod); err != nil || owner != nil {
		return err
	}
	if metav1.GetControllerOfNoCopy(pod) == nil && pod.DeletionTimestamp == nil {
		jobs, err := reconcile.List[*batchv1.Job](ctx, c.env.Client, reconcile.Jobs(), k.Namespace, nil)
		if err != nil {
			return err
		}
		for _, j := range jobs {
			sel, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
			if err == nil && !sel.Empty() && sel.Matches(labels.Set(pod.Labels)) && managed(j) && j.DeletionTimestamp == nil && api.JobFinished(j) == nil {
				return c.adopt(ctx, j, pod)
			}
		}
	}
	return c.release(ctx, pod)
}

func (c *shell) adoptSelected(ctx context.Context, j *batchv1.Job, sel labels.Selector) error {
	if j.DeletionTimestamp != nil {
		return nil
	}
	pods, err := c.env.Client.Orphans(ctx, reconcile.Pods(), j.Namespace)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	for _, p := range reconcile.As[*corev1.Pod](pods) {
		if sel.Matches(labels.Set(p.Labels)) && metav1.GetControllerOfNoCopy(p) == nil && p.DeletionTimestamp == nil {
			if err := c.adopt(ctx, j, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// adopt makes the pod the Job's, tracked from now on.
func (c *shell) adopt(ctx context.Context, j *batchv1.Job, pod *corev1.Pod) error {
	n := pod.DeepCopy()
	n.OwnerReferences = append(n.OwnerReferences, reconcile.ControllerRef(j, kind()))
	if !tracked(n) {
		n.Finalizers = append(n.Finalizers, batchv1.JobTrackingFinalizer)
	}
	if _, err := c.env.Client.Update(ctx, reconcile.Pods(), "", n); err != nil {
		return ignoreGone(fmt.Errorf("adopt pod %s: %w", pod.Name, err))
	}
	return nil
}

// letGo takes the owner and the finalizer from a pod that its Job doesn't select any more.
func (c *shell) letGo(ctx context.Context, pod *corev1.Pod, owner types.UID) error {
	n := pod.DeepCopy()
	n.OwnerReferences = slices.DeleteFunc(n.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == owner })
	n.Finalizers = slices.DeleteFunc(n.Finalizers, func(f string) bool { return f == batchv1.JobTrackingFinalizer })
	if _, err := c.env.Client.Update(ctx, reconcile.Pods(), "", n); err != nil {
		return ignoreGone(fmt.Errorf("let go pod %s: %w", pod.Name, err))
	}
	return nil
}
