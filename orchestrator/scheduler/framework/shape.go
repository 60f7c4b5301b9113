package framework

import (
	"encoding/binary"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Shape is the same for pods whose specs are the same to a decision that looks at nodes one by one: what they ask for, where
// they may go, how important they are. What they are to other pods isn't in it: labels, annotations, names and namespaces, pod
// affinity, topology spread.
func (p *Pod) Shape() string { return p.shape }

// Kind is the same for pods that the same selectors match: of one namespace, one controller and the same labels, ending or not.
func (p *Pod) Kind() string { return p.kind }

// shaper writes values so that different ones never look alike.
type shaper []byte

func (b *shaper) int(n int64) { *b = binary.AppendVarint(*b, n) }
func (b *shaper) text(s string) {
	*b = append(binary.AppendUvarint(*b, uint64(len(s))), s...)
}

// encode is for the parts that few pods have.
func (b *shaper) encode(m interface{ Marshal() ([]byte, error) }) {
	encoded, err := m.Marshal()
	if err != nil { // an API object can always be encoded
		return
	}
	b.text(string(encoded))
}

func (b *shaper) pairs(m map[string]string) {
	b.int(int64(len(m)))
	var space [16]string
	keys := space[:0]
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		b.text(key)
		b.text(m[key])
	}
}

func (b *shaper) list(l corev1.ResourceList) {
	b.int(int64(len(l)))
	var space [8]corev1.ResourceName
	names := space[:0]
	for name := range l {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		q := l[name]
		b.text(string(name))
		b.int(q.MilliValue())
	}
}

func shapeOf(p *Pod) string {
	var space [512]byte
	b := shaper(space[:0])
	spec := &p.Spec
	b.text(spec.SchedulerName)
	b.text(spec.NodeName)
	priority := int64(0)
	if spec.Priority != nil {
		priority = int64(*spec.Priority)
	}
	b.int(priority)
	b.pairs(spec.NodeSelector)
	b.list(spec.Overhead)
	if spec.Resources != nil {
		b.list(spec.Resources.Requests)
		b.list(spec.Resources.Limits)
	}
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		b.int(int64(len(containers)))
		for i := range containers {
			c := &containers[i]
			b.text(c.Name)
			b.text(c.Image)
			b.list(c.Resources.Requests)
			b.list(c.Resources.Limits)
			if c.RestartPolicy != nil {
				b.text(string(*c.RestartPolicy))
			}
			for j := range c.Resources.Claims {
				b.text(c.Resources.Claims[j].Name)
				b.text(c.Resources.Claims[j].Request)
			}
		}
	}
	b.int(int64(len(p.Ports)))
	for _, port := range p.Ports {
		b.text(string(port.Protocol))
		b.text(port.IP)
		b.int(int64(port.Port))
	}
	b.int(int64(len(spec.Tolerations)))
	for i := range spec.Tolerations {
		t := &spec.Tolerations[i]
		b.text(t.Key)
		b.text(string(t.Operator))
		b.text(t.Value)
		b.text(string(t.Effect))
	}
	if spec.Affinity != nil && spec.Affinity.NodeAffinity != nil {
		b.encode(spec.Affinity.NodeAffinity)
	}
	for i := range spec.ResourceClaims {
		b.encode(&spec.ResourceClaims[i])
	}
	for i := range spec.Volumes {
		if claim := spec.Volumes[i].PersistentVolumeClaim; claim != nil {
			b.text(p.Namespace)
			b.text(claim.ClaimName)
		}
	}
	return string(b)
}

func kindOf(pod *corev1.Pod) string {
	var space [256]byte
	b := shaper(space[:0])
	b.text(pod.Namespace)
	b.pairs(pod.Labels)
	ending := int64(0)
	if pod.DeletionTimestamp != nil {
		ending = 1
	}
	b.int(ending)
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		b.text(string(owner.UID))
	}
	return string(b)
}

// TolerationsKey is the same for pods with the same tolerations; "" for those without.
func TolerationsKey(tolerations []corev1.Toleration) string {
	var b strings.Builder
	for i := range tolerations {
		t := &tolerations[i]
		for _, part := range []string{t.Key, string(t.Operator), t.Value, string(t.Effect)} {
			b.WriteString(part)
			b.WriteByte(0)
		}
	}
	return b.String()
}
