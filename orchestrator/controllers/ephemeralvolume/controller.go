package ephemeralvolume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const name = "ephemeral_volume"

type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder
}

// New makes the controller. Its keys name pods.
func New(env reconcile.Env, events *reconcile.Recorder) *reconcile.Controller {
	c := &shell{env.WithDefaults(), events}
	return &reconcile.Controller{Name: name, Workers: 1, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.Pods(), Map: podChanged}, {Resource: reconcile.PersistentVolumeClaims(), Map: claimChanged},
	}}
}

func podChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	pod, ok := e.Object.(*corev1.Pod)
	if ok && e.Type == watch.Added && slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Ephemeral != nil }) {
		enqueue(reconcile.KeyOf(pod))
	}
	return nil
}

// claimChanged makes a claim again that somebody deleted while its pod needs it.
func claimChanged(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	if owner := metav1.GetControllerOfNoCopy(e.Object); e.Type == watch.Deleted && owner != nil && owner.Kind == "Pod" {
		enqueue(reconcile.Key{Namespace: e.Object.GetNamespace(), Name: owner.Name})
	}
	return nil
}

func (s *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := s.env.Client
	pod, err := reconcile.Get[*corev1.Pod](ctx, cl, reconcile.Pods(), k.Namespace, k.Name)
	if err != nil || pod == nil {
		return 0, err
	}
	var lookup error
	create, problems := decide(pod, func(name string) *corev1.PersistentVolumeClaim {
		found, err := reconcile.Get[*corev1.PersistentVolumeClaim](ctx, cl, reconcile.PersistentVolumeClaims(), k.Namespace, name)
		lookup = errors.Join(lookup, err)
		return found
	})
	if lookup != nil {
		return 0, lookup
	}
	for _, c := range create {
		switch _, err := cl.Create(ctx, reconcile.PersistentVolumeClaims(), c); {
		case apierrors.IsAlreadyExists(err):
			return 0, err // a moment later it is seen whose it is
		case err != nil:
			problems = append(problems, problem{strings.TrimPrefix(c.Name, api.EphemeralClaimName(pod.Name, "")), fmt.Errorf("create PVC %s: %w", c.Name, err)})
		}
	}
	var errs []error
	for _, p := range problems {
		s.events.Emit(name, pod, corev1.SchemeGroupVersion.WithKind("Pod"), corev1.EventTypeWarning, "FailedBinding", fmt.Sprintf("ephemeral volume %s: %v", p.volume, p.err))
		errs = append(errs, p.err)
	}
	return 0, errors.Join(errs...)
}
