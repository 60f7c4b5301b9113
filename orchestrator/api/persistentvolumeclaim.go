package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PersistentVolumeClaimProtection is the finalizer that keeps a claim while a pod uses it.
const PersistentVolumeClaimProtection = "kubernetes.io/pvc-protection"

func persistentVolumeClaimKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"),
		Resource:         "persistentvolumeclaims", Singular: "persistentvolumeclaim", ShortNames: []string{"pvc"}, Namespaced: true,
		New:     func() Object { return &corev1.PersistentVolumeClaim{} },
		NewList: func() runtime.Object { return &corev1.PersistentVolumeClaimList{} },
		Default: of(func(c *corev1.PersistentVolumeClaim) {
			setZero(&c.Status.Phase, corev1.ClaimPending)
			defaultClaimSpec(&c.Spec)
		}),
		PrepareCreate: of(func(c *corev1.PersistentVolumeClaim) {
			c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
			protect(c, PersistentVolumeClaimProtection)
		}),
		PrepareUpdate: pair(func(c, old *corev1.PersistentVolumeClaim) { c.Status = old.Status }),
		Validate: check(func(c *corev1.PersistentVolumeClaim) field.ErrorList {
			errs := validateClaimSpec(&c.Spec, field.NewPath("spec"))
			if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok && class != "" {
				errs = append(errs, invalid(validation.IsDNS1123Subdomain(class), field.NewPath("metadata", "annotations").Key(corev1.BetaStorageClassAnnotation), class)...)
			}
			return errs
		}),
		ValidateUpdate: checkPair(validateClaimUpdate),
		Status: &Status{
			PrepareUpdate: pair(func(c, old *corev1.PersistentVolumeClaim) {
				status := c.Status
				old.Spec.DeepCopyInto(&c.Spec)
				c.Status = status
			}),
			ValidateUpdate: checkPair(validateClaimStatusUpdate),
		},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Status", "The phase of the claim", 0), column("Volume", "The volume that the claim is bound to", 0),
			column("Capacity", "The size of the volume", 0), column("Access Modes", "All ways the volume can be mounted", 0),
			column("StorageClass", "The class of the claim", 0), column("VolumeAttributesClass", "The attributes class of the claim", 0), ageColumn(),
			column("VolumeMode", "Filesystem or Block", 1),
		},
		Row: row(func(c *corev1.PersistentVolumeClaim) []any {
			phase, capacity, modes := string(c.Status.Phase), "", ""
			if c.DeletionTimestamp != nil {
				phase = "Terminating"
			}
			if c.Spec.VolumeName != "" {
				size := c.Status.Capacity[corev1.ResourceStorage]
				capacity, modes = size.String(), accessModesCell(c.Status.AccessModes)
			}
			return []any{c.Name, phase, c.Spec.VolumeName, capacity, modes, ClaimClass(c), classCell(c.Spec.VolumeAttributesClassName),
				c.CreationTimestamp, volumeModeCell(c.Spec.VolumeMode)}
		}),
	}
}

// ClaimClass is the name of a claim's StorageClass, "" where it has none: the old annotation counts before the field.
func ClaimClass(c *corev1.PersistentVolumeClaim) string {
	if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	if c.Spec.StorageClassName != nil {
		return *c.Spec.StorageClassName
	}
	return ""
}

// HasClaimClass says whether a claim names a StorageClass, be it "": the default class is for claims that don't.
func HasClaimClass(c *corev1.PersistentVolumeClaim) bool {
	_, old := c.Annotations[corev1.BetaStorageClassAnnotation]
	return old || c.Spec.StorageClassName != nil
}

func defaultClaimSpec(s *corev1.PersistentVolumeClaimSpec) {
	setDefault(&s.VolumeMode, corev1.PersistentVolumeFilesystem)
}

func validateClaimSpec(s *corev1.PersistentVolumeClaimSpec, path *field.Path) field.ErrorList {
	errs := validateAccessModes(s.AccessModes, "at least 1 access mode is required", path.Child("accessModes"))
	if s.Selector != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(s.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	}
	at := path.Child("resources").Key(string(corev1.ResourceStorage))
	if size, ok := s.Resources.Requests[corev1.ResourceStorage]; !ok {
		errs = append(errs, field.Required(at, ""))
	} else if size.Sign() <= 0 {
		errs = append(errs, field.Invalid(at, size.String(), "must be greater than zero"))
	}
	if class := s.StorageClassName; class != nil && *class != "" {
		errs = append(errs, invalid(validation.IsDNS1123Subdomain(*class), path.Child("storageClassName"), *class)...)
	}
	errs = append(errs, validateVolumeMode(s.VolumeMode, path.Child("volumeMode"))...)
	const empty = "volumes start empty: copy the data with a Job"
	if s.DataSource != nil {
		errs = append(errs, unsupported(path.Child("dataSource"), empty))
	}
	if s.DataSourceRef != nil {
		errs = append(errs, unsupported(path.Child("dataSourceRef"), empty))
	}
	return append(errs, validateAttributesClass(s.VolumeAttributesClassName, path.Child("volumeAttributesClassName"))...)
}

// validateClaimUpdate lets a claim be bound once, get the default class while it has none and is not bound, and, bound,
// ask for another size: a smaller one only while a larger one that was asked for isn't there yet.
func validateClaimUpdate(c, old *corev1.PersistentVolumeClaim) (errs field.ErrorList) {
	path := field.NewPath("spec")
	rest := c.Spec.DeepCopy()
	if old.Spec.VolumeName == "" {
		rest.VolumeName = ""
	}
	_, annotated := old.Annotations[corev1.BetaStorageClassAnnotation]
	if old.Spec.StorageClassName == nil && !annotated && old.Status.Phase != corev1.ClaimBound {
		rest.StorageClassName = nil
	}
	if old.Status.Phase == corev1.ClaimBound {
		rest.Resources.Requests = old.Spec.Resources.Requests
	}
	rest.VolumeMode = old.Spec.VolumeMode
	if !equal(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(path, "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"))
	}
	now, before, have := c.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage], old.Status.Capacity[corev1.ResourceStorage]
	if now.Cmp(before) < 0 && now.Cmp(have) <= 0 {
		errs = append(errs, field.Forbidden(path.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	errs = append(errs, immutable(c.Spec.VolumeMode, old.Spec.VolumeMode, path.Child("volumeMode"))...)
	if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok != annotated || class != old.Annotations[corev1.BetaStorageClassAnnotation] {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "annotations", corev1.BetaStorageClassAnnotation), class, "field is immutable"))
	}
	return errs
}

func validateClaimStatusUpdate(c, _ *corev1.PersistentVolumeClaim) (errs field.ErrorList) {
	path := field.NewPath("status")
	for child, list := range inOrder(map[string]corev1.ResourceList{"capacity": c.Status.Capacity, "allocatedResources": c.Status.AllocatedResources}) {
		errs = append(errs, validateResourceList(list, path.Child(child))...)
	}
	for name, status := range inOrder(c.Status.AllocatedResourceStatuses) {
		if name != corev1.ResourceStorage {
			errs = append(errs, field.NotSupported(path.Child("allocatedResourceStatuses"), name, []corev1.ResourceName{corev1.ResourceStorage}))
		}
		errs = append(errs, oneOf(status, []corev1.ClaimResourceStatus{corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
			corev1.PersistentVolumeClaimNodeResizePending, corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible},
			path.Child("allocatedResourceStatuses").Key(string(name)))...)
	}
	return errs
}
