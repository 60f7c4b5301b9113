package deployment

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/api"
)

func at(d time.Duration) time.Time { return time.Unix(1_700_000_000, 0).Add(d) }

func aDeployment(n int32, image string, edit ...func(*appsv1.Deployment)) *appsv1.Deployment {
	l := map[string]string{"app": "web"}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "d", Generation: 1},
		Spec: appsv1.DeploymentSpec{Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: l}, ProgressDeadlineSeconds: ptr.To[int32](60),
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}}}
	for _, f := range edit {
		f(d)
	}
	return d
}

// aSet is a set of d with another image, of size n, at a revision; its status is what its pods are.
func aSet(d *appsv1.Deployment, image string, n int32, rev int) *appsv1.ReplicaSet {
	c := d.DeepCopy()
	c.Spec.Template.Spec.Containers[0].Image = image
	rs := newSet(c, int64(rev))
	rs.UID, rs.Spec.Replicas = types.UID(image), &n
	rs.CreationTimestamp = metav1.NewTime(at(time.Duration(rev) * time.Minute))
	rs.Status = appsv1.ReplicaSetStatus{Replicas: n, ReadyReplicas: n, AvailableReplicas: n}
	return rs
}

func podsFor(sets ...*appsv1.ReplicaSet) map[string][]*corev1.Pod {
	out := map[string][]*corev1.Pod{}
	for _, rs := range sets {
		for i := range replicasOf(rs.Spec.Replicas) {
			out[string(rs.UID)] = append(out[string(rs.UID)], &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(rs.Name, i)}, Status: corev1.PodStatus{Phase: corev1.PodRunning,
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}})
		}
	}
	return out
}

// sizes tells what a plan makes of the sets, by image.
func (p plan) sizes() string {
	var out []string
	if p.create != nil {
		out = append(out, fmt.Sprintf("+%s=%d", p.create.Spec.Template.Spec.Containers[0].Image, *p.create.Spec.Replicas))
	}
	for _, rs := range p.update {
		out = append(out, fmt.Sprintf("%s=%d", rs.Spec.Template.Spec.Containers[0].Image, *rs.Spec.Replicas))
	}
	return strings.Join(out, " ")
}

func recreating(d *appsv1.Deployment) { d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType }
func paused(d *appsv1.Deployment)     { d.Spec.Paused = true }

func rolling(surge, unavailable int) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: ptr.To(intstr.FromInt(surge)), MaxUnavailable: ptr.To(intstr.FromInt(unavailable))}
	}
}

func TestDecideSizes(t *testing.T) {
	type size struct {
		image string
		n     int32
	}
	for name, c := range map[string]struct {
		d    *appsv1.Deployment
		sets []size
		pods func(map[string][]*corev1.Pod)
		want string
	}{
		"the first set is made at full size":        {d: aDeployment(3, "v1"), want: "+v1=3"},
		"a rolling update begins within the surge":  {d: aDeployment(3, "v2", rolling(1, 0)), sets: []size{{"v1", 3}}, want: "+v2=1"},
		"no surge: the new set begins empty":        {d: aDeployment(3, "v2", rolling(0, 1)), sets: []size{{"v1", 3}}, want: "+v2=0"},
		"no surge: old pods go first":               {d: aDeployment(3, "v2", rolling(0, 1)), sets: []size{{"v1", 3}, {"v2", 0}}, want: "v1=2"},
		"a ready new pod lets an old one go":        {d: aDeployment(3, "v2", rolling(1, 0)), sets: []size{{"v1", 3}, {"v2", 1}}, want: "v1=2"},
		"recreate: the old set goes before the new": {d: aDeployment(3, "v2", recreating), sets: []size{{"v1", 3}}, want: "v1=0"},
		"recreate: waits while an old pod runs":     {d: aDeployment(3, "v2", recreating), sets: []size{{"v1", 0}}, pods: func(m map[string][]*corev1.Pod) { m["v1"] = podsFor(aSet(aDeployment(1, "v1"), "v1", 1, 1))["v1"] }, want: ""},
		"recreate: waits while an old pod is ending": {d: aDeployment(3, "v2", recreating), sets: []size{{"v1", 0}}, pods: func(m map[string][]*corev1.Pod) {
			p := podsFor(aSet(aDeployment(1, "v1"), "v1", 1, 1))["v1"]
			p[0].DeletionTimestamp = ptr.To(metav1.NewTime(at(0)))
			m["v1"] = p
		}, want: ""},
		"recreate: a pod that has ended holds nobody": {d: aDeployment(3, "v2", recreating), sets: []size{{"v1", 0}}, pods: func(m map[string][]*corev1.Pod) {
			p := podsFor(aSet(aDeployment(1, "v1"), "v1", 1, 1))["v1"]
			p[0].Status.Phase = corev1.PodFailed
			m["v1"] = p
		}, want: "+v2=3"},
		"paused: no new set":                       {d: aDeployment(3, "v2", paused), sets: []size{{"v1", 3}}, want: ""},
		"paused: scaling still works":              {d: aDeployment(5, "v2", paused), sets: []size{{"v1", 3}}, want: "v1=5"},
		"paused: several sets grow by their share": {d: aDeployment(20, "v2", paused, rolling(0, 1)), sets: []size{{"v1", 8}, {"v2", 2}}, want: "v1=16 v2=4"},
	} {
		t.Run(name, func(t *testing.T) {
			in := input{deployment: c.d, now: at(time.Hour)}
			for i, s := range c.sets {
				rs := aSet(c.d, s.image, s.n, i+1)
				if replicasOf(c.d.Spec.Replicas) != 3 { // it was scaled since
					var was int32
					for _, s := range c.sets {
						was += s.n
					}
					setAnnotation(rs, annotationDesired, strconv.Itoa(int(was)))
					setAnnotation(rs, annotationMax, strconv.Itoa(int(was)))
				}
				in.sets = append(in.sets, rs)
			}
			in.pods = podsFor(in.sets...)
			if c.pods != nil {
				c.pods(in.pods)
			}
			p := decide(in)
			var got []string // only sizes that change count here
			for _, s := range strings.Fields(p.sizes()) {
				same := false
				for _, have := range c.sets {
					same = same || s == fmt.Sprintf("%s=%d", have.image, have.n)
				}
				if !same {
					got = append(got, s)
				}
			}
			if g := strings.Join(got, " "); g != c.want {
				t.Errorf("got %q, want %q", g, c.want)
			}
		})
	}
}

