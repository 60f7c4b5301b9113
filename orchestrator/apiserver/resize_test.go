package apiserver_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestAPodIsResizedThroughItsSubresourceAlone(t *testing.T) {
	c := start(t, options{})
	client := c.admin().CoreV1().Pods("default")
	if _, err := client.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i:1",
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}}}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	patch := []byte(`{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i:2","resources":{"requests":{"cpu":"1"}}}]}}`)
	if _, err := client.Patch(t.Context(), "p", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "--subresource resize") {
		t.Error(err)
	}
	p, err := client.Patch(t.Context(), "p", types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: "sizer"}, "resize")
	if err != nil {
		t.Fatal(err)
	}
	got := p.Spec.Containers[0]
	if got.Resources.Requests.Cpu().String() != "1" || got.Image != "i:1" || len(p.Labels) != 0 || p.Generation != 2 {
		t.Errorf("%+v %v, generation %d", got, p.Labels, p.Generation)
	}
	owned := false
	for _, m := range p.ManagedFields {
		owned = owned || m.Manager == "sizer" && m.Subresource == "resize" && strings.Contains(string(m.FieldsV1.Raw), "f:cpu") && !strings.Contains(string(m.FieldsV1.Raw), "f:image")
	}
	if !owned {
		t.Errorf("managed fields %v", p.ManagedFields)
	}
	p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("2")
	if p, err = client.UpdateResize(t.Context(), "p", p, metav1.UpdateOptions{}); err != nil || p.Spec.Containers[0].Resources.Requests.Cpu().String() != "2" {
		t.Error(p, err)
	}
	if p, err = client.Get(t.Context(), "p", metav1.GetOptions{}); err != nil || p.Generation != 3 {
		t.Error(p, err)
	}
}
