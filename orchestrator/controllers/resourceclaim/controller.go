package resourceclaim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const name = "resource-claim-controller"

// Claims names the resource that its name says, as do the functions below.
func Claims() schema.GroupVersionResource {
	return resourcev1.SchemeGroupVersion.WithResource("resourceclaims")
}

// Templates is resourceclaimtemplates.
func Templates() schema.GroupVersionResource {
	return resourcev1.SchemeGroupVersion.WithResource("resourceclaimtemplates")
}

type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder
}

// New makes the controller. Its keys name pods and claims.
func New(env reconcile.Env, events *reconcile.Recorder, workers int) *reconcile.Controller {
	c := &shell{env.WithDefaults(), events}
	return &reconcile.Controller{Name: name, Workers: workers, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.Pods(), Map: c.podChanged}, {Resource: Claims(), Map: c.claimChanged}, {Resource: Templates(), Map: c.templateChanged},
	}}
}

func podKey(namespace, name string) reconcile.Key {
	return reconcile.Key{Resource: reconcile.Pods(), Namespace: namespace, Name: name}
}

func claimKey(namespace, name string) reconcile.Key {
	return reconcile.Key{Resource: Claims(), Namespace: namespace, Name: name}
}

func (c *shell) podChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	pod, ok := e.Object.(*corev1.Pod)
	if !ok || len(pod.Spec.ResourceClaims) == 0 {
		return nil
	}
	if e.Type != "DELETED" {
		enqueue(podKey(pod.Namespace, pod.Name))
	}
	for i := range pod.Spec.ResourceClaims {
		if n := pod.Spec.ResourceClaims[i].ResourceClaimName; n != nil {
			enqueue(claimKey(pod.Namespace, *n))
		}
	}
	for _, s := range pod.Status.ResourceClaimStatuses {
		if s.ResourceClaimName != nil {
			enqueue(claimKey(pod.Namespace, *s.ResourceClaimName))
		}
	}
	return nil
}

func (c *shell) claimChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	enqueue(claimKey(e.Object.GetNamespace(), e.Object.GetName()))
	if owner := metav1.GetControllerOfNoCopy(e.Object); owner != nil && owner.Kind == "Pod" {
		enqueue(podKey(e.Object.GetNamespace(), owner.Name))
	}
	return nil
}

// templateChanged wakes the pods that wait for a template.
func (c *shell) templateChanged(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	if e.Type != "ADDED" {
		return nil // a template never changes
	}
	pods, err := reconcile.List[*corev1.Pod](ctx, c.env.Client, reconcile.Pods(), e.Object.GetNamespace(), nil)
	if err != nil {
		return err
	}
	for _, p := range pods {
		if slices.ContainsFunc(p.Spec.ResourceClaims, func(r corev1.PodResourceClaim) bool {
			return r.ResourceClaimTemplateName != nil && *r.ResourceClaimTemplateName == e.Object.GetName()
		}) {
			enqueue(podKey(p.Namespace, p.Name))
		}
	}
	return nil
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	if k.Resource == reconcile.Pods() {
		return 0, c.pod(ctx, k)
	}
	return 0, c.claim(ctx, k)
}

