package apiserver

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/pintle/pintle/orchestrator/api"
)

// fieldManagers keep who set which field, and merge what is applied. Parsing the schemas takes some
// tenths of a second, so that it is done once, in the background, after the server is ready.
type fieldManagers struct {
	scheme    *runtime.Scheme
	views     viewConverter
	converter func() managedfields.TypeConverter

	mu   sync.Mutex // guards made; a manager is made under it, which is cheap
	made map[managerKey]*managedfields.FieldManager

	created createdFields
}

type managerKey struct {
	gvk         schema.GroupVersionKind
	subresource string
}

func newFieldManagers(scheme *runtime.Scheme, kinds []*api.Kind) *fieldManagers {
	return &fieldManagers{
		scheme:    scheme,
		views:     viewConverter{scheme, kinds},
		converter: sync.OnceValue(func() managedfields.TypeConverter { return applyconfigurations.NewTypeConverter(scheme) }),
		made:      map[managerKey]*managedfields.FieldManager{},
	}
}

func (m *fieldManagers) warm() { m.converter() }

// defaulter fills in a kind's defaults after a merge.
type defaulter struct{ kind *api.Kind }

func (d defaulter) Default(obj runtime.Object) {
	if o, ok := obj.(api.Object); ok && d.kind.Default != nil {
		d.kind.Default(o)
	}
}

// get returns the manager of a kind or of one of its subresources.
func (m *fieldManagers) get(kind *api.Kind, subresource string) (*managedfields.FieldManager, error) {
	converter := m.converter()
	key := managerKey{kind.GroupVersionKind, subresource}
	m.mu.Lock()
	defer m.mu.Unlock()
	if manager := m.made[key]; manager != nil {
		return manager, nil
	}
	gvk := kind.GroupVersionKind
	gv := gvk.GroupVersion()
	version := fieldpath.APIVersion(gv.String())
	// What a write of one part can't change, its writer doesn't own.
	reset := map[fieldpath.APIVersion]fieldpath.Filter{}
	switch {
	case subresource == "status":
		reset[version] = fieldpath.NewExcludeSetFilter(fieldpath.NewSet(
			fieldpath.MakePathOrDie("spec"), fieldpath.MakePathOrDie("metadata", "labels"), fieldpath.MakePathOrDie("metadata", "ownerReferences")))
	case subresource == "resize":
		of := func(list string) *fieldpath.SetMatcher {
			return fieldpath.MakePrefixMatcherOrDie("spec", list, fieldpath.MatchAnyPathElement(), "resources")
		}
		reset[version] = fieldpath.NewIncludeMatcherFilter(of("containers"), of("initContainers"))
	case kind.Status != nil:
		reset[version] = fieldpath.NewExcludeSetFilter(fieldpath.NewSet(fieldpath.MakePathOrDie("status")))
	}
	if filter, ok := reset[version]; ok {
		for _, other := range m.views.siblings(gvk) {
			reset[fieldpath.APIVersion(other.String())] = filter
		}
	}
	make := managedfields.NewDefaultFieldManager
	probe := kind.New()
	probe.GetObjectKind().SetGroupVersionKind(gvk)
	if _, err := converter.ObjectToTyped(probe); err != nil {
		// A kind of ours: client-go has no schema for it, so that lists are owned as a whole.
		make, converter = managedfields.NewDefaultCRDFieldManager, managedfields.NewDeducedTypeConverter()
	}
	manager, err := make(converter, m.views, defaulter{kind}, m.scheme, gvk, gv, subresource, reset)
	if err != nil {
		return nil, fmt.Errorf("field manager of %s: %w", gvk, err)
	}
	m.made[key] = manager
	return manager, nil
}

// getScale returns the manager of every kind's scale subresource.
func (m *fieldManagers) getScale() (*managedfields.FieldManager, error) {
	gvk := scaleGVK()
	key := managerKey{gvk, subScale}
	m.mu.Lock()
	defer m.mu.Unlock()
	if manager := m.made[key]; manager != nil {
		return manager, nil
	}
	reset := map[fieldpath.APIVersion]fieldpath.Filter{
		fieldpath.APIVersion(gvk.GroupVersion().String()): fieldpath.NewExcludeSetFilter(fieldpath.NewSet(fieldpath.MakePathOrDie("status"))),
	}
	// client-go has no schema for a Scale. It has no lists, so that a deduced one says the same.
	manager, err := managedfields.NewDefaultCRDFieldManager(managedfields.NewDeducedTypeConverter(), m.scheme, defaulter{&api.Kind{}}, m.scheme, gvk, gvk.GroupVersion(), subScale, reset)
	if err != nil {
		return nil, fmt.Errorf("field manager of %s: %w", gvk, err)
	}
	m.made[key] = manager
	return manager, nil
}

// track returns obj with managedFields that say that manager changed what differs from live. A
// failure loses the tracking of one write, never the write.
func (c *call) track(live, obj api.Object, subresource, manager string) api.Object {
	fm, err := c.managers.get(c.kind, subresource)
	if err == nil {
		var out runtime.Object
		live = withKind(live.DeepCopyObject(), c.kind.GroupVersionKind).(api.Object)
		withKind(obj, c.kind.GroupVersionKind)
		update := func() (runtime.Object, error) { return fm.Update(live, obj, manager) }
		if created := live.GetUID() == "" && subresource == ""; created {
			out, err = c.managers.created.track(c.kind, obj, manager, update)
		} else {
			out, err = update()
		}
		if err == nil {
			if tracked, ok := out.(api.Object); ok {
				return tracked
			}
			err = fmt.Errorf("the result is a %T", out)
		}
	}
	c.log.Warn("managed fields are not tracked", "resource", c.gvr.String(), "namespace", c.namespace, "name", obj.GetName(), "error", err)
	return obj
}
