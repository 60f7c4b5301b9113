package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/raftstore"
)

// quotaTurns orders the writes that take something of one namespace's quotas: on one member they follow each other. Of
// two members, the one that counted on a quota that has changed meanwhile fails the comparison, and looks again.
type quotaTurns struct {
	mu   sync.Mutex // guards what follows
	open map[string]*quotaTurn
}

type quotaTurn struct {
	turn  chan struct{}
	users int // who have it or wait for it
}

func (t *quotaTurns) take(ctx context.Context, namespace string) (end func(), err error) {
	t.mu.Lock()
	if t.open == nil {
		t.open = map[string]*quotaTurn{}
	}
	q := t.open[namespace]
	if q == nil {
		q = &quotaTurn{turn: make(chan struct{}, 1)}
		t.open[namespace] = q
	}
	q.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if q.users--; q.users == 0 {
			delete(t.open, namespace)
		}
	}
	select {
	case q.turn <- struct{}{}:
		return func() { <-q.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

// charge is what one write takes of its namespace's quotas: their new usage is stored in the same transaction as the
// object. A nil charge takes nothing.
type charge struct {
	end     func()
	charged []charged
}

type charged struct {
	key    string // in the store
	before *Entry
	put    raftstore.Op
}

func (c *charge) done() {
	if c != nil {
		c.end()
	}
}

func (c *charge) compares() (out []raftstore.Compare) {
	if c != nil {
		for _, q := range c.charged {
			out = append(out, unchangedSince(q.key, q.before))
		}
	}
	return out
}

func (c *charge) puts() (out []raftstore.Op) {
	if c != nil {
		for _, q := range c.charged {
			out = append(out, q.put)
		}
	}
	return out
}

// charge takes what a write needs of its namespace's quotas, or refuses it. old is nil for a creation. What the control
// plane writes to start (free) is counted, and never refused.
func (r *Registry) charge(ctx context.Context, k *kindRef, sub string, obj, old api.Object, free bool) (*charge, error) {
	quotas := r.resources[quotasGVR()]
	if quotas == nil || obj.GetNamespace() == "" || sub != "" && sub != "resize" {
		return nil, nil
	}
	if old != nil {
		switch obj.(type) {
		case *corev1.Pod, *corev1.Service, *corev1.PersistentVolumeClaim: // others take the same for as long as they are
		default:
			return nil, nil
		}
	}
	entries, _, _ := quotas.snapshot(obj.GetNamespace())
	if len(entries) == 0 {
		return nil, nil
	}
	now := r.clock.Now()
	usage := api.QuotaUsage(groupResource(k.cache.kind), obj, now)
	if old != nil {
		before := api.QuotaUsage(groupResource(k.cache.kind), old, now)
		for name, q := range usage {
			if had, ok := before[name]; ok {
				q.Sub(had)
			}
			if q.Sign() <= 0 {
				delete(usage, name)
				continue
			}
			usage[name] = q
		}
	}
	pod, _ := obj.(*corev1.Pod)
	concerns := func(q *corev1.ResourceQuota) bool {
		for name := range q.Spec.Hard {
			if _, takes := usage[name]; takes || pod != nil && old == nil && requiredOfPods(name) {
				return api.QuotaMatches(q, obj)
			}
		}
		return false
	}
	if !slices.ContainsFunc(entries, func(e *Entry) bool { return concerns(e.obj.(*corev1.ResourceQuota)) }) {
		return nil, nil
	}
	end, err := r.quotaTurns.take(ctx, obj.GetNamespace())
	if err != nil {
		return nil, err
	}
	c := &charge{end: end}
	if err := r.chargeAll(ctx, c, k, obj, old == nil, usage, concerns, free); err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// requiredOfPods are what every container must name where a quota limits it.
func requiredOfPods(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory:
		return true
	}
	return false
}

func (r *Registry) chargeAll(ctx context.Context, c *charge, k *kindRef, obj api.Object, isNew bool, usage corev1.ResourceList,
	concerns func(*corev1.ResourceQuota) bool, free bool) error {
	name := obj.GetName()
	refuse := func(format string, args ...any) error {
		return apierrors.NewForbidden(groupResource(k.kind), name, fmt.Errorf(format, args...))
	}
	quotas := &kindRef{kind: r.resources[quotasGVR()].kind, cache: r.resources[quotasGVR()]}
	entries, _, _ := quotas.cache.snapshot(obj.GetNamespace()) // as they are now that it is our turn
	for _, e := range entries {
		q := e.obj.(*corev1.ResourceQuota)
		if !concerns(q) {
			continue
		}
		if pod, ok := obj.(*corev1.Pod); ok && isNew && !free {
			if missing := api.QuotaMissing(q.Spec.Hard, pod); missing != "" {
				return refuse("failed quota: %s: %s", q.Name, missing)
			}
		}
		takes := corev1.ResourceList{}
		for resource := range q.Spec.Hard {
			if n, ok := usage[resource]; ok && n.Sign() > 0 {
				takes[resource] = n
			}
		}
		if len(takes) == 0 {
			continue
		}
		used := q.Status.Used
		known := apiequality.Semantic.DeepEqual(q.Status.Hard, q.Spec.Hard)
		if !known {
			used = r.quotaUsed(q)
		}
		over := exceeded(q.Spec.Hard, used, takes)
		if len(over) > 0 && known {
			// Somebody may have given something back a moment ago.
			used = r.quotaUsed(q)
			over = exceeded(q.Spec.Hard, used, takes)
		}
		if len(over) > 0 && !free {
			return refuse("exceeded quota: %s, requested: %s, used: %s, limited: %s", q.Name, quotaText(takes, over), quotaText(used, over), quotaText(q.Spec.Hard, over))
		}
		after := q.DeepCopy()
		after.Status.Hard, after.Status.Used = q.Spec.Hard.DeepCopy(), corev1.ResourceList{}
		for resource := range q.Spec.Hard {
			sum := used[resource].DeepCopy()
			sum.Add(takes[resource])
			after.Status.Used[resource] = sum
		}
		put, err := r.put(ctx, quotas, e.key, after)
		if err != nil {
			return err
		}
		c.charged = append(c.charged, charged{key: put.Key, before: e, put: put})
	}
	return nil
}

func exceeded(hard, used, takes corev1.ResourceList) (over []corev1.ResourceName) {
	for _, name := range slices.Sorted(maps.Keys(takes)) {
		sum := used[name].DeepCopy()
		sum.Add(takes[name])
		if limit := hard[name]; sum.Cmp(limit) > 0 {
			over = append(over, name)
		}
	}
	return over
}

func quotaText(list corev1.ResourceList, names []corev1.ResourceName) string {
	parts := make([]string, len(names))
	for i, name := range names {
		q := list[name]
		parts[i] = string(name) + "=" + q.String()
	}
	return strings.Join(parts, ",")
}

// quotaUsed counts what a quota's namespace uses of it. The feeder shows a quota's change only after the objects that
// it was charged for, so that what is counted is at least as new as the quota.
func (r *Registry) quotaUsed(q *corev1.ResourceQuota) corev1.ResourceList {
	return api.CountQuota(q, func(kind *api.Kind, each func(api.Object)) {
		entries, _, _ := r.resources[kind.GVR()].snapshot(q.Namespace)
		for _, e := range entries {
			each(e.obj)
		}
	}, r.storedKinds(), r.clock.Now())
}

func (r *Registry) storedKinds() (kinds []*api.Kind) {
	for _, k := range r.kinds {
		if k.StorageGVR() == k.GVR() {
			kinds = append(kinds, k)
		}
	}
	return kinds
}
