package nodelifecycle

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestDecideTaintsFollowConditionsAndLeaveOthersAlone(t *testing.T) {
	cond := func(ct corev1.NodeConditionType, s corev1.ConditionStatus) corev1.NodeCondition {
		return corev1.NodeCondition{Type: ct, Status: s}
	}
	mine := corev1.Taint{Key: "example.com/mine", Effect: corev1.TaintEffectNoExecute}
	for name, c := range map[string]struct {
		conditions    []corev1.NodeCondition
		unschedulable bool
		have          []corev1.Taint
		want          string
	}{
		"ready":                {conditions: []corev1.NodeCondition{cond(corev1.NodeReady, "True")}},
		"not ready":            {conditions: []corev1.NodeCondition{cond(corev1.NodeReady, "False")}, want: "not-ready:NoSchedule not-ready:NoExecute"},
		"silent":               {conditions: []corev1.NodeCondition{cond(corev1.NodeReady, "Unknown")}, want: "unreachable:NoSchedule unreachable:NoExecute"},
		"back again":           {conditions: []corev1.NodeCondition{cond(corev1.NodeReady, "True")}, have: []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}}},
		"from one to another":  {conditions: []corev1.NodeCondition{cond(corev1.NodeReady, "False")}, have: []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}}, want: "not-ready:NoSchedule not-ready:NoExecute"},
		"somebody else's stay": {conditions: []corev1.NodeCondition{cond(corev1.NodeReady, "True")}, have: []corev1.Taint{mine}, want: "example.com/mine:NoExecute"},
		"cordoned":             {conditions: []corev1.NodeCondition{cond(corev1.NodeReady, "True")}, unschedulable: true, want: "unschedulable:NoSchedule"},
		"full disk":            {conditions: []corev1.NodeCondition{cond(corev1.NodeReady, "True"), cond(corev1.NodeDiskPressure, "True")}, want: "disk-pressure:NoSchedule"},
	} {
		t.Run(name, func(t *testing.T) {
			n := &corev1.Node{Spec: corev1.NodeSpec{Unschedulable: c.unschedulable, Taints: c.have}, Status: corev1.NodeStatus{Conditions: c.conditions}}
			n.Spec.Taints = decideTaints(n, true, time.Unix(5, 0))
			var got []string
			for _, x := range n.Spec.Taints {
				got = append(got, strings.TrimPrefix(x.Key, "node.kubernetes.io/")+":"+string(x.Effect))
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
			if again := decideTaints(n, true, time.Unix(9, 0)); len(again) != len(n.Spec.Taints) || len(again) > 0 && !again[0].TimeAdded.Equal(n.Spec.Taints[0].TimeAdded) {
				t.Errorf("decided again: %v", again)
			}
		})
	}
}
