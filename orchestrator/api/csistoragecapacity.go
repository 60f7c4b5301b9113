package api

import (
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func csiStorageCapacityKind() *Kind {
	return &Kind{
		GroupVersionKind: storagev1.SchemeGroupVersion.WithKind("CSIStorageCapacity"),
		Resource:         "csistoragecapacities", Singular: "csistoragecapacity", Namespaced: true,
		New:      func() Object { return &storagev1.CSIStorageCapacity{} },
		NewList:  func() runtime.Object { return &storagev1.CSIStorageCapacityList{} },
		Validate: check(validateCSIStorageCapacity),
		ValidateUpdate: checkPair(func(c, old *storagev1.CSIStorageCapacity) field.ErrorList {
			return append(immutable(c.NodeTopology, old.NodeTopology, field.NewPath("nodeTopology")),
				immutable(c.StorageClassName, old.StorageClassName, field.NewPath("storageClassName"))...)
		}),
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("StorageClassName", "The class that the capacity is for", 0), column("Capacity", "What is left", 0),
		},
		Row: row(func(c *storagev1.CSIStorageCapacity) []any {
			capacity := "<unset>"
			if c.Capacity != nil {
				capacity = c.Capacity.String()
			}
			return []any{c.Name, c.StorageClassName, capacity}
		}),
	}
}

func validateCSIStorageCapacity(c *storagev1.CSIStorageCapacity) (errs field.ErrorList) {
	if c.NodeTopology != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(c.NodeTopology, metav1validation.LabelSelectorValidationOptions{}, field.NewPath("nodeTopology"))...)
	}
	errs = append(errs, invalid(validation.IsDNS1123Subdomain(c.StorageClassName), field.NewPath("storageClassName"), c.StorageClassName)...)
	for child, size := range inOrder(map[string]*resource.Quantity{"capacity": c.Capacity, "maximumVolumeSize": c.MaximumVolumeSize}) {
		if size != nil && size.Sign() < 0 {
			errs = append(errs, field.Invalid(field.NewPath(child), size.String(), "must be greater than or equal to 0"))
		}
	}
	return errs
}
