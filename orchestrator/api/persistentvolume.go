package api

import (
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PersistentVolumeProtection is the finalizer that keeps a volume while a claim is bound to it.
const PersistentVolumeProtection = "kubernetes.io/pv-protection"

func persistentVolumeKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("PersistentVolume"),
		Resource:         "persistentvolumes", Singular: "persistentvolume", ShortNames: []string{"pv"},
		New:     func() Object { return &corev1.PersistentVolume{} },
		NewList: func() runtime.Object { return &corev1.PersistentVolumeList{} },
		Default: of(func(v *corev1.PersistentVolume) {
			setZero(&v.Status.Phase, corev1.VolumePending)
			setZero(&v.Spec.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
			setDefault(&v.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
			if v.Spec.HostPath != nil {
				setDefault(&v.Spec.HostPath.Type, corev1.HostPathUnset)
			}
		}),
		PrepareCreate: of(func(v *corev1.PersistentVolume) {
			v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending}
			protect(v, PersistentVolumeProtection)
		}),
		PrepareUpdate:  pair(func(v, old *corev1.PersistentVolume) { v.Status = old.Status }),
		Validate:       check(validatePersistentVolume),
		ValidateUpdate: checkPair(validatePersistentVolumeUpdate),
		Status: &Status{PrepareUpdate: pair(func(v, old *corev1.PersistentVolume) {
			status := v.Status
			old.Spec.DeepCopyInto(&v.Spec)
			v.Status = status
		})},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Capacity", "The size of the volume", 0), column("Access Modes", "All ways the volume can be mounted", 0),
			column("Reclaim Policy", "What becomes of the volume when its claim is gone", 0), column("Status", "The phase of the volume", 0),
			column("Claim", "The claim that the volume is bound to", 0), column("StorageClass", "The class of the volume", 0),
			column("VolumeAttributesClass", "The attributes class of the volume", 0), column("Reason", "Why the volume is in its phase", 0), ageColumn(),
			column("VolumeMode", "Filesystem or Block", 1),
		},
		Row: row(func(v *corev1.PersistentVolume) []any {
			phase, claim, size := string(v.Status.Phase), "", v.Spec.Capacity[corev1.ResourceStorage]
			if v.DeletionTimestamp != nil {
				phase = "Terminating"
			}
			if ref := v.Spec.ClaimRef; ref != nil {
				claim = ref.Namespace + "/" + ref.Name
			}
			return []any{v.Name, size.String(), accessModesCell(v.Spec.AccessModes), string(v.Spec.PersistentVolumeReclaimPolicy), phase, claim,
				VolumeClass(v), classCell(v.Spec.VolumeAttributesClassName), v.Status.Reason, v.CreationTimestamp, volumeModeCell(v.Spec.VolumeMode)}
		}),
	}
}

// protect adds a finalizer to a new object.
func protect(o Object, finalizer string) {
	if f := o.GetFinalizers(); !slices.Contains(f, finalizer) {
		o.SetFinalizers(append(slices.Clip(f), finalizer))
	}
}

// VolumeClass is the name of a volume's StorageClass: the old annotation counts before the field.
func VolumeClass(v *corev1.PersistentVolume) string {
	if class, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	return v.Spec.StorageClassName
}

