package api

import (
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxCSINodeID is the longest id that a driver may give a node, in bytes.
const maxCSINodeID = 256

func csiNodeKind() *Kind {
	return &Kind{
		GroupVersionKind: storagev1.SchemeGroupVersion.WithKind("CSINode"),
		Resource:         "csinodes", Singular: "csinode",
		New:     func() Object { return &storagev1.CSINode{} },
		NewList: func() runtime.Object { return &storagev1.CSINodeList{} },
		// What drivers say of their storage's health is not collected.
		PrepareCreate: of(func(n *storagev1.CSINode) { n.Status = storagev1.CSINodeStatus{} }),
		PrepareUpdate: pair(func(n, old *storagev1.CSINode) { n.Status = old.Status }),
		Validate:      check(validateCSINode),
		ValidateUpdate: checkPair(func(n, old *storagev1.CSINode) (errs field.ErrorList) {
			for i, now := range n.Spec.Drivers {
				for _, was := range old.Spec.Drivers {
					if was.Name != now.Name {
						continue
					}
					if was.Allocatable = now.Allocatable; !equal(was, now) { // how many volumes fit may change
						errs = append(errs, field.Invalid(field.NewPath("spec", "drivers").Index(i), now, "field is immutable"))
					}
				}
			}
			return errs
		}),
		Columns: []metav1.TableColumnDefinition{nameColumn(), typed(column("Drivers", "The number of CSI drivers on the node", 0), "integer"), ageColumn()},
		Row: row(func(n *storagev1.CSINode) []any {
			return []any{n.Name, int64(len(n.Spec.Drivers)), n.CreationTimestamp}
		}),
	}
}

func validateCSINode(n *storagev1.CSINode) (errs field.ErrorList) {
	names := sets.New[string]()
	for i := range n.Spec.Drivers {
		d, at := &n.Spec.Drivers[i], field.NewPath("spec", "drivers").Index(i)
		errs = append(errs, validateCSIDriverName(d.Name, at.Child("name"))...)
		if names.Has(d.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), d.Name))
		}
		names.Insert(d.Name)
		errs = append(errs, required(d.NodeID, at.Child("nodeID"), "")...)
		if len(d.NodeID) > maxCSINodeID {
			errs = append(errs, field.TooLong(at.Child("nodeID"), "", maxCSINodeID))
		}
		keys := sets.New[string]()
		for _, key := range d.TopologyKeys {
			errs = append(errs, required(key, at, "")...)
			if keys.Has(key) {
				errs = append(errs, field.Duplicate(at.Child("topologyKeys"), key))
			}
			keys.Insert(key)
			errs = append(errs, invalid(validation.IsQualifiedName(key), at, key)...)
		}
		if a := d.Allocatable; a != nil && a.Count != nil && *a.Count < 0 {
			errs = append(errs, field.Invalid(at.Child("allocatable", "count"), *a.Count, "must be greater than or equal to 0"))
		}
	}
	return errs
}
