package framework

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestAPodThatIsResizedCountsWithTheLargest(t *testing.T) {
	cpu := func(s string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(s)}
	}
	for name, c := range map[string]struct {
		spec, given, has string
		reason           string
		want             int64
	}{
		"nothing to do":      {spec: "1", given: "1", has: "1", want: 1000},
		"waits for room":     {spec: "2", given: "1", has: "1", reason: corev1.PodReasonDeferred, want: 2000},
		"will never be":      {spec: "9", given: "1", has: "1", reason: corev1.PodReasonInfeasible, want: 1000},
		"is being made less": {spec: "500m", given: "500m", has: "1", want: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			p := &corev1.Pod{}
			p.Spec.NodeName = "n"
			p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: cpu(c.spec)}}}
			before := NewPod(p.DeepCopy())
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", AllocatedResources: cpu(c.given), Resources: &corev1.ResourceRequirements{Requests: cpu(c.has)}}}
			if c.reason != "" {
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: c.reason}}
			}
			now := NewPod(p)
			if now.Request.MilliCPU != c.want {
				t.Errorf("counts with %d, want %d", now.Request.MilliCPU, c.want)
			}
			s := NewState()
			s.SetPod(before, "n")
			s.SetPod(now, "n")
			if got := s.Node("n").Requested.MilliCPU; got != c.want {
				t.Errorf("the node counts %d, want %d", got, c.want)
			}
		})
	}
}
