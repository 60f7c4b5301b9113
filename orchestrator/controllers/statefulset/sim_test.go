package statefulset_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/reconciletest"
	"github.com/pintle/pintle/orchestrator/controllers/statefulset"
)

// sim runs the controller step by step with a kubelet that makes pods ready unless their image says otherwise.
type sim struct {
	t     *testing.T
	fake  *reconciletest.Fake
	clock *clocktesting.FakeClock
	c     *reconcile.Controller
	rng   *rand.Rand
	check func()
	wrote func(verb string, gvr schema.GroupVersionResource, o api.Object)
	// faulty stops the controller anywhere: each of its calls fails by that chance, before or after it was done.
	faulty float64
	seed   uint64
}

func newSim(t *testing.T, seed uint64) *sim {
	c := clocktesting.NewFakeClock(time.Unix(1_700_000_000, 0))
	s := &sim{t: t, clock: c, fake: reconciletest.New(c.Now), rng: rand.New(rand.NewPCG(seed, 2)), seed: seed}
	s.fake.OnWrite(func(verb string, gvr schema.GroupVersionResource, o api.Object) error {
		if s.wrote != nil {
			s.wrote(verb, gvr, o)
		}
		return nil
	})
	s.restart()
	return s
}

// restart is another leader: nothing is left but what is stored.
func (s *sim) restart() {
	env := reconcile.Env{Client: s.fake, Clock: s.clock}
	if s.faulty > 0 {
		s.seed++
		env.Client = s.fake.Faulty(reconciletest.Faults{Error: s.faulty, Lost: s.faulty, Conflict: s.faulty}, s.seed)
	}
	s.c = statefulset.New(env, nil, 1)
}

func (s *sim) create(replicas int32, image string, edit ...func(*appsv1.StatefulSet)) {
	l := map[string]string{"app": "web"}
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Spec: appsv1.StatefulSetSpec{Replicas: &replicas, ServiceName: "nginx", Selector: &metav1.LabelSelector{MatchLabels: l},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}}}}
	for _, f := range edit {
		f(set)
	}
	api.ByGVR(api.All(), reconcile.StatefulSets()).Default(set)
	if _, err := s.fake.Create(context.Background(), reconcile.StatefulSets(), set); err != nil {
		s.t.Fatal(err)
	}
}

func parallel(set *appsv1.StatefulSet) { set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement }

func withClaims(whenDeleted, whenScaled appsv1.PersistentVolumeClaimRetentionPolicyType) func(*appsv1.StatefulSet) {
	return func(set *appsv1.StatefulSet) {
		set.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: whenDeleted, WhenScaled: whenScaled}
		set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "www"}, Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}}}
	}
}

func (s *sim) get() *appsv1.StatefulSet {
	o, err := s.fake.Get(context.Background(), reconcile.StatefulSets(), "ns", "web")
	if err != nil {
		s.t.Fatal(err)
	}
	return o.(*appsv1.StatefulSet)
}

func (s *sim) change(f func(*appsv1.StatefulSet)) {
	set := s.get().DeepCopy()
	f(set)
	if _, err := s.fake.Update(context.Background(), reconcile.StatefulSets(), "", set); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sim) image(i string) {
	s.change(func(set *appsv1.StatefulSet) { set.Spec.Template.Spec.Containers[0].Image = i })
}

func (s *sim) scale(n int32) { s.change(func(set *appsv1.StatefulSet) { set.Spec.Replicas = &n }) }

func (s *sim) pods() []*corev1.Pod {
	pods, err := reconcile.List[*corev1.Pod](context.Background(), s.fake, reconcile.Pods(), "ns", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return pods
}

func (s *sim) pod(name string) *corev1.Pod {
	p, err := reconcile.Get[*corev1.Pod](context.Background(), s.fake, reconcile.Pods(), "ns", name)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *sim) status(p *corev1.Pod, f func(*corev1.PodStatus)) {
	n := p.DeepCopy()
	f(&n.Status)
	if _, err := s.fake.Update(context.Background(), reconcile.Pods(), "status", n); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sim) setReady(p *corev1.Pod, ready bool) {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	s.status(p, func(st *corev1.PodStatus) {
		st.Phase = corev1.PodRunning
		st.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(s.clock.Now())}}
	})
}

