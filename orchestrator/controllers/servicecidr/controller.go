package servicecidr

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controllers' name in events.
const Name = "service-cidr-controller"

type shell struct {
	env     reconcile.Env
	events  *reconcile.Recorder
	primary netip.Prefix

	mu sync.Mutex
	// by is who has which address, as the watch has told. What is decided is read anew.
	by map[string]map[reconcile.Key]struct{}
}

func (c *shell) note(s *corev1.Service, has bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range clusterIPs(s) {
		name := a.String()
		if c.by[name] == nil {
			c.by[name] = map[reconcile.Key]struct{}{}
		}
		if c.by[name][reconcile.KeyOf(s)] = struct{}{}; !has {
			if delete(c.by[name], reconcile.KeyOf(s)); len(c.by[name]) == 0 {
				delete(c.by, name)
			}
		}
	}
}

// owners are the Services that have an address, the oldest first.
func (c *shell) owners(ctx context.Context, a netip.Addr, have *networkingv1.IPAddress) (owners []*corev1.Service, err error) {
	c.mu.Lock()
	keys := slices.Collect(maps.Keys(c.by[a.String()]))
	c.mu.Unlock()
	if have != nil && have.Spec.ParentRef != nil && have.Spec.ParentRef.Resource == "services" {
		if k := (reconcile.Key{Namespace: have.Spec.ParentRef.Namespace, Name: have.Spec.ParentRef.Name}); !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		s, err := reconcile.Get[*corev1.Service](ctx, c.env.Client, reconcile.Services(), k.Namespace, k.Name)
		if err != nil {
			return nil, err
		}
		if slices.Contains(clusterIPs(s), a) {
			owners = append(owners, s)
		}
	}
	slices.SortFunc(owners, func(x, y *corev1.Service) int {
		return cmp.Or(x.CreationTimestamp.Time.Compare(y.CreationTimestamp.Time), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	return owners, nil
}

// New makes the two controllers. primary is the range that the cluster was made with; not valid: there is no
// ServiceCIDR for it.
func New(env reconcile.Env, events *reconcile.Recorder, primary netip.Prefix) []*reconcile.Controller {
	c := &shell{env: env.WithDefaults(), events: events, primary: primary, by: map[string]map[reconcile.Key]struct{}{}}
	return []*reconcile.Controller{
		{Name: Name, Workers: 1, Reconcile: c.cidr, Start: []reconcile.Key{{Name: api.DefaultServiceCIDR}}, Watches: []reconcile.Watch{
			{Resource: reconcile.ServiceCIDRs()},
			{Resource: reconcile.Services(), Map: func(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
				if e.Type != watch.Deleted {
					return nil
				}
				return c.ending(ctx, enqueue)
			}},
		}},
		{Name: "service-ip-repair-controller", Workers: 2, AfterSync: true, Reconcile: c.address, Watches: []reconcile.Watch{
			{Resource: reconcile.Services(), Map: func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
				now, _ := e.Object.(*corev1.Service)
				old, _ := e.Old.(*corev1.Service)
				if e.Type == watch.Modified && slices.Equal(clusterIPs(now), clusterIPs(old)) {
					return nil
				}
				c.note(old, false)
				c.note(now, e.Type != watch.Deleted)
				for _, a := range append(clusterIPs(now), clusterIPs(old)...) {
					enqueue(reconcile.Key{Name: a.String()})
				}
				return nil
			}},
			{Resource: reconcile.IPAddresses()},
		}},
	}
}

// ending enqueues the ServiceCIDRs that wait for their addresses.
func (c *shell) ending(ctx context.Context, enqueue func(reconcile.Key)) error {
	all, err := c.env.Client.List(ctx, reconcile.ServiceCIDRs(), "", nil)
	if err != nil {
		return err
	}
	for _, o := range all {
		if o.GetDeletionTimestamp() != nil {
			enqueue(reconcile.KeyOf(o))
		}
	}
	return nil
}

func (c *shell) cidr(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl, now := c.env.Client, c.env.Clock.Now()
	s, err := reconcile.Get[*networkingv1.ServiceCIDR](ctx, cl, reconcile.ServiceCIDRs(), "", k.Name)
	if err != nil {
		return 0, err
	}
	if s == nil {
		if k.Name != api.DefaultServiceCIDR || !c.primary.IsValid() {
			return 0, nil
		}
		made := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: api.DefaultServiceCIDR}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{c.primary.String()}}}
		if _, err := cl.Create(ctx, reconcile.ServiceCIDRs(), made); err != nil && !apierrors.IsAlreadyExists(err) {
			return 0, fmt.Errorf("create the default ServiceCIDR: %w", err)
		}
		return 0, nil // its own event comes
	}
	if s.DeletionTimestamp == nil && !slices.Contains(s.Finalizers, Finalizer) {
		m := s.DeepCopy()
		m.Finalizers = append(m.Finalizers, Finalizer)
		got, err := cl.Update(ctx, reconcile.ServiceCIDRs(), "", m)
		if err != nil {
			return 0, fmt.Errorf("set the finalizer: %w", err)
		}
		s = got.(*networkingv1.ServiceCIDR)
	}
	m := s.DeepCopy()
	if meta.SetStatusCondition(&m.Status.Conditions, condition(s, now)) {
		got, err := cl.Update(ctx, reconcile.ServiceCIDRs(), "status", m)
		if err != nil {
			return 0, fmt.Errorf("write the status: %w", err)
		}
		s = got.(*networkingv1.ServiceCIDR)
	}
	if s.DeletionTimestamp == nil || !slices.Contains(s.Finalizers, Finalizer) {
		return 0, nil
	}
	if left := s.DeletionTimestamp.Add(settle).Sub(now); left > 0 {
		return left, nil
	}
	all, err := reconcile.List[*networkingv1.ServiceCIDR](ctx, cl, reconcile.ServiceCIDRs(), "", nil)
	if err != nil {
		return 0, err
	}
	services, err := reconcile.List[*corev1.Service](ctx, cl, reconcile.Services(), "", nil)
	if err != nil {
		return 0, err
	}
	var addresses []netip.Addr
	for _, svc := range services {
		addresses = append(addresses, clusterIPs(svc)...)
	}
	if _, in := used(s, all, addresses); in {
		return time.Minute, nil // or when a Service goes
	}
	m = s.DeepCopy()
	m.Finalizers = slices.DeleteFunc(m.Finalizers, func(f string) bool { return f == Finalizer })
	if _, err := cl.Update(ctx, reconcile.ServiceCIDRs(), "", m); err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("take the finalizer off: %w", err)
	}
	return 0, nil
}

