package csi

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What the ecosystem's sidecars write, and these calls write as they do.
const (
	annotationProvisioner  = "volume.kubernetes.io/storage-provisioner"
	annotationBeta         = "volume.beta.kubernetes.io/storage-provisioner"
	annotationSelectedNode = "volume.kubernetes.io/selected-node"
	annotationProvisioned  = "pv.kubernetes.io/provisioned-by"
	annotationDeleteName   = "volume.kubernetes.io/provisioner-deletion-secret-name"
	annotationDeleteNS     = "volume.kubernetes.io/provisioner-deletion-secret-namespace"
	finalizerVolume        = "external-provisioner.volume.kubernetes.io/finalizer"
	// annotationNode, of a PersistentVolume, is the node whose driver made it.
	annotationNode = "csi.pintle.dev/node"
	// annotationController, of a CSIDriver: "external" leaves the controller's calls to sidecars, "node" keeps them here.
	annotationController = "csi.pintle.dev/controller"
	paramPrefix          = "csi.storage.k8s.io/"
)

// attacherFinalizer keeps a VolumeAttachment until the volume is detached.
func attacherFinalizer(driver string) string {
	return "external-attacher/" + strings.NewReplacer("/", "-", ".", "-").Replace(driver)
}

// view is what decide looks at; objects of other drivers may be among them.
type view struct {
	node        string
	drivers     map[string]*driver // whose controller's calls this node may make
	claims      []*corev1.PersistentVolumeClaim
	volumes     []*corev1.PersistentVolume
	classes     map[string]*storagev1.StorageClass
	attachments []*storagev1.VolumeAttachment
	csiNodes    map[string]*storagev1.CSINode
	ready       map[string]bool // nodes that are Ready
}

type controlKind int

const (
	createVolume controlKind = iota
	deleteVolume
	releaseVolume // the PersistentVolume goes, and what it stands for stays
	attachVolume
	detachVolume
	expandVolume
)

func (k controlKind) String() string {
	return [...]string{"create", "delete", "release", "attach", "detach", "expand"}[k]
}

// controlAction is one thing to do with a driver's controller.
type controlAction struct {
	kind       controlKind
	driver     *driver
	claim      *corev1.PersistentVolumeClaim
	class      *storagev1.StorageClass
	volume     *corev1.PersistentVolume
	attachment *storagev1.VolumeAttachment
}

// key names what the action is about, for pauses after failures.
func (a *controlAction) key() string {
	switch {
	case a.attachment != nil:
		return "attachment/" + a.attachment.Name
	case a.volume != nil:
		return "volume/" + a.volume.Name
	}
	return "claim/" + string(a.claim.UID)
}

// mine reports whether this node makes a driver's calls that are about another node, or, with "", about none.
func (v *view) mine(driver, node string) bool {
	if node == v.node {
		return true
	}
	controls := func(name string) bool {
		c := v.csiNodes[name]
		return c != nil && slices.Contains(controllers(c), driver)
	}
	if node != "" && controls(node) && v.ready[node] {
		return false
	}
	for name := range v.csiNodes {
		if name < v.node && v.ready[name] && controls(name) {
			return false
		}
	}
	return true
}

// decide says which of the controllers' calls this node is to make now. It is pure.
func (v *view) decide() (actions []controlAction) {
	volumes := map[string]*corev1.PersistentVolume{}
	attached := map[string]bool{} // volumes with a VolumeAttachment
	for _, pv := range v.volumes {
		volumes[pv.Name] = pv
	}
	for _, a := range v.attachments {
		if a.Spec.Source.PersistentVolumeName != nil {
			attached[*a.Spec.Source.PersistentVolumeName] = true
		}
	}
	for _, c := range v.claims {
		if c.DeletionTimestamp != nil {
			continue
		}
		if c.Spec.VolumeName == "" {
			name := cmp.Or(c.Annotations[annotationProvisioner], c.Annotations[annotationBeta])
			d, selected := v.drivers[name], c.Annotations[annotationSelectedNode]
			class := v.classes[className(c)]
			if d == nil || !d.can(csipb.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME) || class == nil || class.Provisioner != name ||
				volumes["pvc-"+string(c.UID)] != nil || !v.mine(name, selected) {
				continue
			}
			if waits(class) && selected == "" {
				continue
			}
			actions = append(actions, controlAction{kind: createVolume, driver: d, claim: c, class: class})
			continue
		}
		pv := volumes[c.Spec.VolumeName]
		if pv == nil || pv.Spec.CSI == nil || c.Status.Phase != corev1.ClaimBound || pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != c.UID {
			continue
		}
		asked, has := c.Spec.Resources.Requests[corev1.ResourceStorage], pv.Spec.Capacity[corev1.ResourceStorage]
		if d := v.drivers[pv.Spec.CSI.Driver]; d != nil && asked.Cmp(has) > 0 && v.mine(d.name, pv.Annotations[annotationNode]) &&
			(d.can(csipb.ControllerServiceCapability_RPC_EXPAND_VOLUME) || d.expands) {
			actions = append(actions, controlAction{kind: expandVolume, driver: d, claim: c, volume: pv})
		}
	}
	for _, pv := range v.volumes {
		if pv.Spec.CSI == nil || pv.Annotations[annotationProvisioned] != pv.Spec.CSI.Driver {
			continue
		}
		d := v.drivers[pv.Spec.CSI.Driver]
		if d == nil || !d.can(csipb.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME) || !v.mine(d.name, pv.Annotations[annotationNode]) {
			continue
		}
		switch {
		case pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete:
			if pv.DeletionTimestamp != nil && slices.Contains(pv.Finalizers, finalizerVolume) {
				actions = append(actions, controlAction{kind: releaseVolume, driver: d, volume: pv})
			}
		case pv.Status.Phase == corev1.VolumeReleased && !attached[pv.Name]:
			actions = append(actions, controlAction{kind: deleteVolume, driver: d, volume: pv})
		}
	}
	for _, a := range v.attachments {
		d := v.drivers[a.Spec.Attacher]
		if d == nil || !v.mine(d.name, a.Spec.NodeName) {
			continue
		}
		act := controlAction{driver: d, attachment: a}
		if n := a.Spec.Source.PersistentVolumeName; n != nil {
			act.volume = volumes[*n]
		}
		switch {
		case a.DeletionTimestamp == nil && !a.Status.Attached && act.volume != nil:
			act.kind = attachVolume
			actions = append(actions, act)
		case a.DeletionTimestamp != nil && slices.Contains(a.Finalizers, attacherFinalizer(d.name)):
			act.kind = detachVolume
			actions = append(actions, act)
		}
	}
	return actions
}