func (s *sim) fail(p *corev1.Pod) {
	s.status(p, func(st *corev1.PodStatus) {
		st.Phase, st.Reason = corev1.PodFailed, "Evicted"
		st.Conditions = nil
	})
}

func (s *sim) kubelet(p *corev1.Pod) {
	ctx := context.Background()
	if p.DeletionTimestamp != nil {
		_ = s.fake.Delete(ctx, reconcile.Pods(), p.Namespace, p.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
		return
	}
	if p.Spec.NodeName == "" {
		n := p.DeepCopy()
		n.Spec.NodeName = "n1"
		_, _ = s.fake.Update(ctx, reconcile.Pods(), "", n)
		return
	}
	if reconcile.PodTerminal(p) {
		return
	}
	switch img := p.Spec.Containers[0].Image; {
	case strings.HasPrefix(img, "crash"):
		s.status(p, func(st *corev1.PodStatus) {
			st.Phase, st.ContainerStatuses = corev1.PodRunning, []corev1.ContainerStatus{{Name: "c", RestartCount: 3}}
		})
	case strings.HasPrefix(img, "never"):
		s.status(p, func(st *corev1.PodStatus) { st.Phase = corev1.PodRunning })
	default:
		if ok, _ := reconcile.PodReady(p); !ok {
			s.setReady(p, true)
		}
	}
}

func (s *sim) reconcile() {
	_, err := s.c.Reconcile(context.Background(), reconcile.Key{Namespace: "ns", Name: "web"})
	if err != nil && s.faulty == 0 && !apierrors.IsConflict(err) {
		s.t.Fatal(err)
	}
}

func (s *sim) run(steps int) {
	for range steps {
		if s.rng.IntN(2) == 0 {
			s.reconcile()
		} else if pods := s.pods(); len(pods) > 0 {
			s.kubelet(pods[s.rng.IntN(len(pods))])
		}
		if s.check != nil {
			s.check()
		}
	}
}

func (s *sim) names() string {
	var out []string
	for _, p := range s.pods() {
		out = append(out, p.Name)
	}
	return strings.Join(out, " ")
}

func (s *sim) condition(t string) *appsv1.StatefulSetCondition {
	for _, c := range s.get().Status.Conditions {
		if string(c.Type) == t {
			return &c
		}
	}
	return nil
}

func (s *sim) wantComplete(image string) {
	s.t.Helper()
	set := s.get()
	if got := set.Spec.Template.Spec.Containers[0].Image; got != image {
		s.t.Fatalf("the template's image is %s, want %s", got, image)
	}
	n, st := *set.Spec.Replicas, set.Status
	if st.Replicas != n || st.ReadyReplicas != n || st.AvailableReplicas != n || st.UpdatedReplicas != n || st.CurrentReplicas != n || st.CurrentRevision != st.UpdateRevision {
		s.t.Fatalf("not complete: %+v\n%s", st, s.names())
	}
	for _, p := range s.pods() {
		if p.Spec.Containers[0].Image != image || p.Labels[appsv1.ControllerRevisionHashLabelKey] != st.UpdateRevision {
			s.t.Fatalf("%s is of %s, revision %s", p.Name, p.Spec.Containers[0].Image, p.Labels[appsv1.ControllerRevisionHashLabelKey])
		}
	}
}

func ordinal(name string) (n int) {
	_, _ = fmt.Sscanf(name, "web-%d", &n)
	return n
}

// From the tutorial "StatefulSet Basics": web-0 first, web-1 once it is ready; with names, host names and labels.
func TestPodsComeInOrderEachWithItsIdentity(t *testing.T) {
	s := newSim(t, 1)
	s.create(3, "v1", withClaims("Retain", "Retain"))
	for i, want := range []string{"web-0", "web-0 web-1", "web-0 web-1 web-2"} {
		for range 4 { // nothing else happens until it is ready
			s.reconcile()
		}
		if got := s.names(); got != want {
			t.Fatalf("step %d: %s", i, got)
		}
		p := s.pods()[i]
		if p.Spec.Hostname != p.Name || p.Spec.Subdomain != "nginx" || p.Labels["statefulset.kubernetes.io/pod-name"] != p.Name ||
			p.Labels["apps.kubernetes.io/pod-index"] != fmt.Sprint(i) || p.Labels["controller-revision-hash"] != s.get().Status.UpdateRevision {
			t.Errorf("identity: %+v %+v", p.ObjectMeta, p.Spec)
		}
		if v := p.Spec.Volumes; len(v) != 1 || v[0].Name != "www" || v[0].PersistentVolumeClaim.ClaimName != "www-"+p.Name {
			t.Errorf("volumes: %+v", v)
		}
		claim, err := reconcile.Get[*corev1.PersistentVolumeClaim](context.Background(), s.fake, reconcile.PersistentVolumeClaims(), "ns", "www-"+p.Name)
		if err != nil || claim == nil || claim.Labels["app"] != "web" || len(claim.OwnerReferences) > 0 {
			t.Errorf("claim: %+v %v", claim, err)
		}
		s.kubelet(p)
		s.kubelet(s.pods()[i])
	}
	s.run(50)
	s.wantComplete("v1")
}

// The tutorial's scale down: web-2 first, web-1 only when it is gone, and not while web-0 isn't ready.
func TestPodsEndInReverseOrder(t *testing.T) {
	s := newSim(t, 1)
	s.create(3, "v1")
	s.run(200)
	s.wantComplete("v1")
	s.scale(1)
	for range 4 {
		s.reconcile()
	}
	if s.pod("web-2").DeletionTimestamp == nil || s.pod("web-1").DeletionTimestamp != nil {
		t.Fatal("web-2 isn't the one that ends")
	}
	s.setReady(s.pod("web-0"), false)
	s.kubelet(s.pod("web-2"))
	for range 4 {
		s.reconcile()
	}
	if s.pod("web-1").DeletionTimestamp != nil {
		t.Fatal("web-1 ends while web-0 isn't ready")
	}
	s.setReady(s.pod("web-0"), true)
	s.run(100)
	s.wantComplete("v1")
}

// As the conformance test "should halt if any stateful pod is unhealthy".
func TestScalingHaltsWhileAPodIsUnhealthy(t *testing.T) {
	s := newSim(t, 1)
	s.create(1, "v1")
	s.run(50)
	s.setReady(s.pod("web-0"), false)
	s.scale(3)
	for range 5 {
		s.reconcile()
	}
	if got := s.names(); got != "web-0" {
		t.Fatalf("scaled up past an unhealthy pod: %s", got)
	}
	s.setReady(s.pod("web-0"), true)
	s.run(200)
	s.wantComplete("v1")
	for _, p := range s.pods() {
		s.setReady(p, false)
	}
	s.scale(0)
	for range 5 {
		s.reconcile()
	}
	for _, p := range s.pods() {
		if p.DeletionTimestamp != nil {
			t.Fatalf("%s ends although none is healthy", p.Name)
		}
	}
	for _, p := range s.pods() {
		s.setReady(p, true)
	}
	var ended []string
	s.check = func() {
		for _, p := range s.pods() {
			if p.DeletionTimestamp != nil && !slices.Contains(ended, p.Name) {
				ended = append(ended, p.Name)
			}
		}
	}
	s.run(100)
	if got := strings.Join(ended, " "); got != "web-2 web-1 web-0" {
		t.Errorf("they ended in the order %s", got)
	}
}

func TestParallelWaitsForNobody(t *testing.T) {
	s := newSim(t, 1)
	s.create(4, "never", parallel)
	s.reconcile()
	if got := s.names(); got != "web-0 web-1 web-2 web-3" {
		t.Fatalf("after one step there are %s", got)
	}
	s.scale(1)
	s.reconcile()
	if got := s.names(); got != "web-0" { // pods without a node are gone at once
		t.Fatalf("after one step there are %s", got)
	}
}

func TestOrdinalsMayStartElsewhere(t *testing.T) {
	s := newSim(t, 1)
	s.create(3, "v1", func(set *appsv1.StatefulSet) { set.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: 5} })
	s.run(200)
	if got := s.names(); got != "web-5 web-6 web-7" {
		t.Fatalf("there are %s", got)
	}
	s.change(func(set *appsv1.StatefulSet) { set.Spec.Ordinals.Start = 6 })
	s.run(200)
	if got := s.names(); got != "web-6 web-7 web-8" {
		t.Fatalf("after the start moved there are %s", got)
	}
}

