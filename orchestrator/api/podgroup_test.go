package api

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodGroupsAndQueuesAreValidated(t *testing.T) {
	tests := map[string]struct {
		kind, object string
		at           string // of the error, "" none
	}{
		"gang":                  {"PodGroup", `{metadata: {name: g}, spec: {schedulingPolicy: {gang: {minCount: 4}}, schedulingConstraints: {topology: [{key: topology.kubernetes.io/rack}]}, disruptionMode: {all: {}}, priorityClassName: high}}`, ""},
		"basic":                 {"PodGroup", `{metadata: {name: g}, spec: {schedulingPolicy: {basic: {}}}}`, ""},
		"no policy":             {"PodGroup", `{metadata: {name: g}}`, "spec.schedulingPolicy"},
		"both policies":         {"PodGroup", `{metadata: {name: g}, spec: {schedulingPolicy: {basic: {}, gang: {minCount: 1}}}}`, "spec.schedulingPolicy"},
		"no minCount":           {"PodGroup", `{metadata: {name: g}, spec: {schedulingPolicy: {gang: {}}}}`, "spec.schedulingPolicy.gang.minCount"},
		"two topologies":        {"PodGroup", `{metadata: {name: g}, spec: {schedulingPolicy: {basic: {}}, schedulingConstraints: {topology: [{key: a}, {key: b}]}}}`, "spec.schedulingConstraints.topology"},
		"no key":                {"PodGroup", `{metadata: {name: g}, spec: {schedulingPolicy: {basic: {}}, schedulingConstraints: {topology: [{}]}}}`, "spec.schedulingConstraints.topology[0].key"},
		"two modes":             {"PodGroup", `{metadata: {name: g}, spec: {schedulingPolicy: {basic: {}}, disruptionMode: {all: {}, single: {}}}}`, "spec.disruptionMode"},
		"no mode":               {"PodGroup", `{metadata: {name: g}, spec: {schedulingPolicy: {basic: {}}, disruptionMode: {}}}`, "spec.disruptionMode"},
		"priority":              {"PodGroup", `{metadata: {name: g}, spec: {schedulingPolicy: {basic: {}}, priority: 1000000001}}`, "spec.priority"},
		"preemption":            {"PodGroup", `{metadata: {name: g}, spec: {schedulingPolicy: {basic: {}}, preemptionPolicy: Sometimes}}`, "spec.preemptionPolicy"},
		"timeout":               {"PodGroup", `{metadata: {name: g, annotations: {scheduling.pintle.dev/timeout: 90s}}, spec: {schedulingPolicy: {basic: {}}}}`, ""},
		"bad timeout":           {"PodGroup", `{metadata: {name: g, annotations: {scheduling.pintle.dev/timeout: "90"}}, spec: {schedulingPolicy: {basic: {}}}}`, "metadata.annotations[scheduling.pintle.dev/timeout]"},
		"bad preferred":         {"PodGroup", `{metadata: {name: g, annotations: {scheduling.pintle.dev/preferred-topology: "rack,,zone"}}, spec: {schedulingPolicy: {basic: {}}}}`, "metadata.annotations[scheduling.pintle.dev/preferred-topology]"},
		"pod of a group":        {"Pod", `{metadata: {name: p}, spec: {schedulingGroup: {podGroupName: train}, containers: [{name: c, image: i}]}}`, ""},
		"pod of no group":       {"Pod", `{metadata: {name: p}, spec: {schedulingGroup: {}, containers: [{name: c, image: i}]}}`, "spec.schedulingGroup"},
		"pod of a bad name":     {"Pod", `{metadata: {name: p}, spec: {schedulingGroup: {podGroupName: A_}, containers: [{name: c, image: i}]}}`, "spec.schedulingGroup.podGroupName"},
		"queue":                 {"Queue", `{metadata: {name: q}, spec: {namespaces: [a], namespaceSelector: {matchLabels: {team: a}}, cohort: c, weight: 3, nominalQuota: {cpu: "4"}, borrowingLimit: {cpu: "0"}}}`, ""},
		"twice a namespace":     {"Queue", `{metadata: {name: q}, spec: {namespaces: [a, a]}}`, "spec.namespaces[1]"},
		"limit without quota":   {"Queue", `{metadata: {name: q}, spec: {cohort: c, borrowingLimit: {cpu: "1"}}}`, "spec.borrowingLimit[cpu]"},
		"limit without cohort":  {"Queue", `{metadata: {name: q}, spec: {nominalQuota: {cpu: "1"}, borrowingLimit: {cpu: "1"}}}`, "spec.borrowingLimit"},
		"quota below 0":         {"Queue", `{metadata: {name: q}, spec: {nominalQuota: {cpu: "-1"}}}`, "spec.nominalQuota[cpu]"},
		"weight":                {"Queue", `{metadata: {name: q}, spec: {weight: 1001}}`, "spec.weight"},
		"selector of no sense":  {"Queue", `{metadata: {name: q}, spec: {namespaceSelector: {matchExpressions: [{key: a, operator: Like}]}}}`, "spec.namespaceSelector.matchExpressions[0].operator"},
		"cohort of a bad name":  {"Queue", `{metadata: {name: q}, spec: {cohort: "a b"}}`, "spec.cohort"},
		"namespace of bad name": {"Queue", `{metadata: {name: q}, spec: {namespaces: [A]}}`, "spec.namespaces[0]"},
	}
	for name, tt := range tests {
		k := kindOf(t, tt.kind)
		var at []string
		for _, err := range problems(k, made(k, decode(t, k, tt.object))) {
			at = append(at, err.Field)
		}
		if tt.at == "" && len(at) > 0 || tt.at != "" && !slices.Contains(at, tt.at) {
			t.Errorf("%s: errors at %v, want %q", name, at, tt.at)
		}
	}
}

