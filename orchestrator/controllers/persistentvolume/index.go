package persistentvolume

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/api/volumes"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// index finds what concerns a claim or a volume without going over all of them. The watches feed it before they enqueue what has
// changed: what it doesn't know yet is only late, and what it knows too long fails to be written.
type index struct {
	mu      sync.Mutex
	named   groups[types.NamespacedName, string, *corev1.PersistentVolume] // by claim: the volumes that name it
	free    groups[string, string, *corev1.PersistentVolume]               // by class: the volumes that name none
	pending groups[string, types.NamespacedName, bool]                     // by class: the claims that have no volume
	wishes  groups[string, types.NamespacedName, bool]                     // by volume: the claims that name it
	pods    groups[types.NamespacedName, string, bool]                     // by claim: the pods that wait for a node
}

// groups holds values by their own key, by group.
type groups[G, K comparable, V any] map[G]map[K]V

func (g groups[G, K, V]) put(group G, key K, value V) {
	if g[group] == nil {
		g[group] = map[K]V{}
	}
	g[group][key] = value
}

func (g groups[G, K, V]) drop(group G, key K) {
	if delete(g[group], key); len(g[group]) == 0 {
		delete(g, group)
	}
}

func newIndex() *index {
	return &index{named: groups[types.NamespacedName, string, *corev1.PersistentVolume]{}, free: groups[string, string, *corev1.PersistentVolume]{},
		pending: groups[string, types.NamespacedName, bool]{}, wishes: groups[string, types.NamespacedName, bool]{}, pods: groups[types.NamespacedName, string, bool]{}}
}

// noClass is the class of claims that name none: no class is called so.
const noClass = "\x00"

func classOf(c *corev1.PersistentVolumeClaim) string {
	if !api.HasClaimClass(c) {
		return noClass
	}
	return api.ClaimClass(c)
}

func nameOf(o api.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// volume records what a volume was, and is; nil: it wasn't, or isn't.
func (x *index) volume(old, now *corev1.PersistentVolume) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old != nil {
		if ref := old.Spec.ClaimRef; ref != nil {
			x.named.drop(types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}, old.Name)
		} else {
			x.free.drop(api.VolumeClass(old), old.Name)
		}
	}
	if now != nil {
		if ref := now.Spec.ClaimRef; ref != nil {
			x.named.put(types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}, now.Name, now)
		} else {
			x.free.put(api.VolumeClass(now), now.Name, now)
		}
	}
}

// claim records what a claim was, and is.
func (x *index) claim(old, now *corev1.PersistentVolumeClaim) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old != nil {
		x.pending.drop(classOf(old), nameOf(old))
		x.wishes.drop(old.Spec.VolumeName, nameOf(old))
	}
	if now != nil && now.Spec.VolumeName == "" {
		x.pending.put(classOf(now), nameOf(now), true)
	} else if now != nil {
		x.wishes.put(now.Spec.VolumeName, nameOf(now), true)
	}
}

// pod records whether a pod waits for a node; gone: it is no more.
func (x *index) pod(p *corev1.Pod, gone bool) {
	uses := volumes.Uses(p)
	if len(uses) == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, u := range uses {
		claim := types.NamespacedName{Namespace: p.Namespace, Name: u.Claim}
		if gone || p.Spec.NodeName != "" || !reconcile.PodActive(p) {
			x.pods.drop(claim, p.Name)
		} else {
			x.pods.put(claim, p.Name, true)
		}
	}
}

// volumesFor are those that name the claim, and, unless reservedOnly, the free ones of its class.
func (x *index) volumesFor(c *corev1.PersistentVolumeClaim, reservedOnly bool) (out []*corev1.PersistentVolume) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, v := range x.named[nameOf(c)] {
		out = append(out, v)
	}
	if !reservedOnly {
		for _, v := range x.free[api.ClaimClass(c)] {
			out = append(out, v)
		}
	}
	return out
}

// waiting are the pods that wait for a node with the claim.
func (x *index) waiting(c *corev1.PersistentVolumeClaim) (out []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for name := range x.pods[nameOf(c)] {
		out = append(out, name)
	}
	return out
}

// claimsFor are those without a volume, of any of these classes, and those that name the volume, if one is given.
func (x *index) claimsFor(volume string, classes ...string) (out []types.NamespacedName) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, class := range classes {
		for name := range x.pending[class] {
			out = append(out, name)
		}
	}
	if volume != "" {
		for name := range x.wishes[volume] {
			out = append(out, name)
		}
	}
	return out
}

// naming are the volumes that name a claim of that name.
func (x *index) naming(claim types.NamespacedName) (out []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for name := range x.named[claim] {
		out = append(out, name)
	}
	return out
}