func waits(c *storagev1.StorageClass) bool {
	return c.VolumeBindingMode != nil && *c.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

func className(c *corev1.PersistentVolumeClaim) string {
	if c.Spec.StorageClassName == nil {
		return ""
	}
	return *c.Spec.StorageClassName
}

// parameters are a class's: those for the driver, and those with the prefix, for the caller.
type parameters struct {
	driver map[string]string
	own    map[string]string
}

func parametersOf(class *storagev1.StorageClass) (parameters, error) {
	p := parameters{map[string]string{}, map[string]string{}}
	known := []string{"fstype"}
	for _, s := range []string{"provisioner", "controller-publish", "node-stage", "node-publish", "controller-expand", "node-expand"} {
		known = append(known, s+"-secret-name", s+"-secret-namespace")
	}
	for k, v := range class.Parameters {
		own, ok := strings.CutPrefix(k, paramPrefix)
		switch {
		case !ok:
			p.driver[k] = v
		case !slices.Contains(known, own):
			return p, fmt.Errorf("found unknown parameter key %q with reserved namespace %s", k, paramPrefix)
		default:
			p.own[own] = v
		}
	}
	return p, nil
}

var placeholder = regexp.MustCompile(`\$\{[^}]*\}`)

// secretRef is the secret that a class names for a purpose, or nil. Names may be made of the claim's.
func (p parameters) secretRef(purpose string, c *corev1.PersistentVolumeClaim, volume string) (*corev1.SecretReference, error) {
	name, namespace := p.own[purpose+"-secret-name"], p.own[purpose+"-secret-namespace"]
	if (name == "") != (namespace == "") {
		return nil, fmt.Errorf("only one of name and namespace of the %s secret is given", purpose)
	}
	if name == "" {
		return nil, nil
	}
	var unknown error
	resolve := func(s string, ofClaim bool) string {
		return placeholder.ReplaceAllStringFunc(s, func(x string) string {
			key := x[2 : len(x)-1]
			switch {
			case key == "pv.name":
				return volume
			case key == "pvc.namespace":
				return c.Namespace
			case key == "pvc.name" && ofClaim:
				return c.Name
			}
			if a, ok := strings.CutPrefix(key, "pvc.annotations['"); ok && ofClaim && strings.HasSuffix(a, "']") {
				if v, ok := c.Annotations[strings.TrimSuffix(a, "']")]; ok {
					return v
				}
			}
			unknown = errors.Join(unknown, fmt.Errorf("the %s secret of the class names %s, which is unknown there", purpose, x))
			return ""
		})
	}
	ref := &corev1.SecretReference{Name: resolve(name, true), Namespace: resolve(namespace, false)}
	if unknown != nil {
		return nil, unknown
	}
	return ref, nil
}

// volumeOf is the PersistentVolume of what a driver has made for a claim.
func volumeOf(d *driver, node string, c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, p parameters, made *csipb.Volume) (*corev1.PersistentVolume, error) {
	name := "pvc-" + string(c.UID)
	policy, mode := corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeFilesystem
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	size := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if n := made.GetCapacityBytes(); n > 0 {
		if n < size.Value() {
			return nil, fmt.Errorf("created volume capacity %d less than requested capacity %d", n, size.Value())
		}
		if n != size.Value() {
			size = bytesQuantity(n)
		}
	}
	source := &corev1.CSIPersistentVolumeSource{Driver: d.name, VolumeHandle: made.GetVolumeId(), FSType: p.own["fstype"], VolumeAttributes: made.GetVolumeContext()}
	annotations := map[string]string{annotationProvisioned: d.name, annotationNode: node}
	for purpose, set := range map[string]func(*corev1.SecretReference){
		"controller-publish": func(r *corev1.SecretReference) { source.ControllerPublishSecretRef = r },
		"node-stage":         func(r *corev1.SecretReference) { source.NodeStageSecretRef = r },
		"node-publish":       func(r *corev1.SecretReference) { source.NodePublishSecretRef = r },
		"controller-expand":  func(r *corev1.SecretReference) { source.ControllerExpandSecretRef = r },
		"node-expand":        func(r *corev1.SecretReference) { source.NodeExpandSecretRef = r },
		"provisioner": func(r *corev1.SecretReference) {
			annotations[annotationDeleteName], annotations[annotationDeleteNS] = r.Name, r.Namespace
		},
	} {
		ref, err := p.secretRef(purpose, c, name)
		if err != nil {
			return nil, err
		}
		if ref != nil {
			set(ref)
		}
	}
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations, Finalizers: []string{finalizerVolume}},
		Spec: corev1.PersistentVolumeSpec{Capacity: corev1.ResourceList{corev1.ResourceStorage: size}, AccessModes: slices.Clone(c.Spec.AccessModes),
			PersistentVolumeReclaimPolicy: policy, StorageClassName: class.Name, MountOptions: class.MountOptions, VolumeMode: &mode,
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: source},
			ClaimRef: &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID,
				ResourceVersion: c.ResourceVersion}}}
	pv.Spec.NodeAffinity = affinity(made.GetAccessibleTopology())
	return pv, nil
}

