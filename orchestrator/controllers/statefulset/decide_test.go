package statefulset

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/rollback"
)

func now() time.Time { return time.Unix(1_700_000_000, 0) }

// story is a state written short. "0=old 1=new! 2=given~" are pods by ordinal and revision: ! is one that isn't ready, ~ one
// that ends, x one that has failed, * one that crashes. old is the current revision, new the newest, given one that was given up.
func story(replicas int32, text string, edit ...func(*appsv1.StatefulSet)) input {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "web", Generation: 1, Annotations: map[string]string{api.AnnotationAutoRollback: "false"}}}
	set.Spec.Replicas = &replicas
	set.Status.CurrentRevision = "old"
	revision := func(name string, n int64) *appsv1.ControllerRevision {
		r := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: name}, Revision: n}
		if name == "old" {
			rollback.Mark(r, "1", now().Add(-time.Hour))
		}
		return r
	}
	in := input{set: set, newest: revision("new", 3), now: now()}
	in.revisions = []*appsv1.ControllerRevision{revision("old", 1), revision("given", 2), in.newest}
	for _, f := range edit {
		f(set)
	}
	if set.Status.CurrentRevision == "never" { // the first revision never worked
		rollback.Unmark(in.revisions[0])
		set.Status.CurrentRevision = "old"
	}
	for _, f := range strings.Fields(text) {
		ordinal, what, _ := strings.Cut(f, "=")
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-" + ordinal, UID: types.UID(ordinal),
			Labels: map[string]string{"controller-revision-hash": strings.TrimRight(what, "!~x*"), "statefulset.kubernetes.io/pod-name": "web-" + ordinal, "apps.kubernetes.io/pod-index": ordinal}}}
		p.Status.Phase = corev1.PodRunning
		ready := corev1.ConditionTrue
		for _, mark := range strings.TrimLeft(what, "abcdefghijklmnopqrstuvwyz") {
			switch mark {
			case '!':
				ready = corev1.ConditionFalse
			case '*':
				ready = corev1.ConditionFalse
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", RestartCount: 3}}
			case '~':
				p.DeletionTimestamp = &metav1.Time{Time: now()}
			case 'x':
				p.Status.Phase, ready = corev1.PodFailed, corev1.ConditionFalse
			}
		}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.NewTime(now().Add(-10 * time.Second))}}
		in.pods = append(in.pods, p)
	}
	return in
}

