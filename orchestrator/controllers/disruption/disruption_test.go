package disruption

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func TestDecideHowManyMayBeDisrupted(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	atLeast := func(s string) policyv1.PodDisruptionBudgetSpec {
		return policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.Parse(s))}
	}
	atMost := func(s string) policyv1.PodDisruptionBudgetSpec {
		return policyv1.PodDisruptionBudgetSpec{MaxUnavailable: ptr.To(intstr.Parse(s))}
	}
	for name, c := range map[string]struct {
		spec                       policyv1.PodDisruptionBudgetSpec
		ready, unready             int
		scale                      int32
		disrupted                  time.Duration // how long ago pod 0 was evicted; 0: not
		allowed, desired, expected int32
		again                      time.Duration
	}{
		"minAvailable":                {spec: atLeast("2"), ready: 3, scale: 3, allowed: 1, desired: 2, expected: 3},
		"minAvailable, percent":       {spec: atLeast("50%"), ready: 5, scale: 5, allowed: 2, desired: 3, expected: 5},
		"maxUnavailable":              {spec: atMost("1"), ready: 3, scale: 3, allowed: 1, desired: 2, expected: 3},
		"maxUnavailable, percent":     {spec: atMost("30%"), ready: 4, scale: 4, allowed: 2, desired: 2, expected: 4},
		"one is down already":         {spec: atMost("1"), ready: 2, unready: 1, scale: 3, desired: 2, expected: 3},
		"one isn't there":             {spec: atMost("1"), ready: 2, scale: 3, desired: 2, expected: 3},
		"no pods":                     {spec: atLeast("1"), desired: 1},
		"one was evicted just now":    {spec: atMost("2"), ready: 3, scale: 3, disrupted: time.Minute, allowed: 1, desired: 1, expected: 3, again: time.Minute},
		"an eviction that never came": {spec: atMost("2"), ready: 3, scale: 3, disrupted: 3 * time.Minute, allowed: 2, desired: 1, expected: 3},
	} {
		t.Run(name, func(t *testing.T) {
			pdb := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Generation: 4}, Spec: c.spec}
			if c.disrupted > 0 {
				pdb.Status.DisruptedPods = map[string]metav1.Time{"p0": metav1.NewTime(now.Add(-c.disrupted))}
			}
			var pods []*corev1.Pod
			for i := range c.ready + c.unready {
				p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i)}}
				if i < c.ready {
					p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				}
				pods = append(pods, p)
			}
			s, again := decide(pdb, pods, c.scale, now)
			if s.DisruptionsAllowed != c.allowed || s.DesiredHealthy != c.desired || s.ExpectedPods != c.expected || again != c.again || s.ObservedGeneration != 4 {
				t.Errorf("%+v, again %v", s, again)
			}
		})
	}
}
