package volumes

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/api"
)

// BoundTo says whether the volume names the claim: a volume that a person made for it may leave out the uid.
func BoundTo(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) bool {
	ref := v.Spec.ClaimRef
	return ref != nil && ref.Name == c.Name && ref.Namespace == c.Namespace && (ref.UID == "" || ref.UID == c.UID)
}

// Mode is the volume mode of a spec that may not have one.
func Mode(m *corev1.PersistentVolumeMode) corev1.PersistentVolumeMode {
	if m == nil {
		return corev1.PersistentVolumeFilesystem
	}
	return *m
}

// Size is what the claim asks for.
func Size(c *corev1.PersistentVolumeClaim) resource.Quantity {
	return c.Spec.Resources.Requests[corev1.ResourceStorage]
}

// Capacity is the size of a volume.
func Capacity(v *corev1.PersistentVolume) resource.Quantity {
	return v.Spec.Capacity[corev1.ResourceStorage]
}

// Mismatch says why a claim that names the volume can't have it, in Kubernetes' words, "" where it can.
func Mismatch(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) string {
	have, want := Capacity(v), Size(c)
	switch {
	case have.Cmp(want) < 0:
		return "requested PV is too small"
	case api.VolumeClass(v) != api.ClaimClass(c):
		return "storageClassName does not match"
	case Mode(v.Spec.VolumeMode) != Mode(c.Spec.VolumeMode):
		return "incompatible volumeMode"
	case !hasModes(v, c):
		return "incompatible accessMode"
	}
	return ""
}

func hasModes(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) bool {
	for _, m := range c.Spec.AccessModes {
		if !slices.Contains(v.Spec.AccessModes, m) {
			return false
		}
	}
	return true
}

// Matcher finds volumes for one claim.
type Matcher struct {
	claim    *corev1.PersistentVolumeClaim
	selector labels.Selector // nil: any
	broken   bool            // the claim's selector is no selector: nothing matches
}

// NewMatcher makes the matcher of a claim.
func NewMatcher(c *corev1.PersistentVolumeClaim) Matcher {
	m := Matcher{claim: c}
	if c.Spec.Selector != nil {
		s, err := metav1.LabelSelectorAsSelector(c.Spec.Selector)
		m.selector, m.broken = s, err != nil
	}
	return m
}

// Reserved says whether the volume was made for the claim, or is half bound to it, and fits.
func (m Matcher) Reserved(v *corev1.PersistentVolume) bool {
	have, want := Capacity(v), Size(m.claim)
	return BoundTo(v, m.claim) && v.DeletionTimestamp == nil && have.Cmp(want) >= 0 && Mode(v.Spec.VolumeMode) == Mode(m.claim.Spec.VolumeMode)
}

// Free says whether the volume is nobody's and the claim may have it.
func (m Matcher) Free(v *corev1.PersistentVolume) bool {
	return !m.broken && v.Spec.ClaimRef == nil && v.DeletionTimestamp == nil && v.Status.Phase == corev1.VolumeAvailable &&
		Mismatch(v, m.claim) == "" && (m.selector == nil || m.selector.Matches(labels.Set(v.Labels)))
}

// Smaller says whether a is a better choice than b: the smallest that is large enough wastes least. Where they are as large,
// the name decides, so that everybody who chooses chooses the same.
func Smaller(a, b *corev1.PersistentVolume) bool {
	x, y := Capacity(a), Capacity(b)
	if c := x.Cmp(y); c != 0 {
		return c < 0
	}
	return a.Name < b.Name
}

// Best is the volume that a claim gets: the one that was made for it, else, unless reservedOnly, the smallest free one; nil if
// there is none.
func Best(c *corev1.PersistentVolumeClaim, all []*corev1.PersistentVolume, reservedOnly bool) (best *corev1.PersistentVolume) {
	m := NewMatcher(c)
	var reserved *corev1.PersistentVolume
	for _, v := range all {
		switch {
		case m.Reserved(v):
			if reserved == nil || v.Name < reserved.Name {
				reserved = v
			}
		case !reservedOnly && (best == nil || Smaller(v, best)) && m.Free(v):
			best = v
		}
	}
	if reserved != nil {
		return reserved
	}
	return best
}
