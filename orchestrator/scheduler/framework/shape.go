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

// Each returns the longer slice, as append does: through a pointer the caller's array would not stay on its stack.
func (b shaper) int(n int64) shaper { return binary.AppendVarint(b, n) }
func (b shaper) text(s string) shaper {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// encode is for the parts that few pods have.
func (b shaper) encode(m interface{ Marshal() ([]byte, error) }) shaper {
	encoded, err := m.Marshal()
	if err != nil { // an API object can always be encoded
		return b
	}
	return b.text(string(encoded))
}

func (b shaper) pairs(m map[string]string) shaper {
	b = b.int(int64(len(m)))
	if len(m) == 0 {
		return b
	}
	var space [16]string
	keys := space[:0]
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		b = b.text(key).text(m[key])
	}
	return b
}

func (b shaper) list(l corev1.ResourceList) shaper {
	b = b.int(int64(len(l)))
	if len(l) == 0 {
		return b
	}
	var space [8]corev1.ResourceName
	names := space[:0]
	for name := range l {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		q := l[name]
		b = b.text(string(name)).int(q.MilliValue())
	}
	return b
}

func (b shaper) shape(p *Pod) shaper {
	spec := &p.Spec
	b = b.text(spec.SchedulerName)
	b = b.text(spec.NodeName)
	priority := int64(0)
	if spec.Priority != nil {
		priority = int64(*spec.Priority)
	}
	b = b.int(priority)
	b = b.pairs(spec.NodeSelector)
	b = b.list(spec.Overhead)
	if spec.Resources != nil {
		b = b.list(spec.Resources.Requests)
		b = b.list(spec.Resources.Limits)
	}
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		b = b.int(int64(len(containers)))
		for i := range containers {
			c := &containers[i]
			b = b.text(c.Name)
			b = b.text(c.Image)
			b = b.list(c.Resources.Requests)
			b = b.list(c.Resources.Limits)
			if c.RestartPolicy != nil {
				b = b.text(string(*c.RestartPolicy))
			}
			for j := range c.Resources.Claims {
				b = b.text(c.Resources.Claims[j].Name)
				b = b.text(c.Resources.Claims[j].Request)
			}
		}
	}
	if resizing(p.Pod) { // what it takes isn't what its spec says
		b = b.int(p.Request.MilliCPU)
		b = b.int(p.Request.Memory)
	}
	b = b.int(int64(len(p.Ports)))
	for _, port := range p.Ports {
		b = b.text(string(port.Protocol))
		b = b.text(port.IP)
		b = b.int(int64(port.Port))
	}
	b = b.int(int64(len(spec.Tolerations)))
	for i := range spec.Tolerations {
		t := &spec.Tolerations[i]
		b = b.text(t.Key)
		b = b.text(string(t.Operator))
		b = b.text(t.Value)
		b = b.text(string(t.Effect))
	}
	if spec.Affinity != nil && spec.Affinity.NodeAffinity != nil {
		b = b.encode(spec.Affinity.NodeAffinity)
	}
	for i := range spec.ResourceClaims {
		b = b.encode(&spec.ResourceClaims[i])
	}
	for i := range spec.Volumes {
		if claim := spec.Volumes[i].PersistentVolumeClaim; claim != nil {
			b = b.text(p.Namespace)
			b = b.text(claim.ClaimName)
		} else if spec.Volumes[i].Ephemeral != nil {
			b = b.text(p.Namespace)
			b = b.text(p.Name)
			b = b.text(spec.Volumes[i].Name)
		}
	}
	return b
}

func (b shaper) kind(pod *corev1.Pod) shaper {
	b = b.text(pod.Namespace)
	b = b.pairs(pod.Labels)
	ending := int64(0)
	if pod.DeletionTimestamp != nil {
		ending = 1
	}
	b = b.int(ending)
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		b = b.text(string(owner.UID))
	}
	return b
}

// setShape fills in the pod's shape and kind, which share their memory.
func (p *Pod) setShape() {
	var space [768]byte
	b := shaper(space[:0]).shape(p)
	shape := len(b)
	all := string(b.kind(p.Pod))
	p.shape, p.kind = all[:shape], all[shape:]
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
