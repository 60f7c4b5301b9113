// Package kubernetesservice publishes the Service default/kubernetes and where the API servers are.
package kubernetesservice

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Config says where the API is served.
type Config struct {
	ClusterIP string   // "" lets the registry choose
	Port      int32    // of the Service; 0 is 443
	Addresses []string // of the API servers; empty turns the controller off
	Target    int32    // their port
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
	one := func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
		o := e.Object
		if o.GetNamespace() == "default" && o.GetName() == "kubernetes" || o.GetNamespace() == "" && o.GetName() == "default" {
			enqueue(reconcile.Key{Name: "kubernetes"})
		}
		return nil
	}
	return &reconcile.Controller{Name: "kubernetes-service", Workers: 1, Reconcile: c.reconcile, Start: []reconcile.Key{{Name: "kubernetes"}},
		Watches: []reconcile.Watch{{Resource: reconcile.Services(), Map: one}, {Resource: reconcile.EndpointSlices(), Map: one},
			{Resource: reconcile.Endpoints(), Map: one}, {Resource: reconcile.Namespaces(), Map: one}}}
}

func decide(cfg Config) (*corev1.Service, *discoveryv1.EndpointSlice, *corev1.Endpoints) {
	om := metav1.ObjectMeta{Namespace: "default", Name: "kubernetes", Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"}}
	s := &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: om,
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: cfg.ClusterIP, SessionAffinity: corev1.ServiceAffinityNone,
			Ports: []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: cfg.Port, TargetPort: intstr.FromInt32(cfg.Target)}}}}
	es := &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{},
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To("https"), Port: ptr.To(cfg.Target), Protocol: ptr.To(corev1.ProtocolTCP)}}}
	if a, err := netip.ParseAddr(cfg.Addresses[0]); err == nil && a.Is6() {
		es.AddressType = discoveryv1.AddressTypeIPv6
	}
	sub := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: "https", Port: cfg.Target, Protocol: corev1.ProtocolTCP}}}
	for _, a := range cfg.Addresses {
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}})
		sub.Addresses = append(sub.Addresses, corev1.EndpointAddress{IP: a})
	}
	e := &corev1.Endpoints{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Endpoints"}, Subsets: []corev1.EndpointSubset{sub},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"}}}
	return s, es, e
}

func (c *shell) reconcile(ctx context.Context, _ reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	ns, err := reconcile.Get[*corev1.Namespace](ctx, cl, reconcile.Namespaces(), "", "default")
	if err != nil || ns == nil {
		return 0, err // its own event comes when it is made
	}
	s, es, e := decide(c.cfg)
	have, err := reconcile.Get[*corev1.Service](ctx, cl, reconcile.Services(), "default", "kubernetes")
	if err != nil {
		return 0, err
	}
	if have == nil {
		if _, err := cl.Create(ctx, reconcile.Services(), s); err != nil {
			return 0, fmt.Errorf("create service: %w", err)
		}
	} else if !apiequality.Semantic.DeepEqual(have.Spec.Ports, s.Spec.Ports) {
		n := have.DeepCopy()
		n.Spec.Ports = s.Spec.Ports
		if _, err := cl.Update(ctx, reconcile.Services(), "", n); err != nil {
			return 0, fmt.Errorf("update service: %w", err)
		}
	}
	hs, err := reconcile.Get[*discoveryv1.EndpointSlice](ctx, cl, reconcile.EndpointSlices(), "default", "kubernetes")
	if err != nil {
		return 0, err
	}
	if hs == nil {
		if _, err := cl.Create(ctx, reconcile.EndpointSlices(), es); err != nil {
			return 0, fmt.Errorf("create endpoint slice: %w", err)
		}
	} else if !apiequality.Semantic.DeepEqual(hs.Endpoints, es.Endpoints) || !apiequality.Semantic.DeepEqual(hs.Ports, es.Ports) {
		n := hs.DeepCopy()
		n.Endpoints, n.Ports = es.Endpoints, es.Ports
		if _, err := cl.Update(ctx, reconcile.EndpointSlices(), "", n); err != nil {
			return 0, fmt.Errorf("update endpoint slice: %w", err)
		}
	}
	he, err := reconcile.Get[*corev1.Endpoints](ctx, cl, reconcile.Endpoints(), "default", "kubernetes")
	if err != nil {
		return 0, err
	}
	if he == nil {
		if _, err := cl.Create(ctx, reconcile.Endpoints(), e); err != nil {
			return 0, fmt.Errorf("create endpoints: %w", err)
		}
	} else if !apiequality.Semantic.DeepEqual(he.Subsets, e.Subsets) {
		n := he.DeepCopy()
		n.Subsets = e.Subsets
		if _, err := cl.Update(ctx, reconcile.Endpoints(), "", n); err != nil {
			return 0, fmt.Errorf("update endpoints: %w", err)
		}
	}
	return 0, nil
}
