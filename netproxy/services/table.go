package services

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Change is one Service before and after; one of both may be nil.
type Change struct{ Old, New *Service }

// Table holds the objects as they were last seen. The zero value is not usable; see NewTable.
type Table struct {
	node     string
	services map[Key]*corev1.Service
	slices   map[Key]map[string]*discoveryv1.EndpointSlice // by Service, then by slice name
	owner    map[Key]Key                                   // slice → Service
	resolved map[Key]*Service
	dirty    map[Key]struct{}
}

// NewTable returns an empty table. node is the node whose endpoints are local.
func NewTable(node string) *Table {
	return &Table{
		node: node, services: map[Key]*corev1.Service{}, slices: map[Key]map[string]*discoveryv1.EndpointSlice{},
		owner: map[Key]Key{}, resolved: map[Key]*Service{}, dirty: map[Key]struct{}{},
	}
}

// SetService adds or replaces a Service. The object must not be changed afterwards.
func (t *Table) SetService(s *corev1.Service) {
	k := Key{s.Namespace, s.Name}
	t.services[k] = s
	t.dirty[k] = struct{}{}
}

// DeleteService forgets a Service.
func (t *Table) DeleteService(k Key) {
	delete(t.services, k)
	t.dirty[k] = struct{}{}
}

// SetSlice adds or replaces an EndpointSlice. A slice without a Service's label is ignored.
func (t *Table) SetSlice(sl *discoveryv1.EndpointSlice) {
	k := Key{sl.Namespace, sl.Name}
	name := sl.Labels[discoveryv1.LabelServiceName]
	svc := Key{sl.Namespace, name}
	if old, ok := t.owner[k]; ok && old != svc {
		t.DeleteSlice(k)
	}
	if name == "" {
		return
	}
	if t.slices[svc] == nil {
		t.slices[svc] = map[string]*discoveryv1.EndpointSlice{}
	}
	t.slices[svc][sl.Name] = sl
	t.owner[k] = svc
	t.dirty[svc] = struct{}{}
}

// DeleteSlice forgets an EndpointSlice.
func (t *Table) DeleteSlice(k Key) {
	svc, ok := t.owner[k]
	if !ok {
		return
	}
	delete(t.owner, k)
	delete(t.slices[svc], k.Name)
	if len(t.slices[svc]) == 0 {
		delete(t.slices, svc)
	}
	t.dirty[svc] = struct{}{}
}

// Flush resolves what changed since the last Flush and returns only the Services that resolve
// differently now.
func (t *Table) Flush() []Change {
	var out []Change
	for k := range t.dirty {
		old := t.resolved[k]
		var now *Service
		if svc := t.services[k]; svc != nil {
			list := make([]*discoveryv1.EndpointSlice, 0, len(t.slices[k]))
			for _, sl := range t.slices[k] {
				list = append(list, sl)
			}
			now = Resolve(svc, list, t.node)
		}
		if old.Equal(now) {
			continue
		}
		if now == nil {
			delete(t.resolved, k)
		} else {
			t.resolved[k] = now
		}
		out = append(out, Change{Old: old, New: now})
	}
	clear(t.dirty)
	return out
}

// Len returns the number of resolved Services.
func (t *Table) Len() int { return len(t.resolved) }