// The tutorial's staged update: with partition 3 nothing is updated, with 2 web-2 alone, and a pod below the partition
// comes back as it was.
func TestAPartitionStagesAnUpdate(t *testing.T) {
	s := newSim(t, 1)
	s.create(3, "v1", func(set *appsv1.StatefulSet) {
		set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: "RollingUpdate", RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To[int32](3)}}
	})
	s.run(200)
	images := func(want string) {
		t.Helper()
		var got []string
		for _, p := range s.pods() {
			got = append(got, p.Spec.Containers[0].Image)
		}
		if strings.Join(got, " ") != want {
			t.Fatalf("images are %v, want %s", got, want)
		}
	}
	s.image("v2")
	s.run(100)
	images("v1 v1 v1")
	_ = s.fake.Delete(context.Background(), reconcile.Pods(), "ns", "web-2", metav1.DeleteOptions{})
	s.run(100)
	images("v1 v1 v1")
	partition := func(n int32) {
		s.change(func(set *appsv1.StatefulSet) { set.Spec.UpdateStrategy.RollingUpdate.Partition = &n })
	}
	partition(2)
	s.run(100)
	images("v1 v1 v2")
	if st := s.get().Status; st.UpdatedReplicas != 1 || st.CurrentReplicas != 2 || st.CurrentRevision == st.UpdateRevision {
		t.Errorf("status of a canary: %+v", st)
	}
	_ = s.fake.Delete(context.Background(), reconcile.Pods(), "ns", "web-1", metav1.DeleteOptions{})
	s.run(100)
	images("v1 v1 v2")
	partition(0)
	s.run(200)
	s.wantComplete("v2")
}

