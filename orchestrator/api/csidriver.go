package api

import (
	"slices"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxCSIDriverName is the longest name of a CSI driver, in bytes.
const maxCSIDriverName = 63

func csiDriverKind() *Kind {
	return &Kind{
		GroupVersionKind: storagev1.SchemeGroupVersion.WithKind("CSIDriver"),
		Resource:         "csidrivers", Singular: "csidriver",
		New:     func() Object { return &storagev1.CSIDriver{} },
		NewList: func() runtime.Object { return &storagev1.CSIDriverList{} },
		Default: of(func(d *storagev1.CSIDriver) {
			s := &d.Spec
			setDefault(&s.AttachRequired, true)
			setDefault(&s.PodInfoOnMount, false)
			setDefault(&s.StorageCapacity, false)
			setDefault(&s.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
			if len(s.VolumeLifecycleModes) == 0 {
				s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
			}
			setDefault(&s.RequiresRepublish, false)
			setDefault(&s.SELinuxMount, false)
		}),
		PrepareCreate: of(func(d *storagev1.CSIDriver) { d.Generation = 1 }),
		PrepareUpdate: pair(func(d, old *storagev1.CSIDriver) { bump(d, old, d.Spec, old.Spec) }),
		Validate:      check(validateCSIDriver),
		ValidateUpdate: checkPair(func(d, old *storagev1.CSIDriver) field.ErrorList {
			path := field.NewPath("spec")
			return append(immutable(d.Spec.AttachRequired, old.Spec.AttachRequired, path.Child("attachedRequired")),
				immutable(d.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes, path.Child("volumeLifecycleModes"))...)
		}),
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), typed(column("AttachRequired", "Whether volumes are attached to a node first", 0), "boolean"),
			typed(column("PodInfoOnMount", "Whether the driver is told of the pod", 0), "boolean"),
			typed(column("StorageCapacity", "Whether the scheduler looks at the driver's capacity", 0), "boolean"),
			column("TokenRequests", "Audiences of the tokens that the driver gets", 0),
			typed(column("RequiresRepublish", "Whether volumes are published again and again", 0), "boolean"),
			column("Modes", "Volumes that the driver has", 0), ageColumn(),
		},
		Row: row(func(d *storagev1.CSIDriver) []any {
			tokens, modes := "<unset>", []string{}
			if d.Spec.TokenRequests != nil {
				var audiences []string
				for _, t := range d.Spec.TokenRequests {
					audiences = append(audiences, t.Audience)
				}
				tokens = strings.Join(audiences, ",")
			}
			for _, m := range d.Spec.VolumeLifecycleModes {
				modes = append(modes, string(m))
			}
			is := func(p *bool) bool { return p != nil && *p }
			return []any{d.Name, d.Spec.AttachRequired == nil || *d.Spec.AttachRequired, is(d.Spec.PodInfoOnMount), is(d.Spec.StorageCapacity), tokens,
				is(d.Spec.RequiresRepublish), orNone(strings.Join(modes, ",")), d.CreationTimestamp}
		}),
	}
}

// validateCSIDriverName checks a name wherever an object names a driver.
func validateCSIDriverName(name string, at *field.Path) (errs field.ErrorList) {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if len(name) > maxCSIDriverName {
		errs = append(errs, field.TooLong(at, "", maxCSIDriverName))
	}
	return append(errs, invalid(validation.IsDNS1123Subdomain(strings.ToLower(name)), at, name)...)
}

func validateCSIDriver(d *storagev1.CSIDriver) (errs field.ErrorList) {
	s, path := &d.Spec, field.NewPath("spec")
	if len(d.Name) > maxCSIDriverName {
		errs = append(errs, field.TooLong(field.NewPath("metadata", "name"), "", maxCSIDriverName))
	}
	for i, m := range s.VolumeLifecycleModes {
		errs = append(errs, oneOf(m, []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral}, path.Child("volumeLifecycleModes").Index(i))...)
	}
	if p := s.FSGroupPolicy; p != nil {
		errs = append(errs, oneOf(*p, []storagev1.FSGroupPolicy{storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy}, path.Child("fsGroupPolicy"))...)
	}
	for i, t := range s.TokenRequests {
		at := path.Child("tokenRequests").Index(i)
		if slices.ContainsFunc(s.TokenRequests[:i], func(o storagev1.TokenRequest) bool { return o.Audience == t.Audience }) {
			errs = append(errs, field.Duplicate(at.Child("audience"), t.Audience))
		}
		if e := t.ExpirationSeconds; e != nil {
			if *e < 600 {
				errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *e, "may not specify a duration less than 10 minutes"))
			}
			if *e > 1<<32 {
				errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *e, "may not specify a duration larger than 2^32 seconds"))
			}
		}
	}
	if p := s.NodeAllocatableUpdatePeriodSeconds; p != nil && *p < 10 {
		errs = append(errs, field.Invalid(path.Child("nodeAllocatableUpdatePeriodSeconds"), *p, "must be greater than or equal to 10 seconds"))
	}
	if s.ServiceAccountTokenInSecrets != nil && len(s.TokenRequests) == 0 {
		errs = append(errs, field.Invalid(path.Child("serviceAccountTokenInSecrets"), *s.ServiceAccountTokenInSecrets, "serviceAccountTokenInSecrets is set but no tokenRequests are configured"))
	}
	return errs
}