// The rules of the documentation's pages "StatefulSets" and "StatefulSet Basics", and what is other here.
func TestWhatAStepDoes(t *testing.T) {
	all := func(s *appsv1.StatefulSet) { s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement }
	onDelete := func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType }
	never := func(s *appsv1.StatefulSet) { s.Status.CurrentRevision = "never" }
	roll := func(partition int32, unavailable string) func(*appsv1.StatefulSet) {
		v := intstr.Parse(unavailable)
		return func(s *appsv1.StatefulSet) {
			s.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: "RollingUpdate", RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &partition, MaxUnavailable: &v}}
		}
	}
	for name, c := range map[string]struct {
		replicas int32
		state    string
		edit     []func(*appsv1.StatefulSet)
		create   string
		remove   string
	}{
		"the first":                           {replicas: 3, create: "0=new"},
		"the next when all before are ready":  {replicas: 3, state: "0=new", create: "1=new"},
		"none while one isn't":                {replicas: 3, state: "0=new 1=new!"},
		"a gap is filled first":               {replicas: 3, state: "1=new 2=new", create: "0=new"},
		"one that ends is waited for":         {replicas: 2, state: "0=new 1=new~"},
		"a failed one is replaced":            {replicas: 2, state: "0=newx 1=new", remove: "0"},
		"the last goes first":                 {replicas: 1, state: "0=new 1=new 2=new", remove: "2"},
		"the next when it is gone":            {replicas: 1, state: "0=new 1=new 2=new~"},
		"none while one before isn't ready":   {replicas: 1, state: "0=new! 1=new 2=new"},
		"none of those that aren't ready":     {replicas: 0, state: "0=new! 1=new! 2=new!"},
		"but the first of those":              {replicas: 0, state: "0=new!", remove: "0"},
		"parallel: all at once":               {replicas: 3, state: "1=new!", edit: []func(*appsv1.StatefulSet){all}, create: "0=new 2=new"},
		"parallel: all go at once":            {replicas: 1, state: "0=new! 1=new! 2=new", edit: []func(*appsv1.StatefulSet){all}, remove: "2 1"},
		"from the highest ordinal":            {replicas: 3, state: "0=old 1=old 2=old", remove: "2"},
		"one at a time":                       {replicas: 3, state: "0=old 1=old 2=new!"},
		"then the next":                       {replicas: 3, state: "0=old 1=old 2=new", remove: "1"},
		"down to the partition":               {replicas: 3, state: "0=old 1=old 2=new", edit: []func(*appsv1.StatefulSet){roll(2, "1")}},
		"below it comes back as it was":       {replicas: 3, state: "0=old 2=new", edit: []func(*appsv1.StatefulSet){roll(2, "1")}, create: "1=old"},
		"above it as it shall be":             {replicas: 3, state: "0=old 1=old", edit: []func(*appsv1.StatefulSet){roll(2, "1")}, create: "2=new"},
		"a partition beyond all":              {replicas: 3, state: "0=old 1=old 2=old", edit: []func(*appsv1.StatefulSet){roll(7, "1")}},
		"two at a time":                       {replicas: 4, state: "0=old 1=old 2=old 3=old", edit: []func(*appsv1.StatefulSet){roll(0, "2")}, remove: "3 2"},
		"30 % of 4, rounded up":               {replicas: 4, state: "0=old 1=old 2=old 3=old", edit: []func(*appsv1.StatefulSet){all, roll(0, "30%")}, remove: "3 2"},
		"one that is missing counts":          {replicas: 4, state: "0=old 1=old 2=old", edit: []func(*appsv1.StatefulSet){all, roll(0, "2")}, create: "3=new", remove: "2"},
		"parallel, too, one at a time":        {replicas: 3, state: "0=old 1=old 2=new!", edit: []func(*appsv1.StatefulSet){all}},
		"an update waits for a slow pod":      {replicas: 3, state: "0=old 1=old! 2=old"},
		"but not for one that crashes":        {replicas: 3, state: "0=old 1=old* 2=old", remove: "1"},
		"nor for one that was given up":       {replicas: 3, state: "0=old 1=given! 2=new", remove: "1"},
		"one of those at a time, in order":    {replicas: 3, state: "0=given! 1=given! 2=given!", remove: "2"},
		"none while another ends":             {replicas: 3, state: "0=given! 1=given! 2=given~"},
		"parallel: all that were given up":    {replicas: 3, state: "0=old 1=given! 2=given!", edit: []func(*appsv1.StatefulSet){all}, remove: "2 1"},
		"nor for one that never worked":       {replicas: 3, state: "0=old!", edit: []func(*appsv1.StatefulSet){never}, remove: "0"},
		"given up, but serving: in its turn":  {replicas: 2, state: "0=given 1=given", remove: "1"},
		"OnDelete leaves it to people":        {replicas: 2, state: "0=old 1=given!", edit: []func(*appsv1.StatefulSet){onDelete}},
		"OnDelete: what is deleted comes new": {replicas: 2, state: "0=old", edit: []func(*appsv1.StatefulSet){onDelete}, create: "1=new"},
		"a start elsewhere": {replicas: 2, state: "0=new 5=new", edit: []func(*appsv1.StatefulSet){
			func(s *appsv1.StatefulSet) { s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: 5} }}, create: "6=new"},
		"ready for too short a time": {replicas: 2, state: "0=new", edit: []func(*appsv1.StatefulSet){func(s *appsv1.StatefulSet) { s.Spec.MinReadySeconds = 30 }}},
	} {
		t.Run(name, func(t *testing.T) {
			p := decide(story(c.replicas, c.state, c.edit...))
			var create, remove []string
			for _, n := range p.create {
				create = append(create, fmt.Sprintf("%d=%s", n.ordinal, n.revision.Name))
			}
			for _, pod := range p.remove {
				remove = append(remove, strings.TrimPrefix(pod.Name, "web-"))
			}
			if strings.Join(create, " ") != c.create || strings.Join(remove, " ") != c.remove {
				t.Errorf("%s: creates %v, removes %v; want %q, %q", c.state, create, remove, c.create, c.remove)
			}
		})
	}
}

func TestItLooksAgainWhenAPodBecomesAvailable(t *testing.T) {
	p := decide(story(2, "0=new", func(s *appsv1.StatefulSet) { s.Spec.MinReadySeconds = 30 }))
	if p.again != 20*time.Second {
		t.Errorf("in %v", p.again)
	}
}

// A huge set costs steps, not memory.
func TestHugeSetsAreMadeInSteps(t *testing.T) {
	in := story(1<<31-1, "", func(s *appsv1.StatefulSet) {
		s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
		s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: 1<<31 - 1}
	})
	if p := decide(in); len(p.create) != burst || p.create[0].ordinal != 1<<31-1 || p.create[burst-1].ordinal != 1<<31-2+burst {
		t.Errorf("%d pods in one step", len(p.create))
	}
}

func TestTheStatusCountsPods(t *testing.T) {
	in := story(4, "0=old 1=old! 2=new 3=new~ 4=given")
	s := decide(in).status
	want := appsv1.StatefulSetStatus{ObservedGeneration: 1, Replicas: 5, ReadyReplicas: 3, AvailableReplicas: 3, CurrentReplicas: 2, UpdatedReplicas: 1,
		CurrentRevision: "old", UpdateRevision: "new"}
	s.Conditions = nil
	if fmt.Sprint(*s) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", *s, want)
	}
	s = decide(story(2, "0=new 1=new")).status
	if s.CurrentRevision != "new" || s.CurrentReplicas != 2 {
		t.Errorf("a complete update: %+v", *s)
	}
}

func TestNamesOfPods(t *testing.T) {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "web-2"}}
	for name, want := range map[string]int{"web-2-0": 0, "web-2-17": 17, "web-2-01": -1, "web-2-": -1, "web-2--1": -1, "web-2": -1, "web-3-1": -1, "web-2-a": -1, "web-2-1-1": -1} {
		got, ok := ordinalOf(set, name)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%s is of ordinal %d", name, got)
		}
	}
}
