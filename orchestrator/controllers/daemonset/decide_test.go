package daemonset

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile/history"
)

func now() time.Time { return time.Unix(1_700_000_000, 0) }

func aNode(name string, taints ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	for _, t := range taints {
		key, effect, _ := strings.Cut(t, ":")
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffect(effect)})
	}
	return n
}

// "Taints and tolerations" and the list of the documentation's page on DaemonSets.
func TestWhereADaemonPodBelongs(t *testing.T) {
	labelled := func(n *corev1.Node, k, v string) *corev1.Node { n.Labels[k] = v; return n }
	gpu := func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"gpu": "yes"} }
	for name, c := range map[string]struct {
		node      *corev1.Node
		spec      func(*corev1.PodSpec)
		run, stay bool
	}{
		"any node":                        {node: aNode("a"), run: true, stay: true},
		"a node that isn't ready":         {node: aNode("a", "node.kubernetes.io/not-ready:NoExecute"), run: true, stay: true},
		"a node that isn't ready, no new": {node: aNode("a", "node.kubernetes.io/not-ready:NoSchedule"), stay: true},
		"an unreachable node":             {node: aNode("a", "node.kubernetes.io/unreachable:NoExecute"), run: true, stay: true},
		"a node under disk pressure":      {node: aNode("a", "node.kubernetes.io/disk-pressure:NoSchedule"), run: true, stay: true},
		"a node under memory pressure":    {node: aNode("a", "node.kubernetes.io/memory-pressure:NoSchedule"), run: true, stay: true},
		"a node under PID pressure":       {node: aNode("a", "node.kubernetes.io/pid-pressure:NoSchedule"), run: true, stay: true},
		"a cordoned node":                 {node: aNode("a", "node.kubernetes.io/unschedulable:NoSchedule"), run: true, stay: true},
		"a node without network":          {node: aNode("a", "node.kubernetes.io/network-unavailable:NoSchedule"), stay: true},
		"and on the host's network":       {node: aNode("a", "node.kubernetes.io/network-unavailable:NoSchedule"), spec: func(s *corev1.PodSpec) { s.HostNetwork = true }, run: true, stay: true},
		"a node for others":               {node: aNode("a", "team:NoSchedule"), stay: true},
		"a node that drives pods out":     {node: aNode("a", "team:NoExecute")},
		"a node that would rather not":    {node: aNode("a", "team:PreferNoSchedule"), run: true, stay: true},
		"a taint that is tolerated": {node: aNode("a", "team:NoExecute"), run: true, stay: true,
			spec: func(s *corev1.PodSpec) {
				s.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
			}},
		"a selector that doesn't match": {node: aNode("a"), spec: gpu},
		"a selector that matches":       {node: labelled(aNode("a"), "gpu", "yes"), spec: gpu, run: true, stay: true},
		"another node by name":          {node: aNode("a"), spec: func(s *corev1.PodSpec) { s.NodeName = "b" }},
		"affinity that doesn't match": {node: aNode("a"), spec: func(s *corev1.PodSpec) {
			s.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "gpu", Operator: corev1.NodeSelectorOpExists}}}}}}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			set := &appsv1.DaemonSet{}
			if c.spec != nil {
				c.spec(&set.Spec.Template.Spec)
			}
			if run, stay := newFitter(set).fits(c.node); run != c.run || stay != c.stay {
				t.Errorf("should run %v, may stay %v; want %v, %v", run, stay, c.run, c.stay)
			}
		})
	}
}

func TestADaemonPodIsBoundToItsNodeByAffinity(t *testing.T) {
	set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "logs"}}
	set.Spec.Template.Labels = map[string]string{"app": "logs"}
	set.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: "node.kubernetes.io/unschedulable", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
	p := newPod(set, "abc", "n7")
	if nodeOf(p) != "n7" || p.Spec.NodeName != "" || p.GenerateName != "logs-" || p.Labels["controller-revision-hash"] != "abc" || p.Labels["app"] != "logs" {
		t.Errorf("%+v", p)
	}
	if len(p.Spec.Tolerations) != 6 {
		t.Errorf("%d tolerations: one stands there twice, or is missing: %+v", len(p.Spec.Tolerations), p.Spec.Tolerations)
	}
	if len(set.Spec.Template.Spec.Tolerations) != 1 || set.Spec.Template.Labels["controller-revision-hash"] != "" {
		t.Error("the template was changed")
	}
}

// story is a state written short: "a=new b=old! c=" are nodes with their pods, ! is one that isn't ready, ~ one that ends,
// x one that has failed.
func story(text string, unavailable, surge string) input {
	u, s := intstr.Parse(unavailable), intstr.Parse(surge)
	set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "d", UID: "d", Generation: 1}}
	set.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &u, MaxSurge: &s}}
	if unavailable == "" {
		set.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
	}
	revision := func(name string, n int64) *appsv1.ControllerRevision {
		return &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: "d-" + name, Labels: map[string]string{history.HashLabel: name}}, Revision: n}
	}
	in := input{set: set, newest: revision("new", 2), now: now()}
	in.revisions = []*appsv1.ControllerRevision{revision("old", 1), in.newest}
	for _, f := range strings.Fields(text) {
		name, pods, _ := strings.Cut(f, "=")
		if name != "gone" {
			in.nodes = append(in.nodes, aNode(name))
		}
		for i, p := range strings.Split(pods, "+") {
			if p == "" {
				continue
			}
			id := fmt.Sprintf("%s%d", name, i)
			pod := newPod(set, strings.TrimRight(p, "!~x?"), name)
			pod.Name, pod.UID, pod.CreationTimestamp = id, types.UID(id), metav1.NewTime(now().Add(time.Duration(i)*time.Second))
			pod.Status.Phase = corev1.PodRunning
			ready := corev1.ConditionTrue
			if !strings.Contains(p, "?") {
				pod.Spec.NodeName = name
			} else {
				pod.Status.Phase, ready = corev1.PodPending, corev1.ConditionFalse
			}
			if strings.Contains(p, "!") {
				ready = corev1.ConditionFalse
			}
			if strings.Contains(p, "~") {
				pod.DeletionTimestamp = &metav1.Time{Time: now()}
			}
			if strings.Contains(p, "x") {
				pod.Status.Phase, ready = corev1.PodFailed, corev1.ConditionFalse
			}
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.NewTime(now().Add(-time.Hour))}}
			in.pods = append(in.pods, pod)
		}
	}
	return in
}