func validatePersistentVolume(v *corev1.PersistentVolume) field.ErrorList {
	s, path := &v.Spec, field.NewPath("spec")
	errs := validateAccessModes(s.AccessModes, "", path.Child("accessModes"))
	if len(s.Capacity) == 0 {
		errs = append(errs, field.Required(path.Child("capacity"), ""))
	} else if _, ok := s.Capacity[corev1.ResourceStorage]; !ok || len(s.Capacity) > 1 {
		errs = append(errs, field.NotSupported(path.Child("capacity"), s.Capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for name, size := range inOrder(s.Capacity) {
		if size.Sign() <= 0 {
			errs = append(errs, field.Invalid(path.Child("capacity").Key(string(name)), size.String(), "must be greater than zero"))
		}
	}
	switch p := s.PersistentVolumeReclaimPolicy; p {
	case corev1.PersistentVolumeReclaimRecycle:
		errs = append(errs, unsupported(path.Child("persistentVolumeReclaimPolicy"), "volumes are not recycled: use a StorageClass whose volumes are made and deleted with their claims"))
	default:
		errs = append(errs, oneOf(p, []corev1.PersistentVolumeReclaimPolicy{corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain}, path.Child("persistentVolumeReclaimPolicy"))...)
	}
	if a := s.NodeAffinity; a != nil {
		at := path.Child("nodeAffinity")
		if a.Required == nil {
			errs = append(errs, field.Required(at.Child("required"), "must specify required node constraints"))
		} else {
			errs = append(errs, validateNodeSelector(a.Required, at.Child("required"))...)
		}
	}
	errs = append(errs, validateVolumeSourceOf(s, path)...)
	if class := VolumeClass(v); class != "" {
		errs = append(errs, invalid(validation.IsDNS1123Subdomain(class), path.Child("storageClassName"), class)...)
	}
	errs = append(errs, validateVolumeMode(s.VolumeMode, path.Child("volumeMode"))...)
	if ref := s.ClaimRef; ref != nil {
		errs = append(errs, required(ref.Name, path.Child("claimRef", "name"), "")...)
		errs = append(errs, required(ref.Namespace, path.Child("claimRef", "namespace"), "")...)
	}
	return append(errs, validateAttributesClass(s.VolumeAttributesClassName, path.Child("volumeAttributesClassName"))...)
}

func validateAttributesClass(name *string, at *field.Path) field.ErrorList {
	if name == nil || *name == "" {
		return nil
	}
	return field.ErrorList{unsupported(at, "volumes are not modified in place: give the parameters in the StorageClass")}
}

func validateNodeSelector(s *corev1.NodeSelector, at *field.Path) (errs field.ErrorList) {
	if len(s.NodeSelectorTerms) == 0 {
		return field.ErrorList{field.Required(at.Child("nodeSelectorTerms"), "must have at least one node selector term")}
	}
	for i := range s.NodeSelectorTerms {
		errs = append(errs, validateNodeTerm(&s.NodeSelectorTerms[i], at.Child("nodeSelectorTerms").Index(i))...)
	}
	return errs
}

// validateVolumeSourceOf accepts the sources that the runtime has: local, hostPath and csi. Any other is refused under
// its own name.
func validateVolumeSourceOf(s *corev1.PersistentVolumeSpec, path *field.Path) (errs field.ErrorList) {
	sources := 0
	value := reflect.ValueOf(s.PersistentVolumeSource)
	for i := range value.NumField() {
		if value.Field(i).IsNil() {
			continue
		}
		sources++
		name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
		if sources > 1 {
			errs = append(errs, field.Forbidden(path.Child(name), "may not specify more than 1 volume type"))
		}
		switch name {
		case "local", "hostPath", "csi":
		default:
			errs = append(errs, unsupported(path.Child(name), "volumes are local, hostPath or csi: use the storage's CSI driver"))
		}
	}
	if sources == 0 {
		errs = append(errs, field.Required(path, "must specify a volume type"))
	}
	if s.HostPath != nil {
		errs = append(errs, validateHostPath(s.HostPath, path.Child("hostPath"))...)
	}
	if l := s.Local; l != nil {
		at := path.Child("local")
		errs = append(errs, required(l.Path, at.Child("path"), "")...)
		errs = append(errs, validateNoBacksteps(l.Path, at.Child("path"))...)
		if l.FSType != nil && *l.FSType != "" {
			errs = append(errs, unsupported(at.Child("fsType"), "local volumes are folders: mount the disk, and name the folder"))
		}
		if s.NodeAffinity == nil || s.NodeAffinity.Required == nil {
			errs = append(errs, field.Required(path.Child("nodeAffinity"), "Local volume requires node affinity"))
		}
	}
	if c := s.CSI; c != nil {
		at := path.Child("csi")
		errs = append(errs, validateCSIDriverName(c.Driver, at.Child("driver"))...)
		errs = append(errs, required(c.VolumeHandle, at.Child("volumeHandle"), "")...)
		for child, ref := range inOrder(map[string]*corev1.SecretReference{"controllerPublishSecretRef": c.ControllerPublishSecretRef, "nodeStageSecretRef": c.NodeStageSecretRef,
			"nodePublishSecretRef": c.NodePublishSecretRef, "controllerExpandSecretRef": c.ControllerExpandSecretRef, "nodeExpandSecretRef": c.NodeExpandSecretRef}) {
			if ref != nil {
				errs = append(errs, required(ref.Name, at.Child(child, "name"), "")...)
				errs = append(errs, required(ref.Namespace, at.Child(child, "namespace"), "")...)
			}
		}
	}
	return errs
}

func validatePersistentVolumeUpdate(v, old *corev1.PersistentVolume) (errs field.ErrorList) {
	path := field.NewPath("spec")
	was := old.Spec.PersistentVolumeSource
	if was.CSI != nil && v.Spec.CSI != nil { // these may follow a driver that learned to expand
		was.CSI = was.CSI.DeepCopy()
		was.CSI.ControllerExpandSecretRef, was.CSI.NodeExpandSecretRef = v.Spec.CSI.ControllerExpandSecretRef, v.Spec.CSI.NodeExpandSecretRef
	}
	if !equal(v.Spec.PersistentVolumeSource, was) {
		errs = append(errs, field.Forbidden(path.Child("persistentvolumesource"), "spec.persistentvolumesource is immutable after creation"))
	}
	errs = append(errs, immutable(v.Spec.VolumeMode, old.Spec.VolumeMode, path.Child("volumeMode"))...)
	if old.Spec.NodeAffinity != nil {
		errs = append(errs, immutable(v.Spec.NodeAffinity, old.Spec.NodeAffinity, path.Child("nodeAffinity"))...)
	}
	return errs
}
