// Package namespace empties namespaces that are being deleted, and then lets them go.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// again is how often a namespace whose objects take their time is looked at.
const again = 250 * time.Millisecond

// New makes the controller for the namespaced resources named.
func New(env reconcile.Env, namespaced []schema.GroupVersionResource) *reconcile.Controller {
	c := &shell{env.WithDefaults(), namespaced}
	return &reconcile.Controller{Name: "namespace-controller", Workers: 2, Reconcile: c.reconcile,
		Watches: []reconcile.Watch{{Resource: reconcile.Namespaces()}}}
}

type shell struct {
	env       reconcile.Env
	resources []schema.GroupVersionResource
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	ns, err := reconcile.Get[*corev1.Namespace](ctx, cl, reconcile.Namespaces(), "", k.Name)
	if err != nil || ns == nil || ns.DeletionTimestamp == nil || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return 0, err
	}
	left := remains{finalizers: map[string]int{}}
	var errs []error
	for _, gvr := range c.resources {
		objs, err := cl.List(ctx, gvr, ns.Name, nil)
		if err != nil {
			errs = append(errs, fmt.Errorf("list %s: %w", gvr.Resource, err)) // nor does one that can't be read
			continue
		}
		left.add(gvr, objs)
		for _, o := range objs {
			if o.GetDeletionTimestamp() != nil {
				continue
			}
			background := metav1.DeletePropagationBackground
			if err := cl.Delete(ctx, gvr, ns.Name, o.GetName(), metav1.DeleteOptions{PropagationPolicy: &background}); err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, fmt.Errorf("delete %s %s: %w", gvr.Resource, o.GetName(), err)) // one that stays holds up no other
			}
		}
	}
	failure := errors.Join(errs...)
	if failure != nil || left.total > 0 { // only a pass that finds nothing lets go
		n := ns.DeepCopy()
		if decideConditions(&n.Status, left, failure, c.env.Clock.Now()) {
			if _, err := cl.Update(ctx, reconcile.Namespaces(), "status", n); err != nil && !apierrors.IsNotFound(err) {
				failure = errors.Join(failure, fmt.Errorf("update status: %w", err))
			}
		}
		return again, failure
	}
	n := ns.DeepCopy()
	n.Spec.Finalizers = slices.DeleteFunc(n.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	if _, err := cl.Update(ctx, reconcile.Namespaces(), "finalize", n); err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("finalize: %w", err)
	}
	return 0, nil
}