func TestWhatAStepDoes(t *testing.T) {
	for name, c := range map[string]struct {
		state, unavailable, surge string
		create, remove            string
	}{
		"one on every node":                      {state: "a= b= c=new", unavailable: "1", surge: "0", create: "a b"},
		"nothing to do":                          {state: "a=new b=new", unavailable: "1", surge: "0"},
		"one too many":                           {state: "a=new!+new b=new", unavailable: "1", surge: "0", remove: "a0"},
		"one that ends is waited for":            {state: "a=new~ b=new", unavailable: "1", surge: "0"},
		"a failed one goes first":                {state: "a=newx b=new", unavailable: "1", surge: "0", remove: "a0"},
		"one at a time":                          {state: "a=old b=old c=old", unavailable: "1", surge: "0", remove: "a0"},
		"30 % of 4, rounded up":                  {state: "a=old b=old c=old d=old", unavailable: "30%", surge: "0", remove: "a0 b0"},
		"none while a new one isn't ready":       {state: "a=new! b=old c=old", unavailable: "1", surge: "0"},
		"none while one is missing":              {state: "a= b=old c=old", unavailable: "1", surge: "0", create: "a"},
		"one that doesn't serve costs nothing":   {state: "a=old b=old! c=old", unavailable: "1", surge: "0", remove: "b0"},
		"OnDelete replaces nothing":              {state: "a=old b=", remove: "", create: "b"},
		"surge puts a new one beside":            {state: "a=old b=old", unavailable: "0", surge: "1", create: "a"},
		"and waits for it":                       {state: "a=old+new! b=old", unavailable: "0", surge: "1"},
		"and then ends the old one":              {state: "a=old+new b=old", unavailable: "0", surge: "1", remove: "a0", create: "b"},
		"50 % of 3, rounded up":                  {state: "a=old b=old c=old", unavailable: "0", surge: "50%", create: "a b"},
		"an old one that fails is no surge":      {state: "a=old! b=old! c=old", unavailable: "0", surge: "1", create: "a b"},
		"one that is drained isn't waited for":   {state: "a=old~ b=new", unavailable: "0", surge: "1", create: "a"},
		"a pending one of a node that is gone":   {state: "a=new gone=new?", unavailable: "1", surge: "0", remove: "gone0"},
		"a bound one of a node that is gone":     {state: "a=new gone=new", unavailable: "1", surge: "0"},
		"an available old one before a new one":  {state: "a=old+new! b=new", unavailable: "1", surge: "0", remove: "a1 a0"},
		"two of the newest that surge, one goes": {state: "a=old+new+new! b=new", unavailable: "0", surge: "1", remove: "a2 a0"},
	} {
		t.Run(name, func(t *testing.T) {
			p := decide(story(c.state, c.unavailable, c.surge))
			var removed []string
			for _, pod := range p.remove {
				removed = append(removed, pod.Name)
			}
			if got := strings.Join(p.create, " "); got != c.create || strings.Join(removed, " ") != c.remove {
				t.Errorf("%s: creates %q, removes %q; want %q, %q", c.state, got, removed, c.create, c.remove)
			}
		})
	}
}

func TestTheStatusCountsNodes(t *testing.T) {
	in := story("a=new b=old c=new! d= e=new f=new+old", "1", "0")
	in.nodes[4].Spec.Taints = []corev1.Taint{{Key: "team", Effect: corev1.TaintEffectNoSchedule}} // e: its pod may stay, but shouldn't be
	s := decide(in).status
	want := appsv1.DaemonSetStatus{ObservedGeneration: 1, DesiredNumberScheduled: 5, CurrentNumberScheduled: 4, NumberMisscheduled: 1,
		NumberReady: 3, NumberAvailable: 3, NumberUnavailable: 2, UpdatedNumberScheduled: 3}
	s.Conditions = nil
	if fmt.Sprint(*s) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", *s, want)
	}
}

func TestAFailedPodWaitsLongerEachTime(t *testing.T) {
	in := story("a=newx", "1", "0")
	in.backoff = func(node string) time.Duration { return 7 * time.Second }
	if p := decide(in); len(p.remove) > 0 || p.again != 7*time.Second {
		t.Errorf("removes %v, looks again in %v", p.remove, p.again)
	}
}

func TestStepsAreBounded(t *testing.T) {
	var nodes []string
	for i := range 1000 {
		nodes = append(nodes, fmt.Sprintf("n%04d=", i))
	}
	if p := decide(story(strings.Join(nodes, " "), "1", "0")); len(p.create) != burst || !slices.IsSorted(p.create) {
		t.Errorf("%d pods in one step", len(p.create))
	}
}
