package localpath

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names that claims, classes and volumes carry.
const (
	Name                   = "pintle.dev/local-path" // the provisioner's
	AnnotationSelectedNode = "volume.kubernetes.io/selected-node"
	AnnotationProvisioned  = "pv.kubernetes.io/provisioned-by"
	AnnotationQuota        = "pintle.dev/quota" // "project", or why there is none
	// Finalizer keeps the PersistentVolume until its folder is removed, where the reclaim policy asks for that.
	Finalizer = "external-provisioner.volume.kubernetes.io/finalizer"
)

// State is what Decide looks at. Claims are those whose selected node is this one, volumes those that this provisioner made here.
type State struct {
	Node    string
	Claims  []*corev1.PersistentVolumeClaim
	Volumes []*corev1.PersistentVolume
	Classes map[string]*storagev1.StorageClass
	Records []Record
}

// Kind is what an Action does.
type Kind int

// The kinds of actions.
const (
	Provision Kind = iota // make the folder of Claim, and its PersistentVolume
	Confirm               // the PersistentVolume is there: the record says "ready"
	Abandon               // remove a folder whose PersistentVolume never came to be, if it really isn't there
	Remove                // remove the folder of Volume, then Volume
	Keep                  // Volume goes and its folder stays: take the finalizer off
	Expand                // let the folder of Volume hold what Claim asks for
)

func (k Kind) String() string {
	return [...]string{"provision", "confirm", "abandon", "remove", "keep", "expand"}[k]
}

// Action is one thing to do. Name is the PersistentVolume's, and the folder's.
type Action struct {
	Kind   Kind
	Name   string
	Claim  *corev1.PersistentVolumeClaim
	Class  *storagev1.StorageClass
	Volume *corev1.PersistentVolume
	// Refusal, if not "", is why a Provision can't be done: there is only an event to write.
	Refusal string
}

// VolumeName is the name of a claim's PersistentVolume, and of its folder.
func VolumeName(c *corev1.PersistentVolumeClaim) string { return "pvc-" + string(c.UID) }

// Decide says what is to be done, in the order of the volumes' names. It is pure.
func Decide(s *State) (actions []Action) {
	volumes, records, wanted := map[string]*corev1.PersistentVolume{}, map[string]Record{}, map[string]bool{}
	for _, v := range s.Volumes {
		volumes[v.Name] = v
	}
	for _, r := range s.Records {
		records[r.Name] = r
	}
	for _, c := range s.Claims {
		name := VolumeName(c)
		v := volumes[name]
		if v != nil {
			if expands(c, v) {
				actions = append(actions, Action{Kind: Expand, Name: name, Claim: c, Volume: v})
			}
			continue
		}
		class := s.Classes[deref(c.Spec.StorageClassName)]
		if class == nil || class.Provisioner != Name || c.Spec.VolumeName != "" || c.DeletionTimestamp != nil ||
			c.Annotations[AnnotationSelectedNode] != s.Node {
			continue
		}
		wanted[name] = true
		actions = append(actions, Action{Kind: Provision, Name: name, Claim: c, Class: class, Refusal: refusal(c, class)})
	}
	for _, v := range s.Volumes {
		switch {
		case v.DeletionTimestamp != nil && v.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete:
			if slices.Contains(v.Finalizers, Finalizer) {
				actions = append(actions, Action{Kind: Keep, Name: v.Name, Volume: v})
			}
		case removable(v):
			actions = append(actions, Action{Kind: Remove, Name: v.Name, Volume: v})
		}
	}
	for _, r := range s.Records {
		v := volumes[r.Name]
		switch {
		case v != nil && r.State != Ready && !removable(v):
			actions = append(actions, Action{Kind: Confirm, Name: r.Name, Volume: v})
		case v == nil && r.State != Ready && !wanted[r.Name]:
			actions = append(actions, Action{Kind: Abandon, Name: r.Name})
		}
	}
	slices.SortStableFunc(actions, func(a, b Action) int { return cmp.Compare(a.Name, b.Name) })
	return actions
}

// removable reports whether the volume's folder is to go: nobody claims it any more, and its policy is Delete.
func removable(v *corev1.PersistentVolume) bool {
	return v.Status.Phase == corev1.VolumeReleased && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete
}

// expands reports whether the claim asks for more than its volume has, or doesn't know yet what it has.
func expands(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) bool {
	ref := v.Spec.ClaimRef
	if c.Spec.VolumeName != v.Name || c.Status.Phase != corev1.ClaimBound || ref == nil || ref.UID != c.UID || c.DeletionTimestamp != nil {
		return false
	}
	asked, has, known := c.Spec.Resources.Requests[corev1.ResourceStorage], v.Spec.Capacity[corev1.ResourceStorage], c.Status.Capacity[corev1.ResourceStorage]
	return asked.Cmp(has) > 0 || asked.Cmp(known) > 0 && !known.IsZero()
}

// refusal says why a claim can't have a folder of this provisioner, or "".
func refusal(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) string {
	for _, m := range c.Spec.AccessModes {
		if m != corev1.ReadWriteOnce && m != corev1.ReadWriteOncePod {
			return fmt.Sprintf("access mode %s is not supported: a folder is on one node; use %s or %s", m, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)
		}
	}
	switch {
	case c.Spec.VolumeMode != nil && *c.Spec.VolumeMode == corev1.PersistentVolumeBlock:
		return "volumeMode Block is not supported: a folder is no device"
	case c.Spec.Selector != nil:
		return "claim Selector is not supported"
	case c.Spec.DataSource != nil || c.Spec.DataSourceRef != nil:
		return "dataSource is not supported: folders start empty"
	case len(class.MountOptions) > 0:
		return fmt.Sprintf("mountOptions of StorageClass %s are not supported: folders are not mounted", class.Name)
	case len(class.AllowedTopologies) > 0 && class.VolumeBindingMode == nil:
		return "allowedTopologies need volumeBindingMode WaitForFirstConsumer"
	}
	var unknown []string
	for k := range class.Parameters {
		unknown = append(unknown, k)
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Sprintf("parameters %s of StorageClass %s are unknown: there are none", strings.Join(unknown, ", "), class.Name)
	}
	return ""
}

// Volume is the PersistentVolume of a claim's folder. hostname is the node's label kubernetes.io/hostname; quota goes into the
// annotation.
func Volume(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, path, hostname, quota string) *corev1.PersistentVolume {
	policy, mode := corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeFilesystem
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: VolumeName(c), Annotations: map[string]string{AnnotationProvisioned: Name, AnnotationQuota: quota},
			Finalizers: []string{Finalizer}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: c.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   slices.Clone(c.Spec.AccessModes),
			PersistentVolumeReclaimPolicy: policy, StorageClassName: class.Name, VolumeMode: &mode,
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			ClaimRef: &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID,
				ResourceVersion: c.ResourceVersion},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{hostname}}}}}}},
		}}
}

// Ours reports whether the provisioner of the node with that hostname label made the volume.
func Ours(v *corev1.PersistentVolume, hostname string) bool {
	if v.Annotations[AnnotationProvisioned] != Name || v.Spec.Local == nil || v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return false
	}
	for _, t := range v.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, e := range t.MatchExpressions {
			if e.Key == corev1.LabelHostname && e.Operator == corev1.NodeSelectorOpIn && slices.Contains(e.Values, hostname) {
				return true
			}
		}
	}
	return false
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
