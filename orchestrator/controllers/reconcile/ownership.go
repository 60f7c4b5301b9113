package reconcile

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
)

// ControllerRef makes the reference of a controlled object to owner.
func ControllerRef(owner api.Object, gvk schema.GroupVersionKind) metav1.OwnerReference {
	return *metav1.NewControllerRef(owner, gvk)
}

// Claim returns the objects of owner's namespace that owner controls: it adopts those that sel
// matches and nobody controls, and releases those that it controls and sel no longer matches.
// Objects of others are left alone. An owner that is being deleted adopts nothing.
func Claim(ctx context.Context, c Client, gvr schema.GroupVersionResource, owner api.Object,
	gvk schema.GroupVersionKind, sel labels.Selector) ([]api.Object, error) {
	return ClaimIf(ctx, c, gvr, owner, gvk, sel, func(api.Object) bool { return true })
}

// ClaimIf is Claim for owners that want more of their objects than the selector says, such as a name.
func ClaimIf(ctx context.Context, c Client, gvr schema.GroupVersionResource, owner api.Object,
	gvk schema.GroupVersionKind, sel labels.Selector, member func(api.Object) bool) ([]api.Object, error) {
	objs, err := c.Owned(ctx, gvr, owner.GetUID())
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", gvr.Resource, err)
	}
	objs = slices.DeleteFunc(objs, func(o api.Object) bool { // named beside a controller, or beside none: that is an orphan
		ref := metav1.GetControllerOfNoCopy(o)
		return ref == nil || ref.UID != owner.GetUID()
	})
	orphans, err := c.Orphans(ctx, gvr, owner.GetNamespace())
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", gvr.Resource, err)
	}
	var mine []api.Object
	for _, o := range append(objs, orphans...) {
		ref := metav1.GetControllerOfNoCopy(o)
		matches := sel.Matches(labels.Set(o.GetLabels())) && member(o)
		switch {
		case ref != nil && matches:
			mine = append(mine, o)
		case ref != nil: // release
			if owner.GetDeletionTimestamp() != nil || o.GetDeletionTimestamp() != nil {
				continue
			}
			n := o.DeepCopyObject().(api.Object)
			var refs []metav1.OwnerReference
			for _, r := range n.GetOwnerReferences() {
				if r.UID != owner.GetUID() {
					refs = append(refs, r)
				}
			}
			n.SetOwnerReferences(refs)
			if _, err := c.Update(ctx, gvr, "", n); err != nil && !apierrors.IsNotFound(err) {
				return nil, fmt.Errorf("release %s %s: %w", gvr.Resource, o.GetName(), err)
			}
		case matches: // adopt
			if owner.GetDeletionTimestamp() != nil || o.GetDeletionTimestamp() != nil {
				continue
			}
			n := o.DeepCopyObject().(api.Object)
			n.SetOwnerReferences(append(n.GetOwnerReferences(), ControllerRef(owner, gvk)))
			got, err := c.Update(ctx, gvr, "", n)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("adopt %s %s: %w", gvr.Resource, o.GetName(), err)
			}
			mine = append(mine, got)
		}
	}
	return mine, nil
}

// Get reads an object as its type. A missing object is (zero, nil).
func Get[T api.Object](ctx context.Context, c Client, gvr schema.GroupVersionResource, namespace, name string) (T, error) {
	var zero T
	o, err := c.Get(ctx, gvr, namespace, name)
	if apierrors.IsNotFound(err) {
		return zero, nil
	}
	if err != nil {
		return zero, fmt.Errorf("get %s %s: %w", gvr.Resource, name, err)
	}
	t, ok := o.(T)
	if !ok {
		return zero, fmt.Errorf("get %s %s: unexpected %T", gvr.Resource, name, o)
	}
	return t, nil
}

// List reads objects as their type.
func List[T api.Object](ctx context.Context, c Client, gvr schema.GroupVersionResource, namespace string, sel labels.Selector) ([]T, error) {
	objs, err := c.List(ctx, gvr, namespace, sel)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", gvr.Resource, err)
	}
	return As[T](objs), nil
}

// As converts a list; objects of another type are left out.
func As[T api.Object](objs []api.Object) []T {
	out := make([]T, 0, len(objs))
	for _, o := range objs {
		if t, ok := o.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

// EnqueueController returns a Map that enqueues the controlling owner of the given kind, now and
// before the change.
func EnqueueController(kind string) func(context.Context, Event, func(Key)) error {
	return func(_ context.Context, e Event, enqueue func(Key)) error {
		for _, o := range []api.Object{e.Object, e.Old} {
			if o == nil {
				continue
			}
			if ref := metav1.GetControllerOfNoCopy(o); ref != nil && ref.Kind == kind {
				enqueue(Key{Namespace: o.GetNamespace(), Name: ref.Name})
			}
		}
		return nil
	}
}
