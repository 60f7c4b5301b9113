package podgc

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestDecideRemovesWhatNobodyElseWill(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	pod := func(name, node string, phase corev1.PodPhase, age int, ending bool) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(at.Add(-time.Duration(age) * time.Minute))},
			Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: phase}}
		if ending {
			p.DeletionTimestamp = ptr.To(metav1.NewTime(at))
		}
		return p
	}
	evicted := func(p *corev1.Pod) *corev1.Pod { p.Status.Reason = "Evicted"; return p }
	const running, done, failed = corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed
	for name, c := range map[string]struct {
		pods            []*corev1.Pod
		threshold       int
		remove, orphans string
		stranded        string
	}{
		"running pods stay":                     {pods: []*corev1.Pod{pod("a", "n1", running, 1, false)}},
		"pods of a missing node are orphans":    {pods: []*corev1.Pod{pod("a", "gone", running, 1, false), pod("b", "gone", done, 1, true)}, orphans: "a b"},
		"deleted before they had a node":        {pods: []*corev1.Pod{pod("a", "", corev1.PodPending, 1, true), pod("b", "", corev1.PodPending, 1, false)}, remove: "a"},
		"deleted ones on a node are the node's": {pods: []*corev1.Pod{pod("a", "n1", running, 1, true)}},
		"the oldest ended ones beyond the threshold": {pods: []*corev1.Pod{pod("a", "n1", done, 1, false), pod("b", "n1", failed, 3, false), pod("c", "n1", done, 2, false), pod("d", "n1", running, 9, false)},
			threshold: 1, remove: "b c"},
		"evicted ones go first":              {pods: []*corev1.Pod{pod("a", "n1", failed, 3, false), evicted(pod("b", "n1", failed, 1, false))}, threshold: 1, remove: "b"},
		"ending ones of a node that is down": {pods: []*corev1.Pod{pod("a", "down", running, 1, true), pod("b", "down", running, 1, false)}, threshold: 1, stranded: "a"},
		"as many as the threshold stay":      {pods: []*corev1.Pod{pod("a", "n1", done, 1, false)}, threshold: 1},
		"negative keeps all":                 {pods: []*corev1.Pod{pod("a", "n1", done, 1, false)}, threshold: -1},
	} {
		t.Run(name, func(t *testing.T) {
			names := func(pods []*corev1.Pod) string {
				var out []string
				for _, p := range pods {
					out = append(out, p.Name)
				}
				slices.Sort(out)
				return strings.Join(out, " ")
			}
			remove, orphans, stranded := decide(c.pods, func(n string) bool { return n == "gone" }, func(n string) bool { return n == "down" }, c.threshold)
			if names(remove) != c.remove || names(orphans) != c.orphans || names(stranded) != c.stranded {
				t.Errorf("removes %q, orphans %q, stranded %q", names(remove), names(orphans), names(stranded))
			}
		})
	}
}

func TestANodeIsDownWhenSomebodySaysSoAndItIsNotReady(t *testing.T) {
	node := func(ready corev1.ConditionStatus, taint string) *corev1.Node {
		return &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: taint, Effect: corev1.TaintEffectNoExecute}}},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}}
	}
	for name, c := range map[string]struct {
		node *corev1.Node
		want bool
	}{
		"down":                   {node(corev1.ConditionUnknown, corev1.TaintNodeOutOfService), true},
		"it runs":                {node(corev1.ConditionTrue, corev1.TaintNodeOutOfService), false},
		"it may just be cut off": {node(corev1.ConditionUnknown, corev1.TaintNodeUnreachable), false},
	} {
		if got := outOfService(c.node); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