func TestOnDeleteLeavesItToPeople(t *testing.T) {
	s := newSim(t, 1)
	s.create(2, "v1", func(set *appsv1.StatefulSet) {
		set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: "OnDelete"}
	})
	s.run(100)
	s.image("v2")
	s.run(100)
	if got := s.pod("web-1").Spec.Containers[0].Image; got != "v1" {
		t.Fatalf("web-1 is of %s", got)
	}
	for _, name := range []string{"web-0", "web-1"} {
		_ = s.fake.Delete(context.Background(), reconcile.Pods(), "ns", name, metav1.DeleteOptions{})
		s.run(60)
	}
	s.wantComplete("v2")
}

func TestAnEvictedPodComesBackAsItself(t *testing.T) {
	s := newSim(t, 1)
	s.create(3, "v1")
	s.run(200)
	before := s.pod("web-1").UID
	s.fail(s.pod("web-1"))
	s.run(60)
	s.wantComplete("v1")
	if s.pod("web-1").UID == before {
		t.Error("the failed pod is still there")
	}
	// One that fails again at once waits, longer each time.
	for range 6 {
		for p := s.pod("web-1"); p != nil && !reconcile.PodTerminal(p); p = s.pod("web-1") {
			s.fail(p)
		}
		s.reconcile()
		s.reconcile()
	}
	if p := s.pod("web-1"); p == nil || !reconcile.PodTerminal(p) {
		t.Error("a pod that fails at once is replaced without end")
	}
	s.clock.Step(time.Minute)
	s.run(60)
	s.wantComplete("v1")
}

