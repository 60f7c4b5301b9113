// Package garbagecollector deletes objects whose owners are gone, and carries out foreground and
// orphaning deletion. An owner counts as gone only when a Get doesn't
// find its name and UID, and its end was seen or a second look a moment later doesn't find it either.
package garbagecollector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Resource is a kind that can own or be owned.
type Resource struct {
	GVR        schema.GroupVersionResource
	Kind       schema.GroupVersionKind
	Namespaced bool
}

type shell struct {
	env       reconcile.Env
	resources []Resource

	mu sync.Mutex
	// gone are owners whose deletion was seen: their dependents go at once.
	gone map[types.UID]struct{}
	// doubts are dependents of owners that were never seen, since when: a cache that learns of
	// kinds one by one may know a dependent before its owner, so they get a second look.
	doubts map[types.UID]time.Time
}

const (
	secondLook = time.Second
	memory     = 1 << 14 // entries of each map; beyond it memory starts afresh, which costs a second look
)

// surely reports whether dependent's owner, which a Get doesn't find, may be taken for gone.
func (c *shell) surely(owner, dependent types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.gone[owner]; ok {
		return true
	}
	now := c.env.Clock.Now()
	since, ok := c.doubts[dependent]
	if !ok {
		if len(c.doubts) >= memory {
			clear(c.doubts)
		}
		c.doubts[dependent] = now
		return false
	}
	return now.Sub(since) >= secondLook
}

func (c *shell) forget(dependent types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.doubts, dependent)
}

func (c *shell) sawEnd(o types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.gone) >= memory {
		clear(c.gone)
	}
	c.gone[o] = struct{}{}
	delete(c.doubts, o)
}

// New makes the controller for the resources named; owners of other kinds are left in peace.
func New(env reconcile.Env, resources []Resource) *reconcile.Controller {
	c := &shell{env: env.WithDefaults(), resources: resources, gone: map[types.UID]struct{}{}, doubts: map[types.UID]time.Time{}}
	ctl := &reconcile.Controller{Name: "garbage-collector", Workers: 4, Reconcile: c.reconcile}
	for _, r := range resources {
		ctl.Watches = append(ctl.Watches, reconcile.Watch{Resource: r.GVR, Map: c.mapper(r)})
	}
	return ctl
}

func (c *shell) mapper(r Resource) func(context.Context, reconcile.Event, func(reconcile.Key)) error {
	return func(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
		o := e.Object
		if e.Type != "DELETED" {
			if len(o.GetOwnerReferences()) > 0 || len(o.GetFinalizers()) > 0 {
				enqueue(reconcile.Key{Resource: r.GVR, Namespace: o.GetNamespace(), Name: o.GetName()})
			}
			if e.Old != nil && !apiequality.Semantic.DeepEqual(e.Old.GetOwnerReferences(), o.GetOwnerReferences()) {
				c.enqueueOwners(e.Old, enqueue) // one may have waited for a dependent that is none any more
			}
			return nil
		}
		c.sawEnd(o.GetUID())
		var errs []error
		for _, d := range c.resources { // what it owned
			objs, err := c.env.Client.Owned(ctx, d.GVR, o.GetUID())
			if err != nil { // the others are looked at all the same: one kind that can't be read holds up no other
				errs = append(errs, fmt.Errorf("list dependents: %w", err))
				continue
			}
			for _, x := range objs {
				enqueue(reconcile.Key{Resource: d.GVR, Namespace: x.GetNamespace(), Name: x.GetName()})
			}
		}
		c.enqueueOwners(o, enqueue) // whoever waits for it
		return errors.Join(errs...)
	}
}

func (c *shell) enqueueOwners(o api.Object, enqueue func(reconcile.Key)) {
	for _, ref := range o.GetOwnerReferences() {
		if or, ok := c.find(ref); ok {
			k := reconcile.Key{Resource: or.GVR, Name: ref.Name}
			if or.Namespaced {
				k.Namespace = o.GetNamespace()
			}
			enqueue(k)
		}
	}
}

func (c *shell) find(ref metav1.OwnerReference) (Resource, bool) {
	gv, _ := schema.ParseGroupVersion(ref.APIVersion)
	for _, r := range c.resources {
		if r.Kind.Kind == ref.Kind && r.Kind.Group == gv.Group {
			return r, true
		}
	}
	return Resource{}, false
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	o, err := c.env.Client.Get(ctx, k.Resource, k.Namespace, k.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("get %s: %w", k, err)
	}
	if o.GetDeletionTimestamp() != nil {
		switch {
		case slices.Contains(o.GetFinalizers(), metav1.FinalizerOrphanDependents):
			return 0, c.orphan(ctx, k, o)
		case slices.Contains(o.GetFinalizers(), metav1.FinalizerDeleteDependents):
			return 0, c.foreground(ctx, k, o)
		}
		return 0, nil
	}
	return c.collect(ctx, k, o)
}

