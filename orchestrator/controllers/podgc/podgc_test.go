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
	const running, done, failed = corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed
	for name, c := range map[string]struct {
		pods            []*corev1.Pod
		threshold       int
		remove, orphans string
	}{
		"running pods stay":                     {pods: []*corev1.Pod{pod("a", "n1", running, 1, false)}},
		"pods of a missing node are orphans":    {pods: []*corev1.Pod{pod("a", "gone", running, 1, false), pod("b", "gone", done, 1, true)}, orphans: "a b"},
		"deleted before they had a node":        {pods: []*corev1.Pod{pod("a", "", corev1.PodPending, 1, true), pod("b", "", corev1.PodPending, 1, false)}, remove: "a"},
		"deleted ones on a node are the node's": {pods: []*corev1.Pod{pod("a", "n1", running, 1, true)}},
		"the oldest ended ones beyond the threshold": {pods: []*corev1.Pod{pod("a", "n1", done, 1, false), pod("b", "n1", failed, 3, false), pod("c", "n1", done, 2, false), pod("d", "n1", running, 9, false)},
			threshold: 1, remove: "b c"},
		"as many as the threshold stay": {pods: []*corev1.Pod{pod("a", "n1", done, 1, false)}, threshold: 1},
		"negative keeps all":            {pods: []*corev1.Pod{pod("a", "n1", done, 1, false)}, threshold: -1},
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
			remove, orphans := decide(c.pods, func(n string) bool { return n == "gone" }, c.threshold)
			if names(remove) != c.remove || names(orphans) != c.orphans {
				t.Errorf("removes %q, orphans %q", names(remove), names(orphans))
			}
		})
	}
}
