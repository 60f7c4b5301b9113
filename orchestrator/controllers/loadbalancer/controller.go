package loadbalancer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const (
	// Name is the controller's name in events and metrics: that of the controller whose place it takes.
	Name = "service-controller"
	// Finalizer keeps a Service until its address is given back.
	Finalizer = "service.kubernetes.io/load-balancer-cleanup"
)

type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder
	told   map[reconcile.Key]string // why a Service waits; one worker touches it
}

// New makes the controller.
func New(env reconcile.Env, events *reconcile.Recorder) *reconcile.Controller {
	c := &shell{env: env.WithDefaults(), events: events, told: map[reconcile.Key]string{}}
	// One worker: who chooses an address sees every choice before.
	return &reconcile.Controller{Name: Name, Workers: 1, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.Services(), Map: c.fromService},
		{Resource: reconcile.AddressPools(), Map: func(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			enqueue(reconcile.KeyOf(e.Object))
			return c.balanced(ctx, func(s *corev1.Service) bool { return !addressOf(s).IsValid() }, enqueue)
		}},
		{Resource: reconcile.Nodes(), Map: func(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			now, _ := e.Object.(*corev1.Node)
			old, known := e.Old.(*corev1.Node)
			if e.Type == watch.Modified && known && ready(now) == ready(old) && apiequality.Semantic.DeepEqual(now.Labels, old.Labels) {
				return nil
			}
			return c.balanced(ctx, func(s *corev1.Service) bool { return addressOf(s).IsValid() }, enqueue)
		}},
		{Resource: reconcile.EndpointSlices(), Map: func(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			k := reconcile.Key{Namespace: e.Object.GetNamespace(), Name: e.Object.GetLabels()[discoveryv1.LabelServiceName]}
			s, err := reconcile.Get[*corev1.Service](ctx, c.env.Client, reconcile.Services(), k.Namespace, k.Name)
			if err == nil && s != nil && api.WantsPoolAddress(s) && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
				enqueue(k)
			}
			return err
		}},
	}}
}

func (c *shell) fromService(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	s, ok := e.Object.(*corev1.Service)
	if !ok {
		return nil
	}
	if e.Type != watch.Deleted && (api.WantsPoolAddress(s) || slices.Contains(s.Finalizers, Finalizer)) {
		enqueue(reconcile.KeyOf(s))
	}
	old, _ := e.Old.(*corev1.Service)
	had := old != nil && addressOf(old).IsValid()
	switch {
	case had && (e.Type == watch.Deleted || addressOf(s) != addressOf(old)): // somebody may be waiting for it
		if err := c.balanced(ctx, func(s *corev1.Service) bool { return !addressOf(s).IsValid() }, enqueue); err != nil {
			return err
		}
	case had || !addressOf(s).IsValid():
		return nil
	}
	pools, err := c.env.Client.List(ctx, reconcile.AddressPools(), "", nil)
	if err != nil {
		return err
	}
	for _, p := range pools { // to count them
		enqueue(reconcile.KeyOf(p))
	}
	return nil
}

func (c *shell) balanced(ctx context.Context, which func(*corev1.Service) bool, enqueue func(reconcile.Key)) error {
	services, err := reconcile.List[*corev1.Service](ctx, c.env.Client, reconcile.Services(), "", nil)
	if err != nil {
		return err
	}
	for _, s := range services {
		if api.WantsPoolAddress(s) && which(s) {
			enqueue(reconcile.KeyOf(s))
		}
	}
	return nil
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	if k.Namespace == "" {
		return 0, c.countPool(ctx, k.Name)
	}
	s, err := reconcile.Get[*corev1.Service](ctx, c.env.Client, reconcile.Services(), k.Namespace, k.Name)
	if err != nil {
		return 0, err
	}
	if s == nil || !api.WantsPoolAddress(s) {
		delete(c.told, k)
		return 0, c.release(ctx, s)
	}
	return 0, c.ensure(ctx, k, s)
}

// release gives a Service's address back.
func (c *shell) release(ctx context.Context, s *corev1.Service) error {
	if s == nil || !slices.Contains(s.Finalizers, Finalizer) {
		return nil
	}
	if len(s.Status.LoadBalancer.Ingress) > 0 {
		got, err := c.setAddress(ctx, s, netip.Addr{})
		if err != nil {
			return err
		}
		s = got
	}
	m := s.DeepCopy()
	m.Finalizers = slices.DeleteFunc(m.Finalizers, func(f string) bool { return f == Finalizer })
	delete(m.Annotations, api.AnnotationAnnouncedBy)
	if _, err := c.env.Client.Update(ctx, reconcile.Services(), "", m); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("take the finalizer off: %w", err)
	}
	c.emit(s, corev1.EventTypeNormal, "DeletedLoadBalancer", "Deleted load balancer")
	return nil
}