func TestOfAPodGroupOnlyMinCountChanges(t *testing.T) {
	k := kindOf(t, "PodGroup")
	const spec = `{metadata: {name: g}, spec: {schedulingPolicy: {gang: {minCount: 2}}, schedulingConstraints: {topology: [{key: rack}]}, disruptionMode: {all: {}}, priorityClassName: a, preemptionPolicy: Never, workloadRef: {workloadName: w, templateName: t}}}`
	tests := map[string]string{ // what replaces what
		"minCount: 2": "minCount: 3", "key: rack": "key: zone", "all: {}": "single: {}", "priorityClassName: a": "priorityClassName: b",
		"Never": "PreemptLowerPriority", "gang: {minCount: 2}": "basic: {}", "workloadName: w": "workloadName: v",
	}
	for from, to := range tests {
		old, now := made(k, decode(t, k, spec)), decode(t, k, strings.Replace(spec, from, to, 1))
		k.PrepareUpdate(now, old)
		if refused := len(k.ValidateUpdate(now, old)) > 0; refused != (from != "minCount: 2") {
			t.Errorf("%s to %s: refused is %v", from, to, refused)
		}
		if now.GetGeneration() != 2 {
			t.Errorf("%s to %s is generation %d", from, to, now.GetGeneration())
		}
	}
}

func TestWhatAPodGroupSaysIsFound(t *testing.T) {
	for _, tt := range []struct {
		pod  corev1.Pod
		want string
	}{
		{corev1.Pod{}, ""},
		{corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{LabelPodGroup: "a"}}}, "a"},
		{corev1.Pod{Spec: corev1.PodSpec{SchedulingGroup: &corev1.PodSchedulingGroup{PodGroupName: ptr("b")}}}, "b"},
		{corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{LabelPodGroup: "a"}}, Spec: corev1.PodSpec{SchedulingGroup: &corev1.PodSchedulingGroup{PodGroupName: ptr("b")}}}, "b"},
	} {
		if got := PodGroupOf(&tt.pod); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	g := &schedulingv1beta1.PodGroup{}
	if d := GroupTimeout(g); d != time.Minute {
		t.Errorf("the timeout is %v by default", d)
	}
	g.Annotations = map[string]string{AnnotationGroupTimeout: "5s", AnnotationPreferredTopology: "rack, zone"}
	if d := GroupTimeout(g); d != 5*time.Second {
		t.Errorf("the timeout is %v", d)
	}
	if keys := PreferredTopology(g); !slices.Equal(keys, []string{"rack", "zone"}) {
		t.Errorf("the preferred topology is %q", keys)
	}
}

func TestAPodGroupsPriorityIsItsClass(t *testing.T) {
	never := corev1.PreemptNever
	classes := []*schedulingv1.PriorityClass{{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 7, PreemptionPolicy: &never}}
	g := &schedulingv1beta1.PodGroup{Spec: schedulingv1beta1.PodGroupSpec{PriorityClassName: "high"}}
	if err := AdmitGroupPriority(g, classes); err != nil || *g.Spec.Priority != 7 || *g.Spec.PreemptionPolicy != schedulingv1beta1.PreemptNever {
		t.Errorf("got %v, %+v", err, g.Spec)
	}
	if err := AdmitGroupPriority(g, classes); err != nil {
		t.Errorf("done again: %v", err)
	}
	g.Spec.Priority = ptr(int32(8))
	if err := AdmitGroupPriority(g, classes); err == nil {
		t.Error("another priority than the class's is accepted")
	}
	g = &schedulingv1beta1.PodGroup{Spec: schedulingv1beta1.PodGroupSpec{PriorityClassName: "none"}}
	if err := AdmitGroupPriority(g, classes); err == nil {
		t.Error("a class that isn't there is accepted")
	}
}
