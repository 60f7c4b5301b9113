package orchestratortest

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// A pod of a higher class takes the room of a lower one: the victim ends in order and says why, and a class
// that preempts nobody waits.
func TestAHigherPriorityClassPreempts(t *testing.T) {
	c := Start(t)
	c.AddNode(t, "one") // of 16 cpus
	ctx := context.Background()
	for name, class := range map[string]schedulingv1.PriorityClass{"high": {Value: 100}, "polite": {Value: 100, PreemptionPolicy: ptr.To(corev1.PreemptNever)}} {
		class.Name = name
		if _, err := c.Client.SchedulingV1().PriorityClasses().Create(ctx, &class, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	pods := c.Client.CoreV1().Pods("default")
	create := func(name, class string) {
		t.Helper()
		_, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{PriorityClassName: class, TerminationGracePeriodSeconds: ptr.To[int64](5),
			Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("12")}}}}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	get := func(ctx context.Context, name string) (*corev1.Pod, error) {
		return pods.Get(ctx, name, metav1.GetOptions{})
	}
	create("low", "")
	eventually(t, "low bound", func(ctx context.Context) (bool, error) {
		p, err := get(ctx, "low")
		return err == nil && p.Spec.NodeName == "one", err
	})
	create("waiting", "polite")
	eventually(t, "a polite pod that waits", func(ctx context.Context) (bool, error) {
		p, err := get(ctx, "waiting")
		if err != nil || len(p.Status.Conditions) == 0 {
			return false, err
		}
		return strings.Contains(p.Status.Conditions[0].Message, "1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."), nil
	})
	create("important", "high")
	eventually(t, "a victim that ends", func(ctx context.Context) (bool, error) {
		low, err := get(ctx, "low")
		if err != nil || low.DeletionTimestamp == nil {
			return false, err
		}
		high, err := get(ctx, "important")
		return err == nil && high.Status.NominatedNodeName == "one" && high.Spec.NodeName == "", err
	})
	low, err := get(ctx, "low")
	if err != nil {
		t.Fatal(err)
	}
	told := false
	for _, condition := range low.Status.Conditions {
		told = told || condition.Type == corev1.DisruptionTarget && condition.Reason == corev1.PodReasonPreemptionByScheduler
	}
	if !told {
		t.Errorf("the victim doesn't say why it ends: %+v", low.Status.Conditions)
	}
	// Its node has ended it.
	if err := pods.Delete(ctx, "low", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the important pod in its place", func(ctx context.Context) (bool, error) {
		p, err := get(ctx, "important")
		return err == nil && p.Spec.NodeName == "one" && p.Status.NominatedNodeName == "", err
	})
	if p, err := get(ctx, "waiting"); err != nil || p.Spec.NodeName != "" {
		t.Errorf("the polite pod is on %q, %v", p.Spec.NodeName, err)
	}
}
