package api

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is what the registry stores: a Kubernetes API object with its metadata.
// An Object that came out of the registry is shared and must not be changed;
// DeepCopyObject it first.
type Object interface {
	runtime.Object
	metav1.Object
}

// Kind says everything that the API server and the registry need to know about
// one kind. Every function in it is pure: it reads its arguments, changes only
// the object that it is asked to default or prepare, and looks at no clock.
// Adding a kind is adding one file that returns a *Kind, and naming it in All.
type Kind struct {
	GroupVersionKind schema.GroupVersionKind
	Resource         string   // plural, lower case, as in URLs
	Singular         string   // as kubectl prints it
	ShortNames       []string // as kubectl accepts them
	Categories       []string // "all" makes `kubectl get all` show it
	Namespaced       bool

	New     func() Object
	NewList func() runtime.Object

	// Default fills unset fields as the Kubernetes API reference documents them. Nil: none.
	Default func(Object)
	// PrepareCreate clears what a client may not set on create (status, say). Nil: none.
	PrepareCreate func(Object)
	// PrepareUpdate carries over from old what a client may not change through the main
	// resource (status, say) and bumps metadata.generation where the spec changed. Nil: none.
	PrepareUpdate func(obj, old Object)
	// Validate returns every problem of a defaulted object. Metadata (names, labels,
	// annotations, owner references, finalizers) is checked by the registry for every kind.
	Validate func(Object) field.ErrorList
	// ValidateUpdate returns the problems of a change beyond those of Validate: immutable fields.
	ValidateUpdate func(obj, old Object) field.ErrorList
	// ValidName checks metadata.name. Nil: a DNS-1123 subdomain.
	ValidName func(name string) []string

	// CreateOnUpdate lets a PUT of an object that isn't there create it, and MustNameVersion refuses a PUT that
	// names no resourceVersion: Kubernetes does each for some kinds.
	CreateOnUpdate, MustNameVersion bool

	// Status is set on kinds with a status subresource.
	Status *Status
	// Scale is set on kinds with a scale subresource.
	Scale *Scale
	// Resize is set on kinds with a resize subresource.
	Resize *Resize
	// Bytes is set on kinds whose objects have bytes beside them, in a subresource.
	Bytes *Bytes
	// Subresources lists further ones that the API server serves ("binding", "eviction", "log", "exec", …).
	Subresources []string

	// Columns and Row make `kubectl get` tables. Row's cells match Columns one to one; ages are
	// printed by the caller's clock: a cell of type metav1.Time is rendered as an age.
	Columns []metav1.TableColumnDefinition
	Row     func(Object) []any

	// Fields returns the field-selector labels of an object beyond metadata.name and
	// metadata.namespace, which every kind has. Nil: none.
	Fields func(Object) fields.Set

	// StoredAs names the resource under which the objects are stored when it is another
	// kind's (events.k8s.io events are stored as core events); ToStored and FromStored convert. Validate
	// and ValidateUpdate then check what this view asks for beyond the stored kind.
	StoredAs   schema.GroupVersionResource
	ToStored   func(Object) (Object, error)
	FromStored func(Object) (Object, error)
}

// Status is the strategy of a status subresource.
type Status struct {
	// PrepareUpdate carries everything but the status over from old.
	PrepareUpdate  func(obj, old Object)
	ValidateUpdate func(obj, old Object) field.ErrorList
}

// Resize is the strategy of a resize subresource, which changes the resources of an object's containers and nothing else.
type Resize struct {
	// PrepareUpdate carries everything but the containers' resources over from old.
	PrepareUpdate  func(obj, old Object)
	ValidateUpdate func(obj, old Object) field.ErrorList
}

// Bytes lie beside an object because they are too large for one: the store keeps them in pieces, out of the cache of
// objects. They are replaced as a whole, and go with the object.
type Bytes struct {
	Subresource string // that reads and replaces them
	MediaType   string
	Max         int // how many there may be
	// Stored is what the object says of them; false: there are none. Where a write makes it another, the old bytes go.
	Stored func(Object) (Stored, bool)
	// Put records new ones in the object.
	Put func(Object, Stored)
	// Validate returns what is wrong with new ones, before they are stored.
	Validate func(obj Object, data []byte, s Stored) field.ErrorList
}

// Stored names the bytes beside an object.
type Stored struct {
	ID     string // another one each time
	Digest string // "sha256:" and hex
	Size   int64
}

// Scale maps a kind to autoscaling/v1 Scale.
type Scale struct {
	SpecReplicas   func(Object) int32
	StatusReplicas func(Object) int32
	Selector       func(Object) string
	SetReplicas    func(obj Object, replicas int32)
}

// GVR is the kind's group, version and resource.
func (k *Kind) GVR() schema.GroupVersionResource {
	return k.GroupVersionKind.GroupVersion().WithResource(k.Resource)
}

// StorageGVR is the resource under which the kind's objects are stored.
func (k *Kind) StorageGVR() schema.GroupVersionResource {
	if k.StoredAs.Resource != "" {
		return k.StoredAs
	}
	return k.GVR()
}
