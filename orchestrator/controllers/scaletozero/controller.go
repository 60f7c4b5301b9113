package scaletozero

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controller's name in events and metrics.
const Name = "scale-to-zero-controller"

// New makes the controller for workloads of those kinds that have a scale subresource; nothing runs yet.
func New(env reconcile.Env, events *reconcile.Recorder, kinds []*api.Kind) *reconcile.Controller {
	c := &shell{env: env.WithDefaults(), events: events, seen: map[string]sight{}, said: map[string]string{}}
	for _, k := range kinds {
		if k.Scale != nil && k.Namespaced && k.StoredAs.Resource == "" {
			c.kinds = append(c.kinds, k)
		}
	}
	// One worker: Services that share a workload are decided on one after another.
	return &reconcile.Controller{Name: Name, Workers: 1, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.Services(), Map: func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			if marked(e.Object) || e.Old != nil && marked(e.Old) {
				enqueue(reconcile.KeyOf(e.Object))
			}
			return nil
		}},
		{Resource: reconcile.Leases(), Map: func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			if name := e.Object.GetLabels()[labelService]; name != "" {
				enqueue(reconcile.Key{Namespace: e.Object.GetNamespace(), Name: name})
			}
			return nil
		}},
	}}
}

func marked(o api.Object) bool { _, ok := o.GetAnnotations()[AnnotationAfter]; return ok }

type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder
	kinds  []*api.Kind

	mu   sync.Mutex // guards the rest
	seen map[string]sight
	said map[string]string // Service → the problem that an event told
}

// sight is what this controller has seen of a Service's workload: since when it has had pods, and by which marks.
type sight struct {
	since time.Time
	marks string
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	svc, err := reconcile.Get[*corev1.Service](ctx, c.env.Client, reconcile.Services(), k.Namespace, k.Name)
	if err != nil {
		return 0, err
	}
	if svc == nil || !marked(svc) || svc.DeletionTimestamp != nil {
		c.forget(k)
		return 0, nil
	}
	if _, err := parseAfter(svc.Annotations); err != nil {
		c.complain(svc, problem{"InvalidScaleToZero", err.Error()})
		return 0, nil
	}
	t, bad, err := c.find(ctx, svc)
	if err != nil {
		return 0, err
	}
	if bad != nil {
		c.complain(svc, *bad)
		return lookAgain, nil
	}
	c.complain(svc, problem{})
	now := c.env.Clock.Now()
	fronts, err := c.fronts(ctx, svc, t, now)
	if err != nil {
		return 0, err
	}
	replicas := t.kind.Scale.SpecReplicas(t.obj)
	before, err := strconv.ParseInt(t.obj.GetAnnotations()[AnnotationBefore], 10, 32)
	if err != nil {
		before = 0
	}
	v := decide(t.String(), replicas, int32(before), fronts, c.since(k, svc, t, replicas, now), now)
	if !v.change {
		if replicas == 0 {
			return lookAgain, nil // somebody else may scale it
		}
		return v.again, nil
	}
	if err := c.scale(ctx, t, replicas, v.replicas); err != nil {
		return 0, err
	}
	c.events.Emit(Name, svc, corev1.SchemeGroupVersion.WithKind("Service"), corev1.EventTypeNormal, v.reason, v.message)
	c.events.Emit(Name, t.obj, t.kind.GroupVersionKind, corev1.EventTypeNormal, v.reason, v.message)
	return max(v.again, time.Second), nil
}

// since is from when on the workload has had pods, as far as this controller has seen.
func (c *shell) since(k reconcile.Key, svc *corev1.Service, t target, replicas int32, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	marks := fmt.Sprint(svc.UID, svc.Annotations[AnnotationAfter], t, t.obj.GetUID())
	s, ok := c.seen[k.String()]
	if !ok || replicas == 0 || s.marks != marks {
		s = sight{now, marks}
		c.seen[k.String()] = s
	}
	return s.since
}

func (c *shell) forget(k reconcile.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, k.String())
	delete(c.said, k.String())
}

// complain says what is wrong with a Service, once until it is something else.
func (c *shell) complain(svc *corev1.Service, p problem) {
	key := reconcile.KeyOf(svc).String()
	c.mu.Lock()
	again := c.said[key] == p.message
	c.said[key] = p.message
	c.mu.Unlock()
	if !again && p.message != "" {
		c.events.Emit(Name, svc, corev1.SchemeGroupVersion.WithKind("Service"), corev1.EventTypeWarning, p.reason, p.message)
	}
}

// fronts are the Services before the workload that may be scaled to zero, svc first.
func (c *shell) fronts(ctx context.Context, svc *corev1.Service, t target, now time.Time) ([]front, error) {
	all, err := reconcile.List[*corev1.Service](ctx, c.env.Client, reconcile.Services(), svc.Namespace, nil)
	if err != nil {
		return nil, err
	}
	list := []*corev1.Service{svc}
	for _, s := range all {
		if s.Name != svc.Name && marked(s) {
			list = append(list, s)
		}
	}
	var out []front
	for i, s := range list {
		after, err := parseAfter(s.Annotations)
		if err != nil {
			continue
		}
		if i > 0 {
			other, bad, err := c.find(ctx, s)
			if err != nil {
				return nil, err
			}
			if bad != nil || other.obj.GetUID() != t.obj.GetUID() {
				continue
			}
		}
		leases, err := reconcile.List[*coordinationv1.Lease](ctx, c.env.Client, reconcile.Leases(), s.Namespace, labels.SelectorFromSet(labels.Set{labelService: s.Name}))
		if err != nil {
			return nil, err
		}
		out = append(out, front{s, after, useOf(leases, now)})
	}
	return out, nil
}

// scale sets the replicas through the scale subresource. What they were is remembered first.
func (c *shell) scale(ctx context.Context, t target, from, to int32) error {
	cl, gvr := c.env.Client, t.kind.GVR()
	obj := t.obj.DeepCopyObject().(api.Object)
	if text := strconv.Itoa(int(from)); to == 0 && obj.GetAnnotations()[AnnotationBefore] != text {
		notes := map[string]string{AnnotationBefore: text}
		for k, v := range obj.GetAnnotations() {
			if k != AnnotationBefore {
				notes[k] = v
			}
		}
		obj.SetAnnotations(notes)
		stored, err := cl.Update(ctx, gvr, "", obj)
		if err != nil {
			return fmt.Errorf("remember the replicas of %s: %w", t, err)
		}
		obj = stored.DeepCopyObject().(api.Object)
	}
	t.kind.Scale.SetReplicas(obj, to)
	if _, err := cl.Update(ctx, gvr, "scale", obj); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("scale %s: %w", t, err)
	}
	return nil
}
