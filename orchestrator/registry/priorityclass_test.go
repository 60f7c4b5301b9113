package registry_test

import (
	"testing"

	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/registry"
)

func TestOnePriorityClassAloneIsTheDefault(t *testing.T) {
	r := open(t)
	classes := schedulingv1.SchemeGroupVersion.WithResource("priorityclasses")
	class := func(name string, isDefault bool) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: 1, GlobalDefault: isDefault}
	}
	create(t, r, classes, class("a", true))
	_, err := r.Create(t.Context(), classes, class("b", true), registry.CreateOptions{})
	refused(t, err, apierrors.IsForbidden, "PriorityClass a is already marked as default. Only one default can exist")
	b := create(t, r, classes, class("b", false)).DeepCopy()
	b.GlobalDefault = true
	_, err = r.Update(t.Context(), classes, "", b, registry.UpdateOptions{})
	refused(t, err, apierrors.IsForbidden, "Only one default can exist")
	a := update(t, r, classes, "", class("a", true)).DeepCopy() // itself may stay
	a.GlobalDefault = false
	update(t, r, classes, "", a)
	update(t, r, classes, "", b)
}