func (c *shell) ensure(ctx context.Context, k reconcile.Key, s *corev1.Service) error {
	pools, err := reconcile.List[*api.AddressPool](ctx, c.env.Client, reconcile.AddressPools(), "", nil)
	if err != nil {
		return err
	}
	held := slices.Contains(s.Finalizers, Finalizer)
	if len(pools) == 0 && !held {
		return nil // others give addresses here, if anybody does
	}
	services, err := reconcile.List[*corev1.Service](ctx, c.env.Client, reconcile.Services(), "", nil)
	if err != nil {
		return err
	}
	ns, err := reconcile.Get[*corev1.Namespace](ctx, c.env.Client, reconcile.Namespaces(), "", s.Namespace)
	if err != nil {
		return err
	}
	var nsLabels labels.Set
	if ns != nil {
		nsLabels = ns.Labels
	}
	address, problem := decide(s, nsLabels, pools, holders(services))
	if problem != "" {
		if c.told[k] != problem {
			c.told[k] = problem
			c.emit(s, corev1.EventTypeWarning, "SyncLoadBalancerFailed", "Error syncing load balancer: failed to ensure load balancer: "+problem)
		}
		if held && len(s.Status.LoadBalancer.Ingress) > 0 { // it has one that it must not have, or no longer wants
			_, err = c.setAddress(ctx, s, netip.Addr{})
		}
		return err
	}
	delete(c.told, k)
	node, err := c.announcer(ctx, s, address)
	if err != nil {
		return err
	}
	// The finalizer first: what has an address gives it back.
	if !held || s.Annotations[api.AnnotationAnnouncedBy] != node {
		m := s.DeepCopy()
		if !held {
			m.Finalizers = append(m.Finalizers, Finalizer)
		}
		if delete(m.Annotations, api.AnnotationAnnouncedBy); node != "" {
			metav1.SetMetaDataAnnotation(&m.ObjectMeta, api.AnnotationAnnouncedBy, node)
		}
		got, err := c.env.Client.Update(ctx, reconcile.Services(), "", m)
		if err != nil {
			return fmt.Errorf("set the finalizer: %w", err)
		}
		s = got.(*corev1.Service)
	}
	if addressOf(s) == address && len(s.Status.LoadBalancer.Ingress) == 1 {
		return nil
	}
	if _, err := c.setAddress(ctx, s, address); err != nil {
		return err
	}
	c.emit(s, corev1.EventTypeNormal, "EnsuredLoadBalancer", fmt.Sprintf("Ensured load balancer: address %s, announced by node %q", address, node))
	return nil
}

func (c *shell) announcer(ctx context.Context, s *corev1.Service, a netip.Addr) (string, error) {
	nodes, err := reconcile.List[*corev1.Node](ctx, c.env.Client, reconcile.Nodes(), "", nil)
	if err != nil {
		return "", err
	}
	var list []*discoveryv1.EndpointSlice
	if s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		list, err = reconcile.List[*discoveryv1.EndpointSlice](ctx, c.env.Client, reconcile.EndpointSlices(), s.Namespace,
			labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: s.Name}))
	}
	return announcer(s, a, nodes, list), err
}

func (c *shell) setAddress(ctx context.Context, s *corev1.Service, a netip.Addr) (*corev1.Service, error) {
	m := s.DeepCopy()
	m.Status.LoadBalancer.Ingress = nil
	if a.IsValid() {
		mode := corev1.LoadBalancerIPModeVIP
		m.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: a.String(), IPMode: &mode}}
	}
	got, err := c.env.Client.Update(ctx, reconcile.Services(), "status", m)
	if err != nil {
		return nil, fmt.Errorf("write the address: %w", err)
	}
	return got.(*corev1.Service), nil
}

func (c *shell) countPool(ctx context.Context, name string) error {
	p, err := reconcile.Get[*api.AddressPool](ctx, c.env.Client, reconcile.AddressPools(), "", name)
	if err != nil || p == nil {
		return err
	}
	services, err := reconcile.List[*corev1.Service](ctx, c.env.Client, reconcile.Services(), "", nil)
	if err != nil {
		return err
	}
	m := p.DeepCopyObject().(*api.AddressPool)
	if m.Status = poolStatus(p, holders(services)); m.Status == p.Status {
		return nil
	}
	if _, err := c.env.Client.Update(ctx, reconcile.AddressPools(), "status", m); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the pool's status: %w", err)
	}
	return nil
}

func (c *shell) emit(s *corev1.Service, typ, reason, message string) {
	c.events.Emit(Name, s, corev1.SchemeGroupVersion.WithKind("Service"), typ, reason, message)
}
