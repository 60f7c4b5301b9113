package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/scheduler/claims"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

var (
	claimsResource  = resourcev1.SchemeGroupVersion.WithResource("resourceclaims")
	slicesResource  = resourcev1.SchemeGroupVersion.WithResource("resourceslices")
	classesResource = resourcev1.SchemeGroupVersion.WithResource("deviceclasses")
)

// claimsOf is the plugin that a decider's profiles share, nil if none has it.
func claimsOf(d *Decider) *plugins.DynamicResources {
	found, _ := d.state.Keeper((*plugins.DynamicResources)(nil).Name()).(*plugins.DynamicResources)
	return found
}

// waitsForClaims says whether another claim, or what becomes free of one, may help a pod that these plugins refused.
func waitsForClaims(refused map[string]bool) bool {
	return refused["DynamicResources"] || refused["GPU"]
}

// setClaims records an object of resource.k8s.io.
func (l *loop) setClaims(o runtime.Object) {
	if l.claims == nil {
		return
	}
	switch o := o.(type) {
	case *resourcev1.ResourceClaim:
		if l.claims.SetClaim(o) {
			l.queue.wake(waitsForClaims)
		}
	case *resourcev1.ResourceSlice:
		l.claims.SetSlice(o)
		l.queue.wake(waitsForClaims)
	case *resourcev1.DeviceClass:
		l.claims.SetClass(o)
		l.queue.wake(waitsForClaims)
	}
}

// forgetClaims forgets one, or what was decided for a pod that is gone.
func (l *loop) forgetClaims(resource, key string, uid types.UID) {
	if l.claims == nil {
		return
	}
	at := indexAfterSlash(key)
	namespace, name := key[:max(0, at-1)], key[at:]
	switch resource {
	case podsResource.Resource:
		if !l.claims.Writing(uid) { // whoever writes ends it
			l.claims.Done(uid)
		}
	case claimsResource.Resource:
		l.claims.RemoveClaim(namespace, name)
		l.queue.wake(waitsForClaims)
	case slicesResource.Resource:
		l.claims.RemoveSlice(name)
		l.queue.wake(waitsForClaims)
	case classesResource.Resource:
		l.claims.RemoveClass(name)
	}
}

// claimWrites are the claims of a pod on their way to the store, and what they are there.
type claimWrites struct {
	plans   []*claims.Plan
	written []*resourcev1.ResourceClaim
	err     error // why nothing is to be written, nor bound
}

// claimsToWrite are those of a pod that is about to be bound.
func (l *loop) claimsToWrite(pod *corev1.Pod) *claimWrites {
	if l.claims == nil || len(pod.Spec.ResourceClaims) == 0 {
		return nil
	}
	plans, ok := l.claims.Plans(pod.UID)
	if !ok {
		return &claimWrites{err: errors.New("the devices that were chosen for its claims are no longer free")}
	}
	return &claimWrites{plans: plans}
}

// claimsWritten records what a writer has made of a pod's claims.
func (l *loop) claimsWritten(b binding) {
	if b.claims == nil || l.claims == nil {
		return
	}
	for _, c := range b.claims.written {
		if l.claims.Known(c) { // a claim that the watch says is gone doesn't come back
			l.claims.SetClaim(c)
		}
	}
	l.claims.Done(b.pod.UID)
	if b.err != nil {
		l.queue.wake(waitsForClaims)
	}
}

// withClaims allocates the pod's claims and reserves them for it, binds, and takes both back where that fails.
func (cfg *Config) withClaims(ctx context.Context, b binding, bind func() error) error {
	switch {
	case b.claims == nil:
		return bind()
	case b.claims.err != nil:
		return b.claims.err
	}
	err := cfg.writeClaims(ctx, b.pod, b.claims)
	if err == nil {
		err = bind()
	}
	if err != nil {
		cfg.unreserve(ctx, b.pod, b.claims)
	}
	return err
}

// attempts bounds how often a claim that others write at the same time is tried.
const attempts = 5

