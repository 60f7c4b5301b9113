package api

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// DefaultStorageClassAnnotation, "true", makes a class that of the claims that name none; BetaDefaultStorageClassAnnotation
// is what it was called before.
const (
	DefaultStorageClassAnnotation     = "storageclass.kubernetes.io/is-default-class"
	BetaDefaultStorageClassAnnotation = "storageclass.beta.kubernetes.io/is-default-class"
)

// LocalPathProvisioner makes folders on the node of a claim's first consumer; LocalPathClass is the class that has it.
const (
	LocalPathProvisioner = "pintle.dev/local-path"
	LocalPathClass       = "local-path"
)

const (
	maxClassParameters     = 512
	maxClassParametersSize = 256 << 10
)

// LocalPath returns the class that a cluster starts with. It is the default class.
func LocalPath() *storagev1.StorageClass {
	return &storagev1.StorageClass{
		ObjectMeta:           metav1.ObjectMeta{Name: LocalPathClass, Annotations: map[string]string{DefaultStorageClassAnnotation: "true"}},
		Provisioner:          LocalPathProvisioner,
		ReclaimPolicy:        ptr(corev1.PersistentVolumeReclaimDelete),
		VolumeBindingMode:    ptr(storagev1.VolumeBindingWaitForFirstConsumer),
		AllowVolumeExpansion: ptr(true),
	}
}

func storageClassKind() *Kind {
	return &Kind{
		GroupVersionKind: storagev1.SchemeGroupVersion.WithKind("StorageClass"),
		Resource:         "storageclasses", Singular: "storageclass", ShortNames: []string{"sc"},
		CreateOnUpdate: true,
		New:            func() Object { return &storagev1.StorageClass{} },
		NewList:        func() runtime.Object { return &storagev1.StorageClassList{} },
		Default: of(func(c *storagev1.StorageClass) {
			setDefault(&c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
			setDefault(&c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
		}),
		Validate: check(validateStorageClass),
		ValidateUpdate: checkPair(func(c, old *storagev1.StorageClass) (errs field.ErrorList) {
			for child, same := range inOrder(map[string]bool{"parameters": equal(c.Parameters, old.Parameters), "provisioner": c.Provisioner == old.Provisioner,
				"reclaimPolicy": equal(c.ReclaimPolicy, old.ReclaimPolicy)}) {
				if !same {
					errs = append(errs, field.Forbidden(field.NewPath(child), "updates to "+child+" are forbidden."))
				}
			}
			return append(errs, immutable(c.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode"))...)
		}),
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Provisioner", "Who makes the volumes", 0), column("ReclaimPolicy", "What becomes of a volume when its claim is gone", 0),
			column("VolumeBindingMode", "When claims are bound", 0), column("AllowVolumeExpansion", "Whether claims may ask for more later", 0), ageColumn(),
		},
		Row: row(func(c *storagev1.StorageClass) []any {
			name, policy, mode := c.Name, string(corev1.PersistentVolumeReclaimDelete), string(storagev1.VolumeBindingImmediate)
			if IsDefaultStorageClass(c) {
				name += " (default)"
			}
			if c.ReclaimPolicy != nil {
				policy = string(*c.ReclaimPolicy)
			}
			if c.VolumeBindingMode != nil {
				mode = string(*c.VolumeBindingMode)
			}
			return []any{name, c.Provisioner, policy, mode, c.AllowVolumeExpansion != nil && *c.AllowVolumeExpansion, c.CreationTimestamp}
		}),
	}
}

// IsDefaultStorageClass says whether the class is one for claims that name none.
func IsDefaultStorageClass(c *storagev1.StorageClass) bool {
	return c.Annotations[DefaultStorageClassAnnotation] == "true" || c.Annotations[BetaDefaultStorageClassAnnotation] == "true"
}

// DefaultStorageClass returns the class of claims that name none, nil if there is none: of several the newest, by name where
// they were made at the same time.
func DefaultStorageClass(classes []*storagev1.StorageClass) (found *storagev1.StorageClass) {
	for _, c := range classes {
		if !IsDefaultStorageClass(c) || c.DeletionTimestamp != nil {
			continue
		}
		if found == nil || found.CreationTimestamp.Before(&c.CreationTimestamp) || found.CreationTimestamp.Equal(&c.CreationTimestamp) && c.Name < found.Name {
			found = c
		}
	}
	return found
}

func validateStorageClass(c *storagev1.StorageClass) (errs field.ErrorList) {
	at := field.NewPath("provisioner")
	if errs = append(errs, required(c.Provisioner, at, "")...); c.Provisioner != "" {
		errs = append(errs, invalid(validation.IsQualifiedName(strings.ToLower(c.Provisioner)), at, c.Provisioner)...)
	}
	at = field.NewPath("parameters")
	if len(c.Parameters) > maxClassParameters {
		errs = append(errs, field.TooLong(at, "", maxClassParameters))
	} else {
		size := 0
		for key, value := range inOrder(c.Parameters) {
			if key == "" {
				errs = append(errs, field.Invalid(at, key, "field can not be empty."))
			}
			size += len(key) + len(value)
		}
		if size > maxClassParametersSize {
			errs = append(errs, field.TooLong(at, "", maxClassParametersSize))
		}
	}
	if p := c.ReclaimPolicy; p != nil {
		errs = append(errs, oneOf(*p, []corev1.PersistentVolumeReclaimPolicy{corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain}, field.NewPath("reclaimPolicy"))...)
	}
	if m := c.VolumeBindingMode; m == nil {
		errs = append(errs, field.Required(field.NewPath("volumeBindingMode"), ""))
	} else {
		errs = append(errs, oneOf(*m, []storagev1.VolumeBindingMode{storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer}, field.NewPath("volumeBindingMode"))...)
	}
	return append(errs, validateAllowedTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies"))...)
}

func validateAllowedTopologies(terms []corev1.TopologySelectorTerm, path *field.Path) (errs field.ErrorList) {
	for i := range terms {
		keys := sets.New[string]()
		for j, r := range terms[i].MatchLabelExpressions {
			at := path.Index(i).Child("matchLabelExpressions").Index(j)
			errs = append(errs, invalid(validation.IsQualifiedName(r.Key), at.Child("key"), r.Key)...)
			if keys.Has(r.Key) {
				errs = append(errs, field.Duplicate(at.Child("key"), r.Key))
			}
			keys.Insert(r.Key)
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(at.Child("values"), ""))
			}
			for k, v := range r.Values {
				if slices.Contains(r.Values[:k], v) {
					errs = append(errs, field.Duplicate(at.Child("values").Index(k), v))
				}
				errs = append(errs, invalid(validation.IsValidLabelValue(v), at.Child("values").Index(k), v)...)
			}
		}
		for j := range i {
			if equal(terms[j], terms[i]) {
				errs = append(errs, field.Duplicate(path.Index(i).Child("matchLabelExpressions"), ""))
				break
			}
		}
	}
	return errs
}
