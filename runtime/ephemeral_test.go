package runtime

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestEphemeralStorageIsLimitedByContainerAndByPod(t *testing.T) {
	limited := func(name, limit string) corev1.Container {
		c := corev1.Container{Name: name}
		if limit != "" {
			c.Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse(limit)}
		}
		return c
	}
	for _, tc := range []struct {
		name       string
		containers []corev1.Container
		used       map[string]int64
		volumes    int64
		want       string
	}{
		{"below", []corev1.Container{limited("a", "1Ki")}, map[string]int64{"a": 1024}, 0, ""},
		{"a container above its own", []corev1.Container{limited("a", "1Ki"), limited("b", "")}, map[string]int64{"a": 1025}, 0, `Container a exceeded its local ephemeral storage limit "1Ki". `},
		{"the pod's volumes count", []corev1.Container{limited("a", "1Ki"), limited("b", "1Ki")}, map[string]int64{"a": 1000, "b": 1000}, 100, "Pod ephemeral local storage usage exceeds the total limit of containers 2Ki. "},
		{"one without a limit: the pod has none", []corev1.Container{limited("a", "1Ki"), limited("b", "")}, map[string]int64{"a": 1000, "b": 9000}, 9000, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			if r := overLimits(&corev1.Pod{Spec: corev1.PodSpec{Containers: tc.containers}}, tc.used, tc.volumes); r != nil {
				got = r.message
			}
			if strings.TrimSpace(got) != strings.TrimSpace(tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
