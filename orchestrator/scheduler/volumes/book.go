package volumes

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	binding "github.com/pintle/pintle/orchestrator/api/volumes"
)

// Book knows what there is, and what is promised.
type Book struct {
	claims     map[string]*corev1.PersistentVolumeClaim // by namespace/name
	volumes    map[string]*Volume
	free       map[string]map[string]*Volume // by class: those that name no claim
	reserved   map[string]map[string]*Volume // by claim: those that name it
	classes    map[string]*storagev1.StorageClass
	drivers    map[string]*storagev1.CSIDriver
	nodes      map[string]*storagev1.CSINode
	capacities map[string]*storagev1.CSIStorageCapacity

	promised     map[types.UID]*Plan            // by pod
	takenVolumes map[string]types.UID           // free ones that are promised, by whom
	takenClaims  map[string]map[types.UID]*Plan // claims that are about to be bound, by the pods that wait for it
	users        map[string]map[types.UID]bool  // by claim: pods on nodes
}

// NewBook makes an empty one.
func NewBook() *Book {
	return &Book{claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: map[string]*Volume{}, free: map[string]map[string]*Volume{},
		reserved: map[string]map[string]*Volume{}, classes: map[string]*storagev1.StorageClass{}, drivers: map[string]*storagev1.CSIDriver{},
		nodes: map[string]*storagev1.CSINode{}, capacities: map[string]*storagev1.CSIStorageCapacity{}, promised: map[types.UID]*Plan{},
		takenVolumes: map[string]types.UID{}, takenClaims: map[string]map[types.UID]*Plan{}, users: map[string]map[types.UID]bool{}}
}

func key(namespace, name string) string { return namespace + "/" + name }

// Set adds or replaces an object of storage. It says whether that may help a pod that found no volume, or not enough room for
// one.
func (b *Book) Set(o runtime.Object) (helps bool) {
	switch o := o.(type) {
	case *corev1.PersistentVolumeClaim:
		k := key(o.Namespace, o.Name)
		before := b.claims[k]
		if before != nil && older(o, before) {
			return false
		}
		b.claims[k] = o
		return before == nil || before.UID != o.UID || before.Spec.VolumeName != o.Spec.VolumeName || Complete(before) != Complete(o) ||
			before.Annotations[binding.SelectedNode] != o.Annotations[binding.SelectedNode] || api.ClaimClass(before) != api.ClaimClass(o)
	case *corev1.PersistentVolume:
		before := b.volumes[o.Name]
		if before != nil && older(o, before) {
			return false
		}
		b.removeVolume(o.Name)
		v := newVolume(o)
		b.volumes[o.Name] = v
		if ref := o.Spec.ClaimRef; ref != nil {
			put(b.reserved, key(ref.Namespace, ref.Name), o.Name, v)
		} else {
			put(b.free, api.VolumeClass(o), o.Name, v)
		}
		return before == nil || !apiequality.Semantic.DeepEqual(before.Spec, o.Spec) || before.Status.Phase != o.Status.Phase || !apiequality.Semantic.DeepEqual(before.Labels, o.Labels)
	case *storagev1.StorageClass:
		b.classes[o.Name] = o
	case *storagev1.CSIDriver:
		b.drivers[o.Name] = o
	case *storagev1.CSINode:
		b.nodes[o.Name] = o
	case *storagev1.CSIStorageCapacity:
		b.capacities[key(o.Namespace, o.Name)] = o
	default:
		return false
	}
	return true
}

// Update is Set for what somebody has just written, which a watch may have told of already, or of its end.
func (b *Book) Update(o api.Object) {
	switch o := o.(type) {
	case *corev1.PersistentVolumeClaim:
		if have := b.claims[key(o.Namespace, o.Name)]; have != nil && have.UID == o.UID {
			b.Set(o)
		}
	case *corev1.PersistentVolume:
		if have := b.volumes[o.Name]; have != nil && have.UID == o.UID {
			b.Set(o)
		}
	}
}

// older says whether an object is an earlier version of what is known.
func older(o, known api.Object) bool {
	if o.GetUID() != known.GetUID() {
		return false
	}
	a, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	b, other := strconv.ParseUint(known.GetResourceVersion(), 10, 64)
	return err == nil && other == nil && a < b
}

// Remove forgets the object of that resource.
func (b *Book) Remove(resource, namespace, name string) {
	switch resource {
	case "persistentvolumeclaims":
		delete(b.claims, key(namespace, name))
	case "persistentvolumes":
		b.removeVolume(name)
	case "storageclasses":
		delete(b.classes, name)
	case "csidrivers":
		delete(b.drivers, name)
	case "csinodes":
		delete(b.nodes, name)
	case "csistoragecapacities":
		delete(b.capacities, key(namespace, name))
	}
}

func (b *Book) removeVolume(name string) {
	v := b.volumes[name]
	if v == nil {
		return
	}
	delete(b.volumes, name)
	if ref := v.Spec.ClaimRef; ref != nil {
		drop(b.reserved, key(ref.Namespace, ref.Name), name)
	} else {
		drop(b.free, api.VolumeClass(v.PersistentVolume), name)
	}
}

func put[K comparable, V any](m map[string]map[K]V, at string, k K, v V) {
	if m[at] == nil {
		m[at] = map[K]V{}
	}
	m[at][k] = v
}

func drop[K comparable, V any](m map[string]map[K]V, at string, k K) {
	if delete(m[at], k); len(m[at]) == 0 {
		delete(m, at)
	}
}

// Claim finds a claim, nil if there is none.
func (b *Book) Claim(namespace, name string) *corev1.PersistentVolumeClaim {
	return b.claims[key(namespace, name)]
}

// Complete says whether a claim is bound for good.
func Complete(c *corev1.PersistentVolumeClaim) bool {
	_, done := c.Annotations[binding.BindCompleted]
	return done && c.Spec.VolumeName != ""
}

// AddUser tells that a pod with claims is on a node; RemoveUser, that it has left.
func (b *Book) AddUser(pod *corev1.Pod) {
	for _, u := range binding.Uses(pod) {
		put(b.users, key(pod.Namespace, u.Claim), pod.UID, true)
	}
}

// RemoveUser is AddUser's other half.
func (b *Book) RemoveUser(pod *corev1.Pod) {
	for _, u := range binding.Uses(pod) {
		drop(b.users, key(pod.Namespace, u.Claim), pod.UID)
	}
}

// OthersUse says whether a pod on a node uses a claim of this one that is for one pod alone.
func (b *Book) OthersUse(pod *corev1.Pod) bool {
	for _, u := range binding.Uses(pod) {
		k := key(pod.Namespace, u.Claim)
		c := b.claims[k]
		if c == nil || len(c.Spec.AccessModes) != 1 || c.Spec.AccessModes[0] != corev1.ReadWriteOncePod {
			continue
		}
		for uid := range b.users[k] {
			if uid != pod.UID {
				return true
			}
		}
	}
	return false
}
