// Package kubernetesservice publishes the Service default/kubernetes and where the API servers are.
package kubernetesservice

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Config says where the API is served by this process. Where the other members of the control plane serve
// it, their Member objects say.
type Config struct {
	ClusterIP string   // "" lets the registry choose
	Port      int32    // of the Service; 0 is 443
	Addresses []string // of this API server; empty turns the controller off
	Target    int32    // its port
}

type shell struct {
	env reconcile.Env
	cfg Config
}

// New makes the controller.
func New(env reconcile.Env, cfg Config) *reconcile.Controller {
	if cfg.Port == 0 {
		cfg.Port = 443
	}
	c := &shell{env.WithDefaults(), cfg}
	key := reconcile.Key{Name: "kubernetes"}
	one := func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
		o := e.Object
		if o.GetNamespace() == "default" && (o.GetName() == "kubernetes" || o.GetLabels()[discoveryv1.LabelServiceName] == "kubernetes") ||
			o.GetNamespace() == "" && o.GetName() == "default" {
			enqueue(key)
		}
		return nil
	}
	member := func(_ context.Context, _ reconcile.Event, enqueue func(reconcile.Key)) error {
		enqueue(key)
		return nil
	}
	return &reconcile.Controller{Name: "kubernetes-service", Workers: 1, Reconcile: c.reconcile, Start: []reconcile.Key{key},
		Watches: []reconcile.Watch{{Resource: reconcile.Services(), Map: one}, {Resource: reconcile.EndpointSlices(), Map: one},
			{Resource: reconcile.Endpoints(), Map: one}, {Resource: reconcile.Namespaces(), Map: one}, {Resource: reconcile.Members(), Map: member}}}
}

func (c *shell) reconcile(ctx context.Context, _ reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	ns, err := reconcile.Get[*corev1.Namespace](ctx, cl, reconcile.Namespaces(), "", "default")
	if err != nil || ns == nil {
		return 0, err // its own event comes when it is made
	}
	members, err := cl.List(ctx, reconcile.Members(), "", nil)
	if err != nil {
		return 0, fmt.Errorf("list members: %w", err)
	}
	want := decide(c.cfg, members)
	if err := c.service(ctx, want.service); err != nil {
		return 0, err
	}
	named := labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: "kubernetes"})
	slices, err := cl.List(ctx, reconcile.EndpointSlices(), "default", named)
	if err != nil {
		return 0, fmt.Errorf("list endpoint slices: %w", err)
	}
	have := map[string]*discoveryv1.EndpointSlice{}
	for _, o := range slices {
		have[o.GetName()] = o.(*discoveryv1.EndpointSlice)
	}
	for _, slice := range want.slices {
		if err := c.slice(ctx, slice, have[slice.Name]); err != nil {
			return 0, err
		}
		delete(have, slice.Name)
	}
	for name, old := range have {
		if err := cl.Delete(ctx, reconcile.EndpointSlices(), "default", name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &old.UID}}); err != nil {
			return 0, fmt.Errorf("delete endpoint slice %s: %w", name, err)
		}
	}
	return 0, c.endpoints(ctx, want.endpoints)
}

func (c *shell) service(ctx context.Context, want *corev1.Service) error {
	have, err := reconcile.Get[*corev1.Service](ctx, c.env.Client, reconcile.Services(), "default", "kubernetes")
	switch {
	case err != nil:
		return err
	case have == nil:
		_, err = c.env.Client.Create(ctx, reconcile.Services(), want)
	case apiequality.Semantic.DeepEqual(have.Spec.Ports, want.Spec.Ports):
		return nil
	default:
		n := have.DeepCopy()
		n.Spec.Ports = want.Spec.Ports
		_, err = c.env.Client.Update(ctx, reconcile.Services(), "", n)
	}
	return failed("service", err)
}

func (c *shell) slice(ctx context.Context, want, have *discoveryv1.EndpointSlice) error {
	var err error
	switch {
	case have == nil:
		_, err = c.env.Client.Create(ctx, reconcile.EndpointSlices(), want)
	case apiequality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) && apiequality.Semantic.DeepEqual(have.Ports, want.Ports):
		return nil
	default:
		n := have.DeepCopy()
		n.Endpoints, n.Ports = want.Endpoints, want.Ports
		_, err = c.env.Client.Update(ctx, reconcile.EndpointSlices(), "", n)
	}
	return failed("endpoint slice", err)
}

func (c *shell) endpoints(ctx context.Context, want *corev1.Endpoints) error {
	have, err := reconcile.Get[*corev1.Endpoints](ctx, c.env.Client, reconcile.Endpoints(), "default", "kubernetes")
	switch {
	case err != nil:
		return err
	case have == nil:
		_, err = c.env.Client.Create(ctx, reconcile.Endpoints(), want)
	case apiequality.Semantic.DeepEqual(have.Subsets, want.Subsets):
		return nil
	default:
		n := have.DeepCopy()
		n.Subsets = want.Subsets
		_, err = c.env.Client.Update(ctx, reconcile.Endpoints(), "", n)
	}
	return failed("endpoints", err)
}

func failed(what string, err error) error {
	if err != nil {
		return fmt.Errorf("write %s: %w", what, err)
	}
	return nil
}