// address makes one IPAddress what the Services say.
func (c *shell) address(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	a, err := netip.ParseAddr(k.Name)
	if err != nil {
		return 0, nil
	}
	have, err := reconcile.Get[*networkingv1.IPAddress](ctx, cl, reconcile.IPAddresses(), "", k.Name)
	if err != nil {
		return 0, err
	}
	owners, err := c.owners(ctx, a, have)
	if err != nil {
		return 0, err
	}
	for _, s := range owners[min(1, len(owners)):] { // never, unless an old backup or another program wrote it
		c.events.Emit(Name, s, corev1.SchemeGroupVersion.WithKind("Service"), corev1.EventTypeWarning, "ClusterIPAlreadyAllocated",
			fmt.Sprintf("Cluster IP [IPv4]: %s was assigned to multiple services; please recreate service", a))
	}
	managed := have != nil && have.Labels[networkingv1.LabelManagedBy] == api.IPAddressManager
	switch {
	case have != nil && len(owners) == 0 && !managed:
		return 0, nil // somebody keeps it
	case have != nil && len(owners) > 0 && isFor(have, owners[0].Namespace, owners[0].Name):
		return 0, nil
	case have != nil:
		uid := have.UID
		if err := cl.Delete(ctx, reconcile.IPAddresses(), "", have.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("delete IPAddress %s: %w", have.Name, err)
		}
	}
	if len(owners) == 0 {
		return 0, nil
	}
	if _, err := cl.Create(ctx, reconcile.IPAddresses(), wanted(owners[0], a)); err != nil && !apierrors.IsAlreadyExists(err) {
		return 0, fmt.Errorf("create IPAddress %s: %w", a, err)
	}
	return 0, nil
}
