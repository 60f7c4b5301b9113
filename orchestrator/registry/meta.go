package registry

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/raftstore"
)

// stored is a copy of obj as the kind that it is stored as.
func (k *kindRef) stored(obj api.Object) (api.Object, error) {
	out := obj.DeepCopyObject().(api.Object)
	if k.kind.ToStored != nil {
		if k.kind.Default != nil {
			k.kind.Default(out)
		}
		var err error
		if out, err = k.kind.ToStored(out); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	out.GetObjectKind().SetGroupVersionKind(k.cache.kind.GroupVersionKind)
	return out, nil
}

// keepMeta carries over what no client may change. A client that names another creation time or
// deletion time is told so by validation.
func keepMeta(obj, old api.Object) {
	obj.SetGenerateName(old.GetGenerateName())
	obj.SetUID(old.GetUID())
	if t := obj.GetCreationTimestamp(); t.IsZero() {
		obj.SetCreationTimestamp(old.GetCreationTimestamp())
	}
	obj.SetSelfLink("")
	obj.SetResourceVersion(old.GetResourceVersion())
	if obj.GetDeletionTimestamp() == nil {
		obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	}
	if obj.GetDeletionGracePeriodSeconds() == nil {
		obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	}
	obj.SetGeneration(old.GetGeneration())
}

// copyMeta gives obj all of old's metadata but the managed fields.
func copyMeta(obj, old api.Object, managed []metav1.ManagedFieldsEntry) {
	obj.SetLabels(old.GetLabels())
	obj.SetAnnotations(old.GetAnnotations())
	obj.SetOwnerReferences(old.GetOwnerReferences())
	obj.SetFinalizers(old.GetFinalizers())
	obj.SetGeneration(old.GetGeneration())
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	obj.SetResourceVersion(old.GetResourceVersion())
	obj.SetManagedFields(managed)
}

func metadata() *field.Path { return field.NewPath("metadata") }

func validateMeta(kind *api.Kind, obj api.Object) field.ErrorList {
	return validation.ValidateObjectMetaAccessor(obj, kind.Namespaced, func(name string, prefix bool) []string {
		if kind.ValidName == nil {
			return validation.NameIsDNSSubdomain(name, prefix)
		}
		if prefix && strings.HasSuffix(name, "-") {
			name += "a" // what is generated ends in a letter or digit
		}
		return kind.ValidName(name)
	}, metadata())
}

func validateMetaUpdate(kind *api.Kind, obj, old api.Object) field.ErrorList {
	return append(validateMeta(kind, obj), validation.ValidateObjectMetaAccessorUpdate(obj, old, metadata())...)
}

// validate returns every problem of an object, and of its change from old unless that is nil.
func validate(kind *api.Kind, obj, old api.Object) field.ErrorList {
	var errs field.ErrorList
	if old == nil {
		errs = validateMeta(kind, obj)
	} else {
		errs = validateMetaUpdate(kind, obj, old)
	}
	if kind.Validate != nil {
		errs = append(errs, kind.Validate(obj)...)
	}
	if old != nil && kind.ValidateUpdate != nil {
		errs = append(errs, kind.ValidateUpdate(obj, old)...)
	}
	return errs
}

// validateView returns what the view of a kind that is stored as another asks for beyond that.
func (k *kindRef) validateView(obj, old api.Object) field.ErrorList {
	problem := func(err error) field.ErrorList { return field.ErrorList{field.InternalError(nil, err)} }
	if k.kind.FromStored == nil {
		return nil
	}
	view, err := k.kind.FromStored(obj)
	if err != nil {
		return problem(err)
	}
	if old == nil {
		if k.kind.Validate == nil {
			return nil
		}
		return k.kind.Validate(view)
	}
	if k.kind.ValidateUpdate == nil {
		return nil
	}
	before, err := k.kind.FromStored(old)
	if err != nil {
		return problem(err)
	}
	return k.kind.ValidateUpdate(view, before)
}

// unchanged ignores the times of managed fields: a write that changes nothing else is none.
func unchanged(obj, old api.Object) bool {
	a, b := obj.GetManagedFields(), old.GetManagedFields()
	if len(a) != len(b) {
		return false
	}
	for n := range a {
		x, y := a[n], b[n]
		x.Time, y.Time = nil, nil
		if !apiequality.Semantic.DeepEqual(x, y) {
			return false
		}
	}
	obj.SetManagedFields(b)
	defer obj.SetManagedFields(a)
	return apiequality.Semantic.DeepEqual(obj, old)
}

// mayGo reports whether nothing holds back an object that is being deleted.
func mayGo(obj api.Object) bool {
	if len(obj.GetFinalizers()) > 0 {
		return false
	}
	if ns, ok := obj.(*corev1.Namespace); ok && len(ns.Spec.Finalizers) > 0 {
		return false
	}
	grace := obj.GetDeletionGracePeriodSeconds()
	return grace == nil || *grace == 0
}

// openNamespace refuses what goes into a namespace that does not exist or is being deleted, and returns
// the condition under which that still holds at the moment of the write.
func (r *Registry) openNamespace(k *kindRef, obj api.Object) ([]raftstore.Compare, error) {
	c := r.resources[namespacesGVR()]
	name := obj.GetNamespace()
	if !k.kind.Namespaced || c == nil {
		return nil, nil
	}
	if name == "" {
		return nil, apierrors.NewBadRequest("an empty namespace may not be set during creation")
	}
	ns := c.get(name)
	if ns == nil {
		return nil, notFound(c.kind, name)
	}
	if ns.obj.GetDeletionTimestamp() != nil {
		err := apierrors.NewForbidden(groupResource(k.kind), obj.GetName(),
			fmt.Errorf("unable to create new content in namespace %s because it is being terminated", name))
		err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
			Type: corev1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", name), Field: "metadata.namespace"})
		return nil, err
	}
	return []raftstore.Compare{unchangedSince(c.prefix+name, ns)}, nil
}