// collect deletes o if no owner is left, and drops references to owners that are gone otherwise.
func (c *shell) collect(ctx context.Context, k reconcile.Key, o api.Object) (time.Duration, error) {
	var solid, waiting, doubtful int
	var leaving []string      // owners that wait for their dependents' end
	gone := map[string]bool{} // owners that o need not wait for, if another one is left
	for _, ref := range o.GetOwnerReferences() {
		r, ok := c.find(ref)
		if !ok {
			solid++ // we can't look, so we don't touch
			continue
		}
		ns := ""
		if r.Namespaced {
			ns = o.GetNamespace()
		}
		owner, err := c.env.Client.Get(ctx, r.GVR, ns, ref.Name)
		switch {
		case apierrors.IsNotFound(err) || err == nil && owner.GetUID() != ref.UID:
			if c.surely(ref.UID, o.GetUID()) {
				gone[string(ref.UID)] = true
			} else {
				doubtful++
			}
		case err != nil:
			return 0, fmt.Errorf("get owner %s %s: %w", ref.Kind, ref.Name, err)
		case owner.GetDeletionTimestamp() != nil && slices.Contains(owner.GetFinalizers(), metav1.FinalizerDeleteDependents):
			waiting++
			leaving = append(leaving, string(ref.UID))
		default:
			solid++
		}
	}
	switch {
	case doubtful > 0:
		return secondLook, nil
	case solid > 0 && len(gone)+waiting > 0:
		for _, uid := range leaving { // o stays, so nobody need wait for it
			gone[uid] = true
		}
		return 0, c.dropRefs(ctx, k.Resource, o, func(u string) bool { return gone[u] })
	case solid == 0 && waiting > 0:
		if freed, err := c.breakCircle(ctx, k.Resource, o); err != nil || freed {
			return 0, err // the write brings the next step
		}
		return 0, c.remove(ctx, k.Resource, o, metav1.DeletePropagationForeground)
	case solid == 0 && len(gone) > 0:
		return 0, c.remove(ctx, k.Resource, o, metav1.DeletePropagationBackground)
	}
	c.forget(o.GetUID())
	return 0, nil
}

// breakCircle unblocks o's owners if one of its own dependents waits for its dependents' end, too: in a circle
// of owners everybody would wait for ever.
func (c *shell) breakCircle(ctx context.Context, gvr schema.GroupVersionResource, o api.Object) (bool, error) {
	blocks := func(r metav1.OwnerReference) bool { return r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion }
	if !slices.ContainsFunc(o.GetOwnerReferences(), blocks) {
		return false, nil
	}
	for _, r := range c.resources {
		objs, err := c.env.Client.Owned(ctx, r.GVR, o.GetUID())
		if err != nil {
			return false, fmt.Errorf("list dependents: %w", err)
		}
		for _, d := range objs {
			if d.GetDeletionTimestamp() == nil || !slices.Contains(d.GetFinalizers(), metav1.FinalizerDeleteDependents) {
				continue
			}
			n := o.DeepCopyObject().(api.Object)
			refs := n.GetOwnerReferences()
			for i := range refs {
				refs[i].BlockOwnerDeletion = nil
			}
			n.SetOwnerReferences(refs)
			if _, err := c.env.Client.Update(ctx, gvr, "", n); err != nil && !apierrors.IsNotFound(err) {
				return false, fmt.Errorf("unblock the owners of %s: %w", o.GetName(), err)
			}
			return true, nil
		}
	}
	return false, nil
}

func (c *shell) remove(ctx context.Context, gvr schema.GroupVersionResource, o api.Object, policy metav1.DeletionPropagation) error {
	uid, rv := o.GetUID(), o.GetResourceVersion()
	err := c.env.Client.Delete(ctx, gvr, o.GetNamespace(), o.GetName(), metav1.DeleteOptions{PropagationPolicy: &policy,
		Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &rv}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s %s: %w", gvr.Resource, o.GetName(), err)
	}
	return nil
}

func (c *shell) dropRefs(ctx context.Context, gvr schema.GroupVersionResource, o api.Object, drop func(uid string) bool) error {
	n := o.DeepCopyObject().(api.Object)
	n.SetOwnerReferences(slices.DeleteFunc(n.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return drop(string(r.UID)) }))
	if _, err := c.env.Client.Update(ctx, gvr, "", n); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("drop owner references of %s: %w", o.GetName(), err)
	}
	return nil
}

func (c *shell) unhold(ctx context.Context, gvr schema.GroupVersionResource, o api.Object, finalizer string) error {
	n := o.DeepCopyObject().(api.Object)
	n.SetFinalizers(slices.DeleteFunc(n.GetFinalizers(), func(f string) bool { return f == finalizer }))
	if _, err := c.env.Client.Update(ctx, gvr, "", n); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove finalizer of %s: %w", o.GetName(), err)
	}
	return nil
}

func (c *shell) orphan(ctx context.Context, k reconcile.Key, o api.Object) error {
	for _, r := range c.resources {
		objs, err := c.env.Client.Owned(ctx, r.GVR, o.GetUID())
		if err != nil {
			return fmt.Errorf("list dependents: %w", err)
		}
		for _, d := range objs {
			if err := c.dropRefs(ctx, r.GVR, d, func(u string) bool { return u == string(o.GetUID()) }); err != nil {
				return err
			}
		}
	}
	return c.unhold(ctx, k.Resource, o, metav1.FinalizerOrphanDependents)
}

func (c *shell) foreground(ctx context.Context, k reconcile.Key, o api.Object) error {
	blocked := false
	for _, r := range c.resources {
		objs, err := c.env.Client.Owned(ctx, r.GVR, o.GetUID())
		if err != nil {
			return fmt.Errorf("list dependents: %w", err)
		}
		for _, d := range objs {
			for _, ref := range d.GetOwnerReferences() {
				if ref.UID == o.GetUID() && ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion {
					blocked = true
				}
			}
			if d.GetDeletionTimestamp() == nil {
				if _, err := c.collect(ctx, reconcile.Key{Resource: r.GVR, Namespace: d.GetNamespace(), Name: d.GetName()}, d); err != nil {
					return err
				}
			}
		}
	}
	if blocked {
		return nil // each dependent's end enqueues the owner again
	}
	return c.unhold(ctx, k.Resource, o, metav1.FinalizerDeleteDependents)
}
