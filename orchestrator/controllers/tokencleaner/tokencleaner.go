// Package tokencleaner deletes bootstrap tokens that have expired: Secrets of the type bootstrap.kubernetes.io/token in
// kube-system, such as join tokens.
package tokencleaner

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const (
	secretType    = corev1.SecretType("bootstrap.kubernetes.io/token")
	keyExpiration = "expiration" // RFC 3339
)

type shell struct{ env reconcile.Env }

// New makes the controller.
func New(env reconcile.Env) *reconcile.Controller {
	c := &shell{env.WithDefaults()}
	return &reconcile.Controller{Name: "token-cleaner", Workers: 1, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.Secrets(), Map: func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			if s, ok := e.Object.(*corev1.Secret); ok && s.Namespace == metav1.NamespaceSystem && s.Type == secretType {
				enqueue(reconcile.KeyOf(s))
			}
			return nil
		}},
	}}
}

// decide says whether the token has expired, or when to look again; 0: never. A time that can't be read is past.
func decide(s *corev1.Secret, now time.Time) (expired bool, again time.Duration) {
	if s.Type != secretType || len(s.Data[keyExpiration]) == 0 {
		return false, 0
	}
	at, err := time.Parse(time.RFC3339, string(s.Data[keyExpiration]))
	if err != nil || !now.Before(at) {
		return true, 0
	}
	return false, at.Sub(now)
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	s, err := reconcile.Get[*corev1.Secret](ctx, c.env.Client, reconcile.Secrets(), k.Namespace, k.Name)
	if err != nil || s == nil || s.DeletionTimestamp != nil {
		return 0, err
	}
	expired, again := decide(s, c.env.Clock.Now())
	if !expired {
		return min(again, time.Hour), nil // machines sleep, and clocks are set
	}
	uid := s.UID
	err = c.env.Client.Delete(ctx, reconcile.Secrets(), s.Namespace, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return 0, err
}