func (cfg *Config) writeClaims(ctx context.Context, pod *corev1.Pod, w *claimWrites) error {
	for _, plan := range w.plans {
		var c *resourcev1.ResourceClaim
		var err error
		for range attempts {
			if c, err = cfg.reserve(ctx, pod, plan); !apierrors.IsConflict(err) {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("reserve ResourceClaim %s: %v", plan.Claim.Name, err) // not %w: that the claim is gone doesn't say it of the pod
		}
		w.written = append(w.written, c)
	}
	return nil
}

// reserve makes a claim say that it has what was decided, and that the pod may use it.
func (cfg *Config) reserve(ctx context.Context, pod *corev1.Pod, plan *claims.Plan) (*resourcev1.ResourceClaim, error) {
	c, err := cfg.claim(ctx, plan.Claim)
	if err != nil {
		return nil, err
	}
	switch have := c.Status.Allocation; {
	case c.DeletionTimestamp != nil:
		return nil, errors.New("it is being deleted")
	case have != nil && !apiequality.Semantic.DeepEqual(have, plan.Allocation):
		return nil, errors.New("it was allocated otherwise meanwhile")
	case have == nil && !slices.Contains(c.Finalizers, resourcev1.Finalizer):
		c.Finalizers = append(c.Finalizers, resourcev1.Finalizer)
		updated, err := cfg.Client.Update(ctx, claimsResource, "", c)
		if err != nil {
			return nil, err
		}
		c = updated.DeepCopyObject().(*resourcev1.ResourceClaim)
	}
	c.Status.Allocation = plan.Allocation.DeepCopy()
	if !slices.ContainsFunc(c.Status.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool { return r.UID == pod.UID }) {
		if len(c.Status.ReservedFor) >= resourcev1.ResourceClaimReservedForMaxSize {
			return nil, errors.New("it is reserved for as many pods as it can be")
		}
		c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: pod.Name, UID: pod.UID})
	}
	updated, err := cfg.Client.Update(ctx, claimsResource, "status", c)
	if err != nil {
		return nil, err
	}
	return updated.(*resourcev1.ResourceClaim), nil
}

// claim reads a claim, to be changed.
func (cfg *Config) claim(ctx context.Context, of *resourcev1.ResourceClaim) (*resourcev1.ResourceClaim, error) {
	o, err := cfg.Client.Get(ctx, claimsResource, of.Namespace, of.Name)
	if err != nil {
		return nil, err
	}
	c, ok := o.DeepCopyObject().(*resourcev1.ResourceClaim)
	if !ok || c.UID != of.UID {
		return nil, apierrors.NewNotFound(claimsResource.GroupResource(), of.Name)
	}
	return c, nil
}

// unreserve takes back what was written for a pod that was not bound after all. What fails here the controller of claims
// mends, when the pod is gone.
func (cfg *Config) unreserve(ctx context.Context, pod *corev1.Pod, w *claimWrites) {
	// A binding whose answer was lost may have been made: its claims are the pod's then.
	o, err := cfg.Client.Get(ctx, podsResource, pod.Namespace, pod.Name)
	if now, ok := o.(*corev1.Pod); err != nil && !apierrors.IsNotFound(err) || err == nil && ok && now.UID == pod.UID && now.Spec.NodeName != "" {
		return
	}
	for i, written := range w.written {
		for range attempts {
			c, err := cfg.claim(ctx, written)
			if err != nil {
				break
			}
			mine := func(r resourcev1.ResourceClaimConsumerReference) bool { return r.UID == pod.UID }
			if !slices.ContainsFunc(c.Status.ReservedFor, mine) {
				break
			}
			if c.Status.ReservedFor = slices.DeleteFunc(c.Status.ReservedFor, mine); len(c.Status.ReservedFor) == 0 {
				c.Status.ReservedFor, c.Status.Allocation, c.Status.Devices = nil, nil, nil
			}
			updated, err := cfg.Client.Update(ctx, claimsResource, "status", c)
			if err == nil {
				w.written[i] = updated.(*resourcev1.ResourceClaim)
			}
			if !apierrors.IsConflict(err) {
				break
			}
		}
	}
}
