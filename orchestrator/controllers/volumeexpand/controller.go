package volumeexpand

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const name = "volume_expand"

type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder
}

// New makes the controller. Its keys name claims.
func New(env reconcile.Env, events *reconcile.Recorder) *reconcile.Controller {
	c := &shell{env.WithDefaults(), events}
	return &reconcile.Controller{Name: name, Workers: 1, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.PersistentVolumeClaims(), Map: claimChanged}, {Resource: reconcile.PersistentVolumes(), Map: volumeChanged},
	}}
}

func claimChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	if c, ok := e.Object.(*corev1.PersistentVolumeClaim); ok && e.Type != watch.Deleted && c.Status.Phase == corev1.ClaimBound {
		want, have := c.Spec.Resources.Requests[corev1.ResourceStorage], c.Status.Capacity[corev1.ResourceStorage]
		if want.Cmp(have) > 0 || len(c.Status.Conditions) > 0 || len(c.Status.AllocatedResourceStatuses) > 0 {
			enqueue(reconcile.KeyOf(c))
		}
	}
	return nil
}

func volumeChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	v, ok := e.Object.(*corev1.PersistentVolume)
	if !ok || e.Type == watch.Deleted || v.Spec.ClaimRef == nil {
		return nil
	}
	if old, ok := e.Old.(*corev1.PersistentVolume); ok && apiequality.Semantic.DeepEqual(old.Spec.Capacity, v.Spec.Capacity) {
		return nil
	}
	enqueue(reconcile.Key{Namespace: v.Spec.ClaimRef.Namespace, Name: v.Spec.ClaimRef.Name})
	return nil
}

func (s *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := s.env.Client
	c, err := reconcile.Get[*corev1.PersistentVolumeClaim](ctx, cl, reconcile.PersistentVolumeClaims(), k.Namespace, k.Name)
	if err != nil || c == nil || c.Spec.VolumeName == "" {
		return 0, err
	}
	v, err := reconcile.Get[*corev1.PersistentVolume](ctx, cl, reconcile.PersistentVolumes(), "", c.Spec.VolumeName)
	if err != nil {
		return 0, err
	}
	status, e := decide(c, v, metav1.NewTime(s.env.Clock.Now()))
	if status != nil && !apiequality.Semantic.DeepEqual(*status, c.Status) {
		m := c.DeepCopy()
		m.Status = *status
		if _, err := cl.Update(ctx, reconcile.PersistentVolumeClaims(), "status", m); err != nil {
			if apierrors.IsNotFound(err) {
				return 0, nil
			}
			return 0, fmt.Errorf("write the capacity of claim %s: %w", k, err)
		}
	}
	if e != nil {
		s.events.Emit(name, c, corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), e.typ, e.reason, e.message)
	}
	return 0, nil
}
