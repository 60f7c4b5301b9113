package ttlafterfinished

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// atLeast is how often it looks: machines sleep, and clocks are set.
const atLeast = time.Hour

type shell struct{ env reconcile.Env }

// New makes the controller.
func New(env reconcile.Env) *reconcile.Controller {
	c := &shell{env.WithDefaults()}
	return &reconcile.Controller{Name: "ttl-after-finished-controller", Workers: 1, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.Jobs(), Map: func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			if j, ok := e.Object.(*batchv1.Job); ok && j.Spec.TTLSecondsAfterFinished != nil {
				enqueue(reconcile.KeyOf(j))
			}
			return nil
		}},
	}}
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	j, err := reconcile.Get[*batchv1.Job](ctx, c.env.Client, reconcile.Jobs(), k.Namespace, k.Name)
	if err != nil || j == nil {
		return 0, err
	}
	expired, again := decide(j, c.env.Clock.Now())
	if !expired {
		return min(again, atLeast), nil
	}
	// The version is named, so that a Job whose time has just been prolonged stays.
	uid, version, foreground := j.UID, j.ResourceVersion, metav1.DeletePropagationForeground
	err = c.env.Client.Delete(ctx, reconcile.Jobs(), j.Namespace, j.Name, metav1.DeleteOptions{PropagationPolicy: &foreground,
		Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("delete job %s: %w", j.Name, err)
	}
	return 0, nil
}
