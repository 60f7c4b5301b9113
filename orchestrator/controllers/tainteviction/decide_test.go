package tainteviction

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestDecideEvictsWhatDoesNotTolerate(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	ago := func(d time.Duration) *metav1.Time { return ptr.To(metav1.NewTime(now.Add(-d))) }
	exec := corev1.Taint{Key: "k", Value: "v", Effect: corev1.TaintEffectNoExecute, TimeAdded: ago(100 * time.Second)}
	for name, c := range map[string]struct {
		taints []corev1.Taint
		tol    []corev1.Toleration
		evict  bool
		in     time.Duration
	}{
		"no taint":                           {},
		"only NoSchedule":                    {taints: []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}},
		"not tolerated":                      {taints: []corev1.Taint{exec}, evict: true},
		"tolerated for ever":                 {taints: []corev1.Taint{exec}, tol: []corev1.Toleration{{Key: "k", Value: "v"}}},
		"another value":                      {taints: []corev1.Taint{exec}, tol: []corev1.Toleration{{Key: "k", Value: "w"}}, evict: true},
		"exists":                             {taints: []corev1.Taint{exec}, tol: []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists}}},
		"everything":                         {taints: []corev1.Taint{exec}, tol: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}},
		"another effect":                     {taints: []corev1.Taint{exec}, tol: []corev1.Toleration{{Key: "k", Value: "v", Effect: corev1.TaintEffectNoSchedule}}, evict: true},
		"for a time, counted from the taint": {taints: []corev1.Taint{exec}, tol: []corev1.Toleration{{Key: "k", Value: "v", TolerationSeconds: ptr.To[int64](300)}}, evict: true, in: 200 * time.Second},
		"the time is over":                   {taints: []corev1.Taint{exec}, tol: []corev1.Toleration{{Key: "k", Value: "v", TolerationSeconds: ptr.To[int64](60)}}, evict: true},
		"negative is at once":                {taints: []corev1.Taint{exec}, tol: []corev1.Toleration{{Key: "k", Value: "v", TolerationSeconds: ptr.To[int64](-1)}}, evict: true},
		"the shortest of two":                {taints: []corev1.Taint{exec}, tol: []corev1.Toleration{{Key: "k", Value: "v", TolerationSeconds: ptr.To[int64](300)}, {Operator: corev1.TolerationOpExists, TolerationSeconds: ptr.To[int64](150)}}, evict: true, in: 50 * time.Second},
		"one of two taints isn't tolerated":  {taints: []corev1.Taint{exec, {Key: "z", Effect: corev1.TaintEffectNoExecute}}, tol: []corev1.Toleration{{Key: "k", Value: "v"}}, evict: true},
	} {
		t.Run(name, func(t *testing.T) {
			evict, in := decide(&corev1.Pod{Spec: corev1.PodSpec{Tolerations: c.tol}}, c.taints, now)
			if evict != c.evict || in != c.in {
				t.Errorf("evict %v in %v", evict, in)
			}
		})
	}
}