func TestProportionalScalingKeepsTheSumAndTheShares(t *testing.T) {
	for name, c := range map[string]struct {
		n, was int32 // desired, and the ceiling before
		surge  int
		sets   []int32
		want   []int32
	}{
		"up by half":                        {15, 10, 0, []int32{6, 4}, []int32{9, 6}},
		"up: the rest goes to the largest":  {11, 10, 0, []int32{7, 3}, []int32{8, 3}},
		"down to half":                      {5, 10, 0, []int32{6, 4}, []int32{3, 2}},
		"to nothing":                        {0, 10, 0, []int32{6, 4}, []int32{0, 0}},
		"the surge is shared, too":          {10, 5, 5, []int32{3, 2}, []int32{9, 6}},
		"three sets":                        {12, 6, 0, []int32{3, 2, 1}, []int32{6, 4, 2}},
		"an old set without a size remains": {20, 10, 0, []int32{10, 0}, []int32{20, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			d := aDeployment(c.n, "x", rolling(c.surge, 0))
			var sets []*appsv1.ReplicaSet
			for i, n := range c.sets {
				rs := aSet(d, fmt.Sprint("v", i), n, i+1)
				setAnnotation(rs, annotationMax, strconv.Itoa(int(c.was)))
				sets = append(sets, rs)
			}
			sizes := proportional(d, sets)
			for i, rs := range sets {
				if sizes[rs.Name] != c.want[i] {
					t.Errorf("set %d: %d, want %d", i, sizes[rs.Name], c.want[i])
				}
			}
		})
	}
}

// failing is v2 of a deployment, timed out, beside v1, which was available.
func failing(edit func(d *appsv1.Deployment, v1, v2 *appsv1.ReplicaSet)) input {
	d := aDeployment(1, "v2", rolling(1, 0))
	v1, v2 := aSet(d, "v1", 1, 1), aSet(d, "v2", 1, 2)
	v2.Status.ReadyReplicas, v2.Status.AvailableReplicas = 0, 0
	setAnnotation(v1, api.AnnotationAvailableSince, at(0).Format(time.RFC3339Nano))
	setAnnotation(v1, api.AnnotationAvailableRevision, "1")
	setCondition(&d.Status, appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonTimedOut, fmt.Sprintf("ReplicaSet %q has timed out progressing.", v2.Name), at(0), true)
	if edit != nil {
		edit(d, v1, v2)
	}
	pods := podsFor(v1)
	return input{deployment: d, sets: []*appsv1.ReplicaSet{v1, v2}, pods: pods, now: at(time.Hour)}
}

