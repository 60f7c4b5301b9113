package resourcequota

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controller's name in metrics.
const Name = "resourcequota-controller"

type shell struct {
	env   reconcile.Env
	kinds []*api.Kind

	mu   sync.Mutex
	next map[reconcile.Key]time.Time // when a quota may be counted again
}

// New makes the controller; kinds are everything that the cluster serves.
func New(env reconcile.Env, kinds []*api.Kind) *reconcile.Controller {
	c := &shell{env: env.WithDefaults(), next: map[reconcile.Key]time.Time{}}
	watches := []reconcile.Watch{{Resource: reconcile.ResourceQuotas()}}
	for _, k := range kinds {
		if !k.Namespaced || k.StoredAs.Resource != "" {
			continue
		}
		c.kinds = append(c.kinds, k)
		if gvr := k.GVR(); gvr == reconcile.Events() || gvr == reconcile.Leases() || gvr == reconcile.ResourceQuotas() {
			continue // they change all the time, and are rarely limited: counted with the next change, or resync
		}
		watches = append(watches, reconcile.Watch{Resource: k.GVR(), Map: func(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			if e.Type != watch.Deleted && !concerns(k, e.Object, e.Old, c.env.Clock.Now()) {
				return nil
			}
			quotas, err := c.env.Client.List(ctx, reconcile.ResourceQuotas(), e.Object.GetNamespace(), nil)
			if err != nil {
				return err
			}
			for _, q := range quotas {
				enqueue(reconcile.KeyOf(q))
			}
			return nil
		}})
	}
	return &reconcile.Controller{Name: Name, Workers: 2, Reconcile: c.reconcile, Watches: watches}
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	// The quota first: what is listed after it is at least as new, and a charge meanwhile is a conflict.
	q, err := reconcile.Get[*corev1.ResourceQuota](ctx, c.env.Client, reconcile.ResourceQuotas(), k.Namespace, k.Name)
	if err != nil {
		return 0, err
	}
	began := c.env.Clock.Now()
	c.mu.Lock()
	wait := c.next[k].Sub(began)
	if q == nil {
		delete(c.next, k)
	}
	c.mu.Unlock()
	if q == nil || wait > 0 {
		return max(wait, 0), nil
	}
	used, err := c.count(ctx, q, began)
	if err != nil {
		return 0, err
	}
	now := c.env.Clock.Now()
	c.mu.Lock()
	c.next[k] = now.Add(pause(now.Sub(began)))
	c.mu.Unlock()
	status, differs := decide(q, used)
	if !differs {
		return resync, nil
	}
	m := q.DeepCopy()
	m.Status = status
	_, err = c.env.Client.Update(ctx, reconcile.ResourceQuotas(), "status", m)
	switch {
	case apierrors.IsConflict(err): // a charge was faster
		return pauseMin, nil
	case apierrors.IsNotFound(err):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("update the status: %w", err)
	}
	return resync, nil
}

func (c *shell) count(ctx context.Context, q *corev1.ResourceQuota, now time.Time) (used corev1.ResourceList, err error) {
	used = api.CountQuota(q, func(k *api.Kind, each func(api.Object)) {
		objs, problem := c.env.Client.List(ctx, k.GVR(), q.Namespace, nil)
		if problem != nil && err == nil {
			err = fmt.Errorf("list %s: %w", k.Resource, problem)
		}
		for _, o := range objs {
			each(o)
		}
	}, c.kinds, now)
	return used, err
}
