package volumeprotection

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/api/volumes"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const name = "volume-protection-controller"

type shell struct{ env reconcile.Env }

// New makes the controller. Its keys name claims and volumes.
func New(env reconcile.Env) *reconcile.Controller {
	c := &shell{env.WithDefaults()}
	return &reconcile.Controller{Name: name, Workers: 1, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.PersistentVolumeClaims(), Map: enqueueUnsettled(reconcile.PersistentVolumeClaims(), api.PersistentVolumeClaimProtection)},
		{Resource: reconcile.PersistentVolumes(), Map: enqueueUnsettled(reconcile.PersistentVolumes(), api.PersistentVolumeProtection)},
		{Resource: reconcile.Pods(), Map: c.podChanged},
	}}
}

// enqueueUnsettled looks at objects that are to go, and at those without their finalizer: the others have what they need.
func enqueueUnsettled(gvr schema.GroupVersionResource, finalizer string) func(context.Context, reconcile.Event, func(reconcile.Key)) error {
	return func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
		if o := e.Object; e.Type != watch.Deleted && (o.GetDeletionTimestamp() != nil) == slices.Contains(o.GetFinalizers(), finalizer) {
			enqueue(reconcile.Key{Resource: gvr, Namespace: o.GetNamespace(), Name: o.GetName()})
		}
		return nil
	}
}

// podChanged looks at the claims of pods that have ended or are gone.
func (s *shell) podChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	pod, ok := e.Object.(*corev1.Pod)
	if !ok || e.Type != watch.Deleted && !reconcile.PodTerminal(pod) {
		return nil
	}
	for _, u := range volumes.Uses(pod) {
		enqueue(reconcile.Key{Resource: reconcile.PersistentVolumeClaims(), Namespace: pod.Namespace, Name: u.Claim})
	}
	return nil
}

func (s *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := s.env.Client
	o, err := cl.Get(ctx, k.Resource, k.Namespace, k.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("get %s: %w", k, err)
	}
	finalizer := api.PersistentVolumeProtection
	var lookup error
	inUse := func() bool { return false }
	switch o := o.(type) {
	case *corev1.PersistentVolume:
		inUse = func() bool { return volumeInUse(o) }
	case *corev1.PersistentVolumeClaim:
		finalizer = api.PersistentVolumeClaimProtection
		inUse = func() bool {
			var pods []*corev1.Pod
			pods, lookup = reconcile.List[*corev1.Pod](ctx, cl, reconcile.Pods(), o.Namespace, nil)
			return lookup != nil || claimInUse(o, pods)
		}
	}
	verdict := decide(o, finalizer, inUse)
	if lookup != nil || verdict == keep {
		return 0, lookup
	}
	m := o.DeepCopyObject().(api.Object)
	if verdict == add {
		m.SetFinalizers(append(m.GetFinalizers(), finalizer))
	} else {
		m.SetFinalizers(slices.DeleteFunc(m.GetFinalizers(), func(f string) bool { return f == finalizer }))
	}
	if _, err := cl.Update(ctx, k.Resource, "", m); err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("write the finalizer of %s: %w", k, err)
	}
	return 0, nil
}
