// Package nodettl writes the annotation node.alpha.kubernetes.io/ttl on nodes: for how many seconds an agent may use what
// it has read of Secrets and ConfigMaps, longer in a larger cluster. Sizes overlap, so that a cluster at a bound doesn't
// go back and forth.
package nodettl

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controller's name in metrics.
const Name = "ttl-controller"

type bound struct{ from, to, seconds int }

// bounds are Kubernetes'.
func bounds() []bound {
	return []bound{{0, 100, 0}, {90, 500, 15}, {450, 1000, 30}, {900, 2000, 60}, {1800, int(^uint(0) >> 1), 300}}
}

// decide moves from one bound, by index, to that of a cluster of so many nodes.
func decide(at, nodes int) int {
	all := bounds()
	for nodes > all[at].to {
		at++
	}
	for nodes < all[at].from {
		at--
	}
	return at
}

type shell struct {
	env reconcile.Env

	mu    sync.Mutex // guards what follows
	nodes map[string]struct{}
	at    int
}

// New makes the controller.
func New(env reconcile.Env) *reconcile.Controller {
	c := &shell{env: env.WithDefaults(), nodes: map[string]struct{}{}}
	return &reconcile.Controller{Name: Name, Workers: 1, AfterSync: true, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.Nodes(), Map: func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.nodes[e.Object.GetName()] = struct{}{}; e.Type == watch.Deleted {
				delete(c.nodes, e.Object.GetName())
			}
			now := decide(c.at, len(c.nodes))
			if now != c.at {
				c.at = now
				for name := range c.nodes {
					enqueue(reconcile.Key{Name: name})
				}
			} else if e.Type == watch.Added || e.Type == watch.Modified && e.Object.GetAnnotations()[corev1.ObjectTTLAnnotationKey] != e.Old.GetAnnotations()[corev1.ObjectTTLAnnotationKey] {
				enqueue(reconcile.KeyOf(e.Object))
			}
			return nil
		}},
	}}
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	n, err := reconcile.Get[*corev1.Node](ctx, c.env.Client, reconcile.Nodes(), "", k.Name)
	if err != nil || n == nil || n.DeletionTimestamp != nil {
		return 0, err
	}
	c.mu.Lock()
	want := strconv.Itoa(bounds()[c.at].seconds)
	c.mu.Unlock()
	if n.Annotations[corev1.ObjectTTLAnnotationKey] == want {
		return 0, nil
	}
	m := n.DeepCopy()
	metav1.SetMetaDataAnnotation(&m.ObjectMeta, corev1.ObjectTTLAnnotationKey, want)
	if _, err := c.env.Client.Update(ctx, reconcile.Nodes(), "", m); err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("annotate node: %w", err)
	}
	return 0, nil
}