func completed(rs *appsv1.ReplicaSet, when time.Time) {
	setAnnotation(rs, api.AnnotationAvailableSince, when.Format(time.RFC3339Nano))
	setAnnotation(rs, api.AnnotationAvailableRevision, rs.Annotations[annotationRevision])
}

func TestARevisionThatFailedAfterAllIsNoTarget(t *testing.T) {
	in := failing(func(_ *appsv1.Deployment, _, v2 *appsv1.ReplicaSet) { completed(v2, at(time.Hour-time.Second)) })
	in.pods[string(in.sets[1].UID)] = []*corev1.Pod{{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "c", RestartCount: 3}}}}}
	p := decide(in)
	if len(p.update) != 1 || p.update[0].UID != "v2" || p.update[0].Annotations[api.AnnotationAvailableSince] != "" || rolledOut(p.update[0]) {
		t.Errorf("it keeps its marks: %+v", p.update)
	}
}

func TestDecideRollsBackOnlyWhereItIsDue(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(d *appsv1.Deployment, v1, v2 *appsv1.ReplicaSet)
		want bool
	}{
		"a missed deadline": {nil, true},
		"paused":            {func(d *appsv1.Deployment, _, _ *appsv1.ReplicaSet) { d.Spec.Paused = true }, false},
		"turned off": {func(d *appsv1.Deployment, _, _ *appsv1.ReplicaSet) {
			d.Annotations = map[string]string{api.AnnotationAutoRollback: "false"}
		}, false},
		"a rollback itself": {func(d *appsv1.Deployment, v1, v2 *appsv1.ReplicaSet) {
			d.Annotations = rolledBack(d, v1, v2, ReasonDeadline, "").Annotations
		}, false},
		"a verdict about another set": {func(d *appsv1.Deployment, v1, _ *appsv1.ReplicaSet) {
			setCondition(&d.Status, appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonTimedOut, fmt.Sprintf("ReplicaSet %q has timed out progressing.", v1.Name), at(0), true)
		}, false},
		"a rollout that completed once": {func(_ *appsv1.Deployment, _, v2 *appsv1.ReplicaSet) {
			setAnnotation(v2, api.AnnotationAvailableRevision, "2")
		}, false},
		"a crash soon after the rollout completed": {func(_ *appsv1.Deployment, _, v2 *appsv1.ReplicaSet) {
			completed(v2, at(time.Hour-59*time.Second))
		}, true},
		"a crash long after the rollout completed": {func(_ *appsv1.Deployment, _, v2 *appsv1.ReplicaSet) {
			completed(v2, at(time.Hour-61*time.Second))
		}, false},
		"nothing was ever available": {func(_ *appsv1.Deployment, v1, _ *appsv1.ReplicaSet) {
			delete(v1.Annotations, api.AnnotationAvailableSince)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			in := failing(c.edit)
			if strings.HasPrefix(name, "a crash") {
				v2 := in.sets[1]
				in.pods[string(v2.UID)] = []*corev1.Pod{{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "c", RestartCount: 3}}}}}
			}
			p := decide(in)
			back := p.spec != nil && p.spec.Spec.Template.Spec.Containers[0].Image == "v1"
			if back != c.want {
				t.Errorf("rolled back: %v, want %v", back, c.want)
			}
			if back && p.spec.Annotations[api.AnnotationRolledBackFrom] == "" {
				t.Error("no record of the rollback")
			}
		})
	}
}

func TestCleanupKeepsTheRevisionThatARollbackNeeds(t *testing.T) {
	in := failing(func(d *appsv1.Deployment, v1, v2 *appsv1.ReplicaSet) {
		d.Spec.RevisionHistoryLimit = ptr.To[int32](0)
		d.Status.Conditions = nil
		v1.Spec.Replicas = ptr.To[int32](0)
		v1.Status = appsv1.ReplicaSetStatus{}
		v2.Status = appsv1.ReplicaSetStatus{Replicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
	})
	in.pods = podsFor(in.sets...)
	if p := decide(in); len(p.remove) != 0 {
		t.Errorf("removed %s before the new revision was known to be available", p.remove[0].Name)
	}
	completed(in.sets[1], in.now)
	p := decide(in)
	if len(p.remove) != 0 {
		t.Errorf("removed %s while the new revision was on probation", p.remove[0].Name)
	}
	if p.again <= 0 || p.again > time.Minute {
		t.Errorf("looks again in %v", p.again)
	}
	in.now = in.now.Add(p.again)
	if p := decide(in); len(p.remove) != 1 {
		t.Errorf("%d sets removed beyond the history limit, want 1", len(p.remove))
	}
}