// affinity is where a volume can be reached from; nil: everywhere.
func affinity(topologies []*csipb.Topology) *corev1.VolumeNodeAffinity {
	var terms []corev1.NodeSelectorTerm
	for _, t := range topologies {
		var term corev1.NodeSelectorTerm
		for k, v := range t.GetSegments() {
			term.MatchExpressions = append(term.MatchExpressions, corev1.NodeSelectorRequirement{Key: k, Operator: corev1.NodeSelectorOpIn, Values: []string{v}})
		}
		if len(term.MatchExpressions) == 0 {
			return nil
		}
		slices.SortFunc(term.MatchExpressions, func(a, b corev1.NodeSelectorRequirement) int { return cmp.Compare(a.Key, b.Key) })
		terms = append(terms, term)
	}
	if len(terms) == 0 {
		return nil
	}
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: terms}}
}

// requirements is where a claim's volume is to be reached from: from its selected node, or, without one, from any that has the
// driver. labels are the nodes'.
func requirements(driver, selected string, csiNodes map[string]*storagev1.CSINode, labels map[string]map[string]string) *csipb.TopologyRequirement {
	segments := func(node string) map[string]string {
		c := csiNodes[node]
		if c == nil {
			return nil
		}
		for _, d := range c.Spec.Drivers {
			if d.Name != driver || len(d.TopologyKeys) == 0 {
				continue
			}
			out := map[string]string{}
			for _, k := range d.TopologyKeys {
				v, ok := labels[node][k]
				if !ok {
					return nil
				}
				out[k] = v
			}
			return out
		}
		return nil
	}
	var all []*csipb.Topology
	seen := map[string]bool{}
	names := []string{selected}
	if selected == "" {
		names = names[:0]
		for n := range csiNodes {
			names = append(names, n)
		}
		slices.Sort(names)
	}
	for _, n := range names {
		s := segments(n)
		if key := fmt.Sprint(s); len(s) > 0 && !seen[key] {
			seen[key] = true
			all = append(all, &csipb.Topology{Segments: s})
		}
	}
	if len(all) == 0 {
		return nil
	}
	return &csipb.TopologyRequirement{Requisite: all, Preferred: all}
}

// sidecars reports whether containers of the ecosystem's sidecars, in pods of this node, mount a folder that holds a socket.
func sidecars(pods []*corev1.Pod, socketDir string) bool {
	for _, p := range pods {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		holds := map[string]bool{}
		for _, v := range p.Spec.Volumes {
			if v.HostPath != nil {
				_, ok := below(socketDir, strings.TrimSuffix(v.HostPath.Path, "/"))
				holds[v.Name] = ok
			}
		}
		for i := range p.Spec.Containers {
			c := &p.Spec.Containers[i]
			name := c.Image[strings.LastIndex(c.Image, "/")+1:]
			name, _, _ = strings.Cut(name, "@")
			name, _, _ = strings.Cut(name, ":")
			if name != "csi-provisioner" && name != "csi-attacher" && name != "csi-resizer" {
				continue
			}
			for _, m := range c.VolumeMounts {
				if holds[m.Name] {
					return true
				}
			}
		}
	}
	return false
}
