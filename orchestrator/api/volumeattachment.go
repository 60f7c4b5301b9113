package api

import (
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxVolumeError is the longest message of an attachment's error, in bytes.
const maxVolumeError = 1024

func volumeAttachmentKind() *Kind {
	return &Kind{
		GroupVersionKind: storagev1.SchemeGroupVersion.WithKind("VolumeAttachment"),
		Resource:         "volumeattachments", Singular: "volumeattachment",
		New:           func() Object { return &storagev1.VolumeAttachment{} },
		NewList:       func() runtime.Object { return &storagev1.VolumeAttachmentList{} },
		PrepareCreate: of(func(a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} }),
		PrepareUpdate: pair(func(a, old *storagev1.VolumeAttachment) { a.Status = old.Status }),
		Validate:      check(validateVolumeAttachment),
		ValidateUpdate: checkPair(func(a, old *storagev1.VolumeAttachment) field.ErrorList {
			return immutable(a.Spec, old.Spec, field.NewPath("spec"))
		}),
		Status: &Status{
			PrepareUpdate: pair(func(a, old *storagev1.VolumeAttachment) {
				status := a.Status
				old.Spec.DeepCopyInto(&a.Spec)
				a.Status = status
			}),
			ValidateUpdate: checkPair(func(a, _ *storagev1.VolumeAttachment) (errs field.ErrorList) {
				for child, e := range inOrder(map[string]*storagev1.VolumeError{"attachError": a.Status.AttachError, "detachError": a.Status.DetachError}) {
					if e != nil && len(e.Message) > maxVolumeError {
						errs = append(errs, field.TooLong(field.NewPath("status").Child(child, "message"), "", maxVolumeError))
					}
				}
				return errs
			}),
		},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Attacher", "The driver that attaches the volume", 0), column("PV", "The volume", 0), column("Node", "Where it is attached", 0),
			typed(column("Attached", "Whether it is", 0), "boolean"), ageColumn(),
		},
		Row: row(func(a *storagev1.VolumeAttachment) []any {
			volume := ""
			if name := a.Spec.Source.PersistentVolumeName; name != nil {
				volume = *name
			}
			return []any{a.Name, a.Spec.Attacher, volume, a.Spec.NodeName, a.Status.Attached, a.CreationTimestamp}
		}),
	}
}

func validateVolumeAttachment(a *storagev1.VolumeAttachment) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateCSIDriverName(a.Spec.Attacher, path.Child("attacher"))
	at := path.Child("source")
	if a.Spec.Source.InlineVolumeSpec != nil {
		errs = append(errs, unsupported(at.Child("inlineVolumeSpec"), "volumes of drivers are PersistentVolumes"))
	}
	if name := a.Spec.Source.PersistentVolumeName; name == nil || *name == "" {
		errs = append(errs, field.Required(at.Child("persistentVolumeName"), "must specify non empty persistentVolumeName"))
	} else {
		errs = append(errs, invalid(validation.IsDNS1123Subdomain(*name), at.Child("persistentVolumeName"), *name)...)
	}
	return append(errs, invalid(validation.IsDNS1123Subdomain(a.Spec.NodeName), path.Child("nodeName"), a.Spec.NodeName)...)
}
