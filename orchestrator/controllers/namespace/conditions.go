package namespace

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
)

// remains is what a namespace still held at the last look.
type remains struct {
	total      int
	resources  []string       // "pods. has 2 resource instances"
	finalizers map[string]int // objects that each one holds
}

func (r *remains) add(gvr schema.GroupVersionResource, objs []api.Object) {
	if len(objs) == 0 {
		return
	}
	r.total += len(objs)
	r.resources = append(r.resources, fmt.Sprintf("%s.%s has %d resource instances", gvr.Resource, gvr.Group, len(objs)))
	for _, o := range objs {
		for _, f := range o.GetFinalizers() {
			r.finalizers[f]++
		}
	}
}

// decideConditions says in Kubernetes' words why the namespace is still there; false when the status says so already.
func decideConditions(s *corev1.NamespaceStatus, left remains, failure error, now time.Time) bool {
	slices.Sort(left.resources)
	var held []string
	for f, n := range left.finalizers {
		held = append(held, fmt.Sprintf("%s in %d resource instances", f, n))
	}
	slices.Sort(held)
	want := []corev1.NamespaceCondition{
		{Type: corev1.NamespaceDeletionDiscoveryFailure, Status: corev1.ConditionFalse, Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"},
		{Type: corev1.NamespaceDeletionGVParsingFailure, Status: corev1.ConditionFalse, Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
		{Type: corev1.NamespaceDeletionContentFailure, Status: corev1.ConditionFalse, Reason: "ContentDeleted", Message: "All content successfully deleted, may be waiting on finalization"},
		{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionFalse, Reason: "ContentRemoved", Message: "All content successfully removed"},
		{Type: corev1.NamespaceFinalizersRemaining, Status: corev1.ConditionFalse, Reason: "ContentHasNoFinalizers", Message: "All content-preserving finalizers finished"},
	}
	if failure != nil {
		want[2].Status, want[2].Reason, want[2].Message = corev1.ConditionTrue, "ContentDeletionFailed", "Failed to delete all resource types, "+failure.Error()
	}
	if left.total > 0 {
		want[3].Status, want[3].Reason, want[3].Message = corev1.ConditionTrue, "SomeResourcesRemain", "Some resources are remaining: "+strings.Join(left.resources, ", ")
	}
	if len(held) > 0 {
		want[4].Status, want[4].Reason, want[4].Message = corev1.ConditionTrue, "SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: "+strings.Join(held, ", ")
	}
	changed := false
	for _, w := range want {
		i := slices.IndexFunc(s.Conditions, func(c corev1.NamespaceCondition) bool { return c.Type == w.Type })
		w.LastTransitionTime = metav1.NewTime(now)
		switch {
		case i < 0:
			s.Conditions, changed = append(s.Conditions, w), true
		case s.Conditions[i].Status != w.Status || s.Conditions[i].Reason != w.Reason || s.Conditions[i].Message != w.Message:
			if s.Conditions[i].Status == w.Status {
				w.LastTransitionTime = s.Conditions[i].LastTransitionTime
			}
			s.Conditions[i], changed = w, true
		}
	}
	return changed
}
