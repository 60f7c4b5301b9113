package podautoscaler

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// The field manager of a size that an autoscaler has set, as Kubernetes names it.
const (
	manager     = "kube-controller-manager"
	subresource = "scale"
)

// owning are the managed fields of an object whose size was set through its scale: it is the autoscaler's from now on,
// and nobody else's. Who then applies the object without a size leaves it alone, as the documentation promises.
func owning(entries []metav1.ManagedFieldsEntry, gv schema.GroupVersion, now time.Time) ([]metav1.ManagedFieldsEntry, error) {
	size := fieldpath.NewSet(fieldpath.MakePathOrDie("spec", "replicas"))
	var out []metav1.ManagedFieldsEntry
	for _, e := range entries {
		if e.Manager == manager && e.Subresource == subresource {
			continue
		}
		if e.FieldsV1 != nil {
			set, err := fieldsOf(e.FieldsV1)
			if err != nil {
				return nil, err
			}
			if left := set.Difference(size); !left.Equals(set) {
				if left.Empty() {
					continue
				}
				if e.FieldsV1, err = fieldsFrom(left); err != nil {
					return nil, err
				}
			}
		}
		out = append(out, e)
	}
	fields, err := fieldsFrom(size)
	if err != nil {
		return nil, err
	}
	return append(slices.Clip(out), metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: gv.String(),
		Time: &metav1.Time{Time: now.UTC().Truncate(time.Second)}, FieldsType: "FieldsV1", FieldsV1: fields, Subresource: subresource}), nil
}

func fieldsOf(f *metav1.FieldsV1) (*fieldpath.Set, error) {
	set := &fieldpath.Set{}
	if err := set.FromJSON(bytes.NewReader(f.GetRawBytes())); err != nil {
		return nil, fmt.Errorf("managed fields: %w", err)
	}
	return set, nil
}

func fieldsFrom(set *fieldpath.Set) (*metav1.FieldsV1, error) {
	raw, err := set.ToJSON()
	if err != nil {
		return nil, fmt.Errorf("managed fields: %w", err)
	}
	f := &metav1.FieldsV1{}
	f.SetRawBytes(raw)
	return f, nil
}
