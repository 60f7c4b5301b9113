package apiserver

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pintle/pintle/orchestrator/api"
)

func TestEveryKindIsTrackedAndApplied(t *testing.T) {
	managers := newFieldManagers(api.Scheme(), api.All())
	start := time.Now()
	managers.warm()
	t.Logf("schemas parsed in %v", time.Since(start))
	for _, kind := range api.All() {
		t.Run(kind.Resource+"."+kind.GroupVersionKind.Group, func(t *testing.T) {
			fm, err := managers.get(kind, "")
			if err != nil {
				t.Fatal(err)
			}
			empty := withKind(kind.New(), kind.GroupVersionKind).(api.Object)
			empty.SetName("x")
			applied := &unstructured.Unstructured{Object: map[string]any{}}
			applied.SetGroupVersionKind(kind.GroupVersionKind)
			applied.SetName("x")
			applied.SetLabels(map[string]string{"a": "1"})
			merged, err := fm.Apply(empty, applied, "one", false)
			if err != nil {
				t.Fatal(err)
			}
			obj := merged.(api.Object)
			if obj.GetLabels()["a"] != "1" || len(obj.GetManagedFields()) != 1 || obj.GetManagedFields()[0].Operation != metav1.ManagedFieldsOperationApply {
				t.Fatalf("labels %v, managed fields %v", obj.GetLabels(), obj.GetManagedFields())
			}
			applied.SetLabels(map[string]string{"a": "2"})
			if _, err := fm.Apply(obj, applied, "two", false); !isApplyConflict(err) {
				t.Fatalf("another manager's field was taken without force: %v", err)
			}
			if _, err := fm.Apply(obj, applied, "two", true); err != nil {
				t.Fatal(err)
			}
			changed := obj.DeepCopyObject().(api.Object)
			changed.SetLabels(map[string]string{"a": "1", "b": "2"})
			out, err := fm.Update(obj, changed, "three")
			if err != nil {
				t.Fatal(err)
			}
			if n := len(out.(api.Object).GetManagedFields()); n != 2 {
				t.Fatalf("%d managers, want 2", n)
			}
		})
	}
}
