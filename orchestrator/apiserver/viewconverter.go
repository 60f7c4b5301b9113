package apiserver

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
)

// viewConverter converts between the versions of kinds that are views of a stored one, so that whoever applies one
// version meets those who own fields through another.
type viewConverter struct {
	*runtime.Scheme
	kinds []*api.Kind
}

// view is the kind that is from's or to's view of the other one; nil: neither is.
func (c viewConverter) view(from schema.GroupVersionKind, to schema.GroupVersion) *api.Kind {
	for _, k := range c.kinds {
		if k.StoredAs.Resource == "" || k.GroupVersionKind.Kind != from.Kind {
			continue
		}
		mine, stored := k.GroupVersionKind.GroupVersion(), k.StoredAs.GroupVersion()
		if mine == from.GroupVersion() && stored == to || stored == from.GroupVersion() && mine == to {
			return k
		}
	}
	return nil
}

// siblings are the other versions of a kind.
func (c viewConverter) siblings(gvk schema.GroupVersionKind) (out []schema.GroupVersion) {
	for _, k := range c.kinds {
		if gv := k.GroupVersionKind.GroupVersion(); k.GroupVersionKind.Kind == gvk.Kind && gv != gvk.GroupVersion() && c.view(gvk, gv) != nil {
			out = append(out, gv)
		}
	}
	return out
}

// ConvertToVersion implements runtime.ObjectConvertor.
func (c viewConverter) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	gvk := in.GetObjectKind().GroupVersionKind()
	to, ok := target.(schema.GroupVersion)
	if !ok || to == gvk.GroupVersion() {
		return c.Scheme.ConvertToVersion(in, target)
	}
	k := c.view(gvk, to)
	if k == nil {
		return c.Scheme.ConvertToVersion(in, target)
	}
	// Through its own version first: what comes may be without a type.
	typed, err := c.Scheme.ConvertToVersion(in, gvk.GroupVersion())
	if err != nil {
		return nil, err
	}
	obj, ok := typed.(api.Object)
	if !ok {
		return c.Scheme.ConvertToVersion(in, target)
	}
	convert := k.ToStored
	if k.GroupVersionKind.GroupVersion() == to {
		convert = k.FromStored
	}
	out, err := convert(obj)
	if err != nil {
		return nil, err
	}
	return withKind(out, to.WithKind(gvk.Kind)), nil
}