func (c *shell) pod(ctx context.Context, k reconcile.Key) error {
	cl := c.env.Client
	pod, err := reconcile.Get[*corev1.Pod](ctx, cl, reconcile.Pods(), k.Namespace, k.Name)
	if err != nil || pod == nil {
		return err
	}
	objs, err := cl.Owned(ctx, Claims(), pod.UID)
	if err != nil {
		return fmt.Errorf("list claims of pod %s: %w", k, err)
	}
	var lookup error
	todo := decidePod(pod, reconcile.As[*resourcev1.ResourceClaim](objs), func(name string) *resourcev1.ResourceClaim {
		found, err := reconcile.Get[*resourcev1.ResourceClaim](ctx, cl, Claims(), pod.Namespace, name)
		lookup = errors.Join(lookup, err)
		return found
	}, func(name string) *resourcev1.ResourceClaimTemplate {
		found, err := reconcile.Get[*resourcev1.ResourceClaimTemplate](ctx, cl, Templates(), pod.Namespace, name)
		lookup = errors.Join(lookup, err)
		return found
	})
	if lookup != nil {
		return lookup
	}
	problem := func(message string) {
		c.events.Emit(name, pod, corev1.SchemeGroupVersion.WithKind("Pod"), corev1.EventTypeWarning, "FailedResourceClaimCreation", message)
	}
	var errs []error
	for _, message := range todo.problems {
		problem(message)
		errs = append(errs, errors.New(message))
	}
	for i, wanted := range todo.create {
		made, err := cl.Create(ctx, Claims(), wanted)
		if err != nil {
			problem(fmt.Sprintf("PodResourceClaim %s: failed to create ResourceClaim: %v", todo.entries[i], err))
			errs = append(errs, fmt.Errorf("create claim for pod %s: %w", k, err))
			continue
		}
		n := made.GetName()
		todo.statuses = append(todo.statuses, corev1.PodResourceClaimStatus{Name: todo.entries[i], ResourceClaimName: &n})
	}
	if err := c.writeStatuses(ctx, pod, todo.statuses); err != nil {
		errs = append(errs, err)
	}
	for _, claim := range todo.reserve {
		if len(claim.Status.ReservedFor) >= resourcev1.ResourceClaimReservedForMaxSize {
			continue
		}
		m := claim.DeepCopy()
		m.Status.ReservedFor = append(m.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: pod.Name, UID: pod.UID})
		if _, err := cl.Update(ctx, Claims(), "status", m); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("reserve claim %s: %w", claim.Name, err))
		}
	}
	return errors.Join(errs...)
}

// writeStatuses makes the pod's status name its claims; an entry that says that no claim was needed stays.
func (c *shell) writeStatuses(ctx context.Context, pod *corev1.Pod, statuses []corev1.PodResourceClaimStatus) error {
	m := pod.DeepCopy()
	for _, s := range statuses {
		i := slices.IndexFunc(m.Status.ResourceClaimStatuses, func(have corev1.PodResourceClaimStatus) bool { return have.Name == s.Name })
		if i < 0 {
			m.Status.ResourceClaimStatuses = append(m.Status.ResourceClaimStatuses, s)
		} else {
			m.Status.ResourceClaimStatuses[i] = s
		}
	}
	if apiequality.Semantic.DeepEqual(m.Status.ResourceClaimStatuses, pod.Status.ResourceClaimStatuses) {
		return nil
	}
	if _, err := c.env.Client.Update(ctx, reconcile.Pods(), "status", m); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the claims of pod %s: %w", pod.Name, err)
	}
	return nil
}

func (c *shell) claim(ctx context.Context, k reconcile.Key) error {
	cl := c.env.Client
	claim, err := reconcile.Get[*resourcev1.ResourceClaim](ctx, cl, Claims(), k.Namespace, k.Name)
	if err != nil || claim == nil {
		return err
	}
	var lookup error
	todo := decideClaim(claim, func(name string) *corev1.Pod {
		found, err := reconcile.Get[*corev1.Pod](ctx, cl, reconcile.Pods(), k.Namespace, name)
		lookup = errors.Join(lookup, err)
		return found
	})
	if lookup != nil {
		return lookup
	}
	if todo.status != nil {
		m := claim.DeepCopy()
		m.Status = *todo.status
		updated, err := cl.Update(ctx, Claims(), "status", m)
		if err != nil {
			return ignoreGone(fmt.Errorf("write claim %s: %w", k, err))
		}
		claim = updated.(*resourcev1.ResourceClaim)
	}
	if todo.unprotected {
		m := claim.DeepCopy()
		m.Finalizers = slices.DeleteFunc(m.Finalizers, func(f string) bool { return f == resourcev1.Finalizer })
		if _, err := cl.Update(ctx, Claims(), "", m); err != nil {
			return ignoreGone(fmt.Errorf("release claim %s: %w", k, err))
		}
	}
	if todo.remove {
		uid := claim.UID
		if err := cl.Delete(ctx, Claims(), k.Namespace, k.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil {
			return ignoreGone(fmt.Errorf("delete claim %s: %w", k, err))
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
