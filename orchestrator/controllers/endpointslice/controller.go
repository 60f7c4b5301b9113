package endpointslice

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controller's name in metrics.
const Name = "endpointslice-controller"

func kind() schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind("Service") }

// New makes the controller; nothing runs yet.
func New(env reconcile.Env, workers int) *reconcile.Controller {
	c := &shell{env.WithDefaults()}
	return &reconcile.Controller{Name: Name, Workers: workers, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.Services()},
		{Resource: reconcile.Pods(), Map: c.fromPod},
		{Resource: reconcile.EndpointSlices(), Map: fromSlice},
		{Resource: reconcile.Endpoints()},
		{Resource: reconcile.Nodes(), Map: c.fromNode},
	}}
}

type shell struct{ env reconcile.Env }

func fromSlice(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	for _, o := range []api.Object{e.Object, e.Old} {
		if o != nil && (o.GetLabels()[discoveryv1.LabelManagedBy] == managedBy || o.GetLabels()[discoveryv1.LabelManagedBy] == mirroredBy) {
			enqueue(reconcile.Key{Namespace: o.GetNamespace(), Name: o.GetLabels()[discoveryv1.LabelServiceName]})
		}
	}
	return nil
}

func (c *shell) fromPod(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	svcs, err := reconcile.List[*corev1.Service](ctx, c.env.Client, reconcile.Services(), e.Object.GetNamespace(), nil)
	if err != nil {
		return err
	}
	for _, s := range svcs {
		if len(s.Spec.Selector) == 0 {
			continue
		}
		sel := labels.SelectorFromSet(s.Spec.Selector)
		if sel.Matches(labels.Set(e.Object.GetLabels())) || e.Old != nil && sel.Matches(labels.Set(e.Old.GetLabels())) {
			enqueue(reconcile.KeyOf(s))
		}
	}
	return nil
}

// fromNode looks again at every service when a node's zone changes.
func (c *shell) fromNode(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	zone := func(o api.Object) string {
		if o == nil {
			return ""
		}
		return o.GetLabels()[corev1.LabelTopologyZone]
	}
	if zone(e.Object) == zone(e.Old) {
		return nil
	}
	svcs, err := c.env.Client.List(ctx, reconcile.Services(), "", nil)
	if err != nil {
		return fmt.Errorf("list services: %w", err)
	}
	for _, s := range svcs {
		enqueue(reconcile.KeyOf(s))
	}
	return nil
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	s, err := reconcile.Get[*corev1.Service](ctx, cl, reconcile.Services(), k.Namespace, k.Name)
	if err != nil {
		return 0, err
	}
	have, err := reconcile.List[*discoveryv1.EndpointSlice](ctx, cl, reconcile.EndpointSlices(), k.Namespace,
		labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: k.Name, discoveryv1.LabelManagedBy: managedBy}))
	if err != nil {
		return 0, err
	}
	copies, err := reconcile.List[*discoveryv1.EndpointSlice](ctx, cl, reconcile.EndpointSlices(), k.Namespace,
		labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: k.Name, discoveryv1.LabelManagedBy: mirroredBy}))
	if err != nil {
		return 0, err
	}
	endpoints, err := reconcile.Get[*corev1.Endpoints](ctx, cl, reconcile.Endpoints(), k.Namespace, k.Name)
	if err != nil {
		return 0, err
	}
	if s == nil || len(s.Spec.Selector) == 0 || s.Spec.Type == corev1.ServiceTypeExternalName {
		// Without a selector the endpoints are somebody else's; what we once made goes.
		var p plan
		if mirrors(s, endpoints) {
			p = mirror(s, endpoints, copies)
		} else {
			p.remove = copies
		}
		p.remove = append(p.remove, have...)
		if s == nil && endpoints != nil && endpoints.Labels["endpoints.kubernetes.io/managed-by"] == "endpoint-controller" {
			if err := cl.Delete(ctx, reconcile.Endpoints(), k.Namespace, k.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return 0, fmt.Errorf("delete endpoints: %w", err)
			}
		}
		return 0, c.act(ctx, p)
	}
	if s.DeletionTimestamp != nil {
		return 0, nil
	}
	pods, err := reconcile.List[*corev1.Pod](ctx, cl, reconcile.Pods(), k.Namespace, labels.SelectorFromSet(s.Spec.Selector))
	if err != nil {
		return 0, err
	}
	nodes, err := cl.List(ctx, reconcile.Nodes(), "", nil)
	if err != nil {
		return 0, fmt.Errorf("list nodes: %w", err)
	}
	zones := map[string]string{}
	for _, n := range nodes {
		zones[n.GetName()] = n.GetLabels()[corev1.LabelTopologyZone]
	}
	p := decide(s, pods, zones, have, endpoints)
	p.remove = append(p.remove, copies...)
	return 0, c.act(ctx, p)
}

// act updates first: what stops being ready must be known before anything else.
func (c *shell) act(ctx context.Context, p plan) error {
	cl := c.env.Client
	for _, es := range p.update {
		if _, err := cl.Update(ctx, reconcile.EndpointSlices(), "", es); err != nil {
			return fmt.Errorf("update endpoint slice %s: %w", es.Name, err)
		}
	}
	for _, es := range p.create {
		if _, err := cl.Create(ctx, reconcile.EndpointSlices(), es); err != nil {
			return fmt.Errorf("create endpoint slice: %w", err)
		}
	}
	for _, es := range p.remove {
		if err := cl.Delete(ctx, reconcile.EndpointSlices(), es.Namespace, es.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete endpoint slice %s: %w", es.Name, err)
		}
	}
	if e := p.endpoints; e != nil {
		var err error
		if e.ResourceVersion == "" {
			_, err = cl.Create(ctx, reconcile.Endpoints(), e)
		} else {
			_, err = cl.Update(ctx, reconcile.Endpoints(), "", e)
		}
		if err != nil {
			return fmt.Errorf("write endpoints %s: %w", e.Name, err)
		}
	}
	return nil
}