func TestPodsAreAdoptedAndReleasedBySelectorAndName(t *testing.T) {
	s := newSim(t, 1)
	ctx := context.Background()
	for _, name := range []string{"web-1", "other", "web-01"} {
		_, _ = s.fake.Create(ctx, reconcile.Pods(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{"app": "web"}},
			Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c", Image: "v1"}}}})
	}
	s.create(2, "v1")
	s.run(200)
	if p := s.pod("web-1"); metav1.GetControllerOf(p) == nil || p.Labels["apps.kubernetes.io/pod-index"] != "1" {
		t.Errorf("web-1 wasn't adopted: %+v", p.ObjectMeta)
	}
	for _, name := range []string{"other", "web-01"} {
		if metav1.GetControllerOf(s.pod(name)) != nil {
			t.Errorf("%s was adopted", name)
		}
	}
	p := s.pod("web-0").DeepCopy()
	p.Labels["app"] = "debug"
	if _, err := s.fake.Update(ctx, reconcile.Pods(), "", p); err != nil {
		t.Fatal(err)
	}
	_, _ = s.c.Reconcile(ctx, reconcile.Key{Namespace: "ns", Name: "web"}) // its name is taken: an error, and no second pod
	if p := s.pod("web-0"); metav1.GetControllerOf(p) != nil {
		t.Error("web-0 wasn't released")
	}
}

func TestClaimsGoAsThePolicySays(t *testing.T) {
	for _, policy := range [][2]appsv1.PersistentVolumeClaimRetentionPolicyType{{"Retain", "Retain"}, {"Retain", "Delete"}, {"Delete", "Retain"}, {"Delete", "Delete"}} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			s := newSim(t, 1)
			s.create(2, "v1", withClaims(policy[0], policy[1]))
			s.run(200)
			owner := func(name string) string {
				c, err := reconcile.Get[*corev1.PersistentVolumeClaim](context.Background(), s.fake, reconcile.PersistentVolumeClaims(), "ns", name)
				if err != nil || c == nil {
					t.Fatalf("%s: %v", name, err)
				}
				if len(c.OwnerReferences) == 0 {
					return ""
				}
				return c.OwnerReferences[0].Kind
			}
			set := map[bool]string{true: "StatefulSet"}[policy[0] == "Delete"]
			if got := owner("www-web-1"); got != set {
				t.Errorf("a claim in use belongs to %q", got)
			}
			s.image("v2") // no update takes claims along
			s.run(200)
			s.wantComplete("v2")
			if got := owner("www-web-1"); got != set {
				t.Errorf("after an update it belongs to %q", got)
			}
			s.scale(1)
			s.reconcile()
			scaled := set
			if policy[1] == "Delete" {
				scaled = "Pod"
			}
			if got := owner("www-web-1"); got != scaled {
				t.Errorf("the claim of a condemned pod belongs to %q", got)
			}
			if got := owner("www-web-0"); got != set {
				t.Errorf("the other claim belongs to %q", got)
			}
			s.scale(2) // before the pod has ended: its claim stays
			s.reconcile()
			if got := owner("www-web-1"); got != set {
				t.Errorf("after it was scaled back it belongs to %q", got)
			}
			s.scale(1)
			s.reconcile()
			s.run(100)
			s.scale(2) // after: the next pod waits until the claim is gone
			s.run(20)
			if policy[1] == "Delete" {
				if s.pod("web-1") != nil {
					t.Error("web-1 got the claim of the pod that was scaled away")
				}
				_ = s.fake.Delete(context.Background(), reconcile.PersistentVolumeClaims(), "ns", "www-web-1", metav1.DeleteOptions{})
			}
			s.run(100)
			s.wantComplete("v2")
		})
	}
}

