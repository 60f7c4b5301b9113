package attachdetach

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// forced is how long a node that isn't ready may keep a volume that no pod needs: Kubernetes' maxWaitForUnmountDuration.
const forced = 6 * time.Minute

// attachmentName is what Kubernetes calls the attachment, so that drivers' programs find it.
func attachmentName(driver, handle, node string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(handle+driver+node)))
}

// wish is that a pod's volume is on its node.
type wish struct {
	pod    *corev1.Pod
	volume *corev1.PersistentVolume
}

// node is what is known of one.
type node struct {
	*corev1.Node           // nil: it is gone
	ready        bool      // it says of itself what is in use
	since        time.Time // it hasn't been
}

// out says whether somebody has said that the node won't come back.
func (n node) out() bool {
	return n.Node != nil && slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// inUse says whether the node still has the volume mounted.
func (n node) inUse(driver, handle string) bool {
	return n.Node != nil && slices.Contains(n.Status.VolumesInUse, corev1.UniqueVolumeName("kubernetes.io/csi/"+driver+"^"+handle))
}

// event is one to be recorded about a pod.
type event struct {
	pod                  *corev1.Pod
	typ, reason, message string
}

// todo is what is to become of a volume's attachments.
type todo struct {
	attach []*storagev1.VolumeAttachment
	detach []*storagev1.VolumeAttachment
	events []event
	after  time.Duration // look again then; 0: something changes first
}

// decide works out where a volume is to be attached. wishes are of pods on nodes; have are its attachments.
func decide(v *corev1.PersistentVolume, wishes []wish, have []*storagev1.VolumeAttachment, nodes func(string) node, now time.Time) (out todo) {
	wanted := map[string][]*corev1.Pod{}
	for _, w := range wishes {
		wanted[w.pod.Spec.NodeName] = append(wanted[w.pod.Spec.NodeName], w.pod)
	}
	attached := map[string]bool{}
	for _, a := range have {
		at := a.Spec.NodeName
		attached[at] = true
		n := nodes(at)
		if len(wanted[at]) > 0 && n.Node != nil || a.DeletionTimestamp != nil {
			continue
		}
		switch {
		case n.Node == nil, n.out(), !n.inUse(a.Spec.Attacher, v.Spec.CSI.VolumeHandle):
			out.detach = append(out.detach, a)
		case !n.ready: // nobody will tell us that it is unmounted
			if left := n.since.Add(forced).Sub(now); left > 0 {
				out.after = left
			} else {
				out.detach = append(out.detach, a)
			}
		}
	}
	for _, at := range sorted(wanted) {
		if attached[at] || nodes(at).Node == nil {
			continue
		}
		if other := elsewhere(attached, at); other != "" && !shared(v) {
			out.events = append(out.events, multiAttach(v, wanted[at][0], wanted[other]))
			continue
		}
		name := v.Name
		out.attach = append(out.attach, &storagev1.VolumeAttachment{
			ObjectMeta: metav1.ObjectMeta{Name: attachmentName(v.Spec.CSI.Driver, v.Spec.CSI.VolumeHandle, at)},
			Spec:       storagev1.VolumeAttachmentSpec{Attacher: v.Spec.CSI.Driver, NodeName: at, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &name}},
		})
		attached[at] = true
	}
	return out
}

func sorted(wanted map[string][]*corev1.Pod) []string {
	out := make([]string, 0, len(wanted))
	for at := range wanted {
		out = append(out, at)
	}
	slices.Sort(out)
	return out
}

func elsewhere(attached map[string]bool, at string) string {
	found := ""
	for other := range attached {
		if other != at && (found == "" || other < found) {
			found = other
		}
	}
	return found
}

// shared says whether several nodes may have the volume at a time.
func shared(v *corev1.PersistentVolume) bool {
	return slices.Contains(v.Spec.AccessModes, corev1.ReadWriteMany) || slices.Contains(v.Spec.AccessModes, corev1.ReadOnlyMany)
}

func multiAttach(v *corev1.PersistentVolume, pod *corev1.Pod, others []*corev1.Pod) event {
	message := fmt.Sprintf("Multi-Attach error for volume %q Volume is already exclusively attached to one node and can't be attached to another", v.Name)
	if len(others) > 0 {
		var names []string
		for _, o := range others {
			if o.Namespace == pod.Namespace {
				names = append(names, o.Name)
			}
		}
		slices.Sort(names)
		switch rest := len(others) - len(names); {
		case len(names) == 0:
			message = fmt.Sprintf("Multi-Attach error for volume %q Volume is already used by %d pod(s) in different namespaces", v.Name, rest)
		case rest > 0:
			message = fmt.Sprintf("Multi-Attach error for volume %q Volume is already used by pod(s) %s and %d pod(s) in different namespaces", v.Name, strings.Join(names, ", "), rest)
		default:
			message = fmt.Sprintf("Multi-Attach error for volume %q Volume is already used by pod(s) %s", v.Name, strings.Join(names, ", "))
		}
	}
	return event{pod, corev1.EventTypeWarning, "FailedAttachVolume", message}
}

// needsAttach says whether a driver's volumes are attached at all: those of one that nobody has described are.
func needsAttach(d *storagev1.CSIDriver) bool {
	return d == nil || d.Spec.AttachRequired == nil || *d.Spec.AttachRequired
}
