package devicetainteviction

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controller's name in events and metrics.
const Name = "device-taint-eviction"

// Claims names the resource that its name says, as does Slices.
func Claims() schema.GroupVersionResource {
	return resourcev1.SchemeGroupVersion.WithResource("resourceclaims")
}

// Slices is resourceslices.
func Slices() schema.GroupVersionResource {
	return resourcev1.SchemeGroupVersion.WithResource("resourceslices")
}

type taint struct {
	device
	key, value string
}

type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder

	mu   sync.Mutex
	seen map[taint]time.Time // when a taint that doesn't say since when was seen first
}

// New makes the controller. Its keys name claims.
func New(env reconcile.Env, events *reconcile.Recorder) *reconcile.Controller {
	c := &shell{env: env.WithDefaults(), events: events, seen: map[taint]time.Time{}}
	return &reconcile.Controller{Name: Name, Workers: 2, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: Claims()}, {Resource: Slices(), Map: c.sliceChanged},
	}}
}

// executes says whether any device of the slice has a taint that ends pods.
func executes(s *resourcev1.ResourceSlice) bool {
	return slices.ContainsFunc(s.Spec.Devices, func(d resourcev1.Device) bool {
		return slices.ContainsFunc(d.Taints, func(t resourcev1.DeviceTaint) bool { return t.Effect == resourcev1.DeviceTaintEffectNoExecute })
	})
}

// sliceChanged looks at the claims that have devices of the pool.
func (c *shell) sliceChanged(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	s, ok := e.Object.(*resourcev1.ResourceSlice)
	if !ok || !executes(s) {
		return nil // where a taint has gone, whoever waits for its time to be over looks again then
	}
	claims, err := reconcile.List[*resourcev1.ResourceClaim](ctx, c.env.Client, Claims(), "", nil)
	if err != nil {
		return err
	}
	for _, claim := range claims {
		if a := claim.Status.Allocation; a != nil && slices.ContainsFunc(a.Devices.Results, func(r resourcev1.DeviceRequestAllocationResult) bool {
			return r.Driver == s.Spec.Driver && r.Pool == s.Spec.Pool.Name
		}) {
			enqueue(reconcile.KeyOf(claim))
		}
	}
	return nil
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	claim, err := reconcile.Get[*resourcev1.ResourceClaim](ctx, c.env.Client, Claims(), k.Namespace, k.Name)
	if err != nil || claim == nil || claim.Status.Allocation == nil || len(claim.Status.ReservedFor) == 0 {
		return 0, err
	}
	all, err := reconcile.List[*resourcev1.ResourceSlice](ctx, c.env.Client, Slices(), "", nil)
	if err != nil {
		return 0, err
	}
	all = slices.DeleteFunc(all, func(s *resourcev1.ResourceSlice) bool {
		return !slices.ContainsFunc(claim.Status.Allocation.Devices.Results, func(r resourcev1.DeviceRequestAllocationResult) bool {
			return r.Driver == s.Spec.Driver && r.Pool == s.Spec.Pool.Name
		})
	})
	now := c.env.Clock.Now()
	evict, at := decide(claim, taints(all), func(d device, t *resourcev1.DeviceTaint) time.Time { return c.since(taint{d, t.Key, t.Value}, now) })
	if !evict {
		return 0, nil
	}
	if left := at.Sub(now); left > 0 {
		return left, nil
	}
	var errs []error
	for _, r := range claim.Status.ReservedFor {
		if r.APIGroup == "" && r.Resource == "pods" {
			errs = append(errs, c.evict(ctx, claim.Namespace, &r))
		}
	}
	return 0, errors.Join(errs...)
}

// maxSeen bounds how many taints are remembered.
const maxSeen = 1 << 14

func (c *shell) since(t taint, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.seen[t]
	if !ok {
		if len(c.seen) >= maxSeen {
			clear(c.seen)
		}
		at = now
		c.seen[t] = at
	}
	return at
}

// evict ends a pod for which a claim is reserved.
func (c *shell) evict(ctx context.Context, namespace string, of *resourcev1.ResourceClaimConsumerReference) error {
	cl := c.env.Client
	p, err := reconcile.Get[*corev1.Pod](ctx, cl, reconcile.Pods(), namespace, of.Name)
	if err != nil || p == nil || p.UID != of.UID || !reconcile.PodActive(p) {
		return err
	}
	m := p.DeepCopy()
	m.Status.Conditions = slices.DeleteFunc(m.Status.Conditions, func(x corev1.PodCondition) bool { return x.Type == corev1.DisruptionTarget })
	m.Status.Conditions = append(m.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: "DeletionByDeviceTaintManager", Message: "Device Taint manager: deleting due to NoExecute taint", LastTransitionTime: metav1.NewTime(c.env.Clock.Now())})
	if _, err := cl.Update(ctx, reconcile.Pods(), "status", m); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("mark pod %s: %w", p.Name, err)
	}
	uid := p.UID
	if err := cl.Delete(ctx, reconcile.Pods(), p.Namespace, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("evict pod %s: %w", p.Name, err)
	}
	c.events.Emit(Name, p, corev1.SchemeGroupVersion.WithKind("Pod"), corev1.EventTypeNormal, "DeviceTaintManagerEviction", "Marking for deletion")
	return nil
}