func TestHistoryIsKeptToItsLimitAndCountsOn(t *testing.T) {
	s := newSim(t, 1)
	s.create(1, "v0", func(set *appsv1.StatefulSet) { set.Spec.RevisionHistoryLimit = ptr.To[int32](2) })
	for i := range 5 {
		s.image(fmt.Sprintf("v%d", i))
		s.run(80)
		s.clock.Step(11 * time.Minute) // probation is over
	}
	s.image("v3") // comes back
	s.run(80)
	s.clock.Step(11 * time.Minute)
	s.run(80)
	s.wantComplete("v3")
	revisions, _ := reconcile.List[*appsv1.ControllerRevision](context.Background(), s.fake, reconcile.ControllerRevisions(), "ns", nil)
	var numbers []int64
	for _, r := range revisions {
		numbers = append(numbers, r.Revision)
		if r.Name == s.get().Status.CurrentRevision && r.Revision != 6 {
			t.Errorf("the revision that came back has number %d", r.Revision)
		}
	}
	slices.Sort(numbers)
	if !slices.Equal(numbers, []int64{3, 5, 6}) {
		t.Errorf("revisions %v", numbers)
	}
}

func TestARevisionOfTheSameNameCountsACollision(t *testing.T) {
	s := newSim(t, 1)
	s.create(1, "v1")
	s.run(50)
	rev := s.get().Status.UpdateRevision
	s.fake.OnWrite(nil)
	_ = s.fake.Delete(context.Background(), reconcile.ControllerRevisions(), "ns", rev, metav1.DeleteOptions{})
	_, _ = s.fake.Create(context.Background(), reconcile.ControllerRevisions(), &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: rev}, Revision: 1})
	s.run(50)
	if st := s.get().Status; st.CollisionCount == nil || *st.CollisionCount != 1 || st.UpdateRevision == rev {
		t.Errorf("%+v", st)
	}
}

func TestMinReadySecondsHoldTheNextPodBack(t *testing.T) {
	s := newSim(t, 1)
	s.create(2, "v1", func(set *appsv1.StatefulSet) { set.Spec.MinReadySeconds = 30 })
	s.run(50)
	if got := s.names(); got != "web-0" {
		t.Fatalf("there are %s", got)
	}
	if st := s.get().Status; st.ReadyReplicas != 1 || st.AvailableReplicas != 0 {
		t.Errorf("%+v", st)
	}
	s.clock.Step(31 * time.Second)
	s.run(50)
	s.clock.Step(31 * time.Second)
	s.run(50)
	s.wantComplete("v1")
}

func TestAnUpdateStaysAboveItsFloorAndInOrder(t *testing.T) {
	for _, policy := range []appsv1.PodManagementPolicyType{"OrderedReady", "Parallel"} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprint(policy, seed), func(t *testing.T) {
				s := newSim(t, seed)
				n := 2 + s.rng.IntN(5)
				most := 1 + s.rng.IntN(n-1)
				s.create(int32(n), "v1", func(set *appsv1.StatefulSet) {
					set.Spec.PodManagementPolicy = policy
					set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: "RollingUpdate",
						RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{MaxUnavailable: ptr.To(intstr.FromInt(most))}}
				})
				s.run(600)
				s.wantComplete("v1")
				s.check = func() {
					serving, lowestNew := 0, n
					for _, p := range s.pods() {
						if ok, _ := reconcile.PodReady(p); ok && reconcile.PodActive(p) {
							serving++
						}
						if p.Spec.Containers[0].Image == "v2" {
							lowestNew = min(lowestNew, ordinal(p.Name))
						}
					}
					if serving < n-most {
						t.Fatalf("%d pods serve of %d, at most %d may be missing", serving, n, most)
					}
					for _, p := range s.pods() { // all after an updated pod are updated, or on their way
						if p.Spec.Containers[0].Image == "v1" && ordinal(p.Name) > lowestNew && p.DeletionTimestamp == nil {
							t.Fatalf("%s is still of v1, web-%d was updated before it", p.Name, lowestNew)
						}
					}
				}
				s.image("v2")
				s.run(1500)
				s.check = nil
				s.wantComplete("v2")
			})
		}
	}
}

func (s *sim) drop(claim string) {
	if err := s.fake.Delete(context.Background(), reconcile.PersistentVolumeClaims(), "ns", claim, metav1.DeleteOptions{}); err != nil {
		s.t.Fatal(err)
	}
}
