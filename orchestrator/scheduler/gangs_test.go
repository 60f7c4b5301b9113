package scheduler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/orchestrator/api"
)

// quiet is a fakeClient that stores everything, ends pods at once, and keeps nobody waiting.
type quiet struct {
	*fakeClient
	said  []string // events: reason and message
	order []string // pods in the order in which they were bound
	fails map[string]int
}

func newQuiet(nodes ...*corev1.Node) *quiet {
	q := &quiet{fakeClient: newFakeClient(), fails: map[string]int{}}
	for _, n := range nodes {
		q.put("nodes", n, watch.Added)
	}
	q.put("namespaces", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, watch.Added)
	return q
}

func (q *quiet) Create(_ context.Context, _ schema.GroupVersionResource, obj api.Object) (api.Object, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := obj.(*corev1.Event)
	q.said = append(q.said, e.InvolvedObject.Name+" "+e.Reason+": "+e.Message)
	return obj, nil
}

func (q *quiet) Update(_ context.Context, gvr schema.GroupVersionResource, _ string, obj api.Object) (api.Object, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	have := q.objects[gvr.Resource][obj.GetNamespace()+"/"+obj.GetName()]
	if have == nil || have.GetResourceVersion() != obj.GetResourceVersion() {
		return nil, apierrors.NewConflict(gvr.GroupResource(), obj.GetName(), nil)
	}
	q.store(gvr.Resource, obj, watch.Modified)
	return obj, nil
}

func (q *quiet) Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, _ metav1.DeleteOptions) error {
	obj, err := q.Get(ctx, gvr, namespace, name)
	if err == nil {
		q.put(gvr.Resource, obj, watch.Deleted)
	}
	return err
}

func (q *quiet) Bind(ctx context.Context, namespace, name string, _ types.UID, node string, _ map[string]string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fails[name] > 0 {
		q.fails[name]--
		return apierrors.NewConflict(podsResource.GroupResource(), name, nil)
	}
	obj := q.objects["pods"][namespace+"/"+name]
	if obj == nil {
		return apierrors.NewNotFound(podsResource.GroupResource(), name)
	}
	changed := obj.DeepCopyObject().(*corev1.Pod)
	changed.Spec.NodeName = node
	q.order = append(q.order, name)
	q.store("pods", changed, watch.Modified)
	return nil
}

// on are the pods that have nodes, by the start of their names.
func (q *quiet) on(prefix string) (out []*corev1.Pod) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, obj := range q.objects["pods"] {
		if p := obj.(*corev1.Pod); strings.HasPrefix(p.Name, prefix) && p.Spec.NodeName != "" && p.Status.Phase != corev1.PodFailed {
			out = append(out, p)
		}
	}
	return out
}

func (q *quiet) has(text string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(q.said, func(s string) bool { return strings.Contains(s, text) })
}

func group1(name string, least int32, change ...func(*schedulingv1beta1.PodGroup)) *schedulingv1beta1.PodGroup {
	g := &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	g.Spec.SchedulingPolicy.Gang = &schedulingv1beta1.GangSchedulingPolicy{MinCount: least}
	for _, f := range change {
		f(g)
	}
	return g
}

func disruptedTogether(g *schedulingv1beta1.PodGroup) {
	g.Spec.DisruptionMode = &schedulingv1beta1.DisruptionMode{All: &schedulingv1beta1.AllDisruptionMode{}}
}

// member is a pod of a group, made now.
func member(group, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := pod(name, "1", change...)
	p.Spec.SchedulingGroup = &corev1.PodSchedulingGroup{PodGroupName: &group}
	p.CreationTimestamp = metav1.NewTime(time.Now())
	return p
}

// running runs a scheduler while f drives it, in made-up time.
func running(t *testing.T, q *quiet, f func(t *testing.T, settle func())) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Client: q})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		<-s.Ready()
		f(t, func() { time.Sleep(30 * time.Second); synctest.Wait() })
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAGangWhoseBindingFailsIsCompleted(t *testing.T) {
	q := newQuiet(node("a", "4"))
	q.put("podgroups", group1("g", 4), watch.Added)
	q.fails["g-2"] = 2
	running(t, q, func(t *testing.T, settle func()) {
		for i := range 4 {
			q.put("pods", member("g", fmt.Sprint("g-", i)), watch.Added)
		}
		settle()
		if n := len(q.on("g")); n != 4 {
			t.Errorf("%d members are on nodes", n)
		}
		g, _ := q.Get(t.Context(), podGroupsResource(), "default", "g")
		if !meta.IsStatusConditionTrue(g.(*schedulingv1beta1.PodGroup).Status.Conditions, schedulingv1beta1.PodGroupInitiallyScheduled) {
			t.Errorf("the group says %+v", g.(*schedulingv1beta1.PodGroup).Status)
		}
	})
}

// A scheduler that ended between two bindings left two half gangs behind. The next one has neither room for the rest of both
// nor lets them wait for each other for ever.
func TestHalvesOfTwoGangsDontWaitForEachOther(t *testing.T) {
	q := newQuiet(node("a", "4"))
	bound := func(p *corev1.Pod) { p.Spec.NodeName = "a" }
	for _, name := range []string{"g", "h"} {
		q.put("podgroups", group1(name, 4), watch.Added)
	}
	running(t, q, func(t *testing.T, settle func()) {
		for _, name := range []string{"g", "h"} {
			for i := range 4 {
				if i < 2 {
					q.put("pods", member(name, fmt.Sprint(name, "-", i), bound), watch.Added)
				} else {
					q.put("pods", member(name, fmt.Sprint(name, "-", i)), watch.Added)
				}
			}
		}
		settle()
		if len(q.on("g")) != 2 || len(q.on("h")) != 2 {
			t.Fatalf("%d and %d are on nodes", len(q.on("g")), len(q.on("h")))
		}
		for range 10 {
			settle()
			for _, name := range []string{"g", "h"} { // their owner makes anew what is ended
				for i := range 2 {
					if _, err := q.Get(t.Context(), podsResource, "default", fmt.Sprint(name, "-", i)); err != nil {
						p := member(name, fmt.Sprint(name, "-", i))
						p.UID += types.UID(fmt.Sprint(time.Now().Unix()))
						q.put("pods", p, watch.Added)
					}
				}
			}
		}
		if g, h := len(q.on("g")), len(q.on("h")); g+h != 4 || g*h != 0 {
			t.Errorf("%d and %d are on nodes", g, h)
		}
		if !q.has("has had only 2 of 4 members on nodes") {
			t.Errorf("nobody is told: %q", q.said)
		}
	})
}

func TestTheQueueOfTheLeastShareGoesFirst(t *testing.T) {
	q := newQuiet()
	// Neither has a quota of its own, to be taken back: they borrow c's.
	for name, weight := range map[string]int32{"a": 1, "b": 3, "c": 1} {
		quota := corev1.ResourceList{"cpu": resource.MustParse(map[string]string{"a": "0", "b": "0", "c": "8"}[name])}
		q.put("namespaces", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, watch.Added)
		q.put("queues", &api.Queue{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: api.QueueSpec{Cohort: "all", Weight: weight, NominalQuota: quota}}, watch.Added)
	}
	for i := range 8 {
		for _, name := range []string{"a", "b"} {
			p := pod(fmt.Sprint(name, i), "1")
			p.Namespace, p.CreationTimestamp = name, metav1.Unix(int64(100*len(name)+i), 0)
			if name == "a" {
				p.Spec.Priority = new(int32)
				*p.Spec.Priority = 7 // of no use against another queue's share
			}
			q.put("pods", p, watch.Added)
		}
	}
	q.put("nodes", node("n", "8"), watch.Added)
	running(t, q, func(t *testing.T, settle func()) {
		settle()
		counts := map[byte]int{}
		for _, p := range q.on("") {
			counts[p.Name[0]]++
		}
		// 8 are shared 2 to 6: then both have a quarter of the cohort's by their weight.
		if counts['a'] != 2 || counts['b'] != 6 {
			t.Errorf("on nodes are %v, in the order %v", counts, q.order)
		}
		if !q.has("queue a: 2 of 0 cpu used, 1 wanted, cohort all has none to lend") {
			t.Errorf("nobody is told: %q", q.said[max(0, len(q.said)-3):])
		}
	})
}

// Gangs whose pods come in any order, of which some fail and are made anew: whenever nothing is being done each gang is on nodes
// whole or not at all, no node has too much, and at the end every gang has had its turn.
func TestGangsAreWholeOrNotThereWhateverHappens(t *testing.T) {
	for seed := range uint64(25) {
		rnd := rand.New(rand.NewPCG(seed, 10))
		q := newQuiet(node("a", "3"), node("b", "3"), node("c", "2"))
		sizes := map[string]int{}
		for i := range 2 + rnd.IntN(3) {
			name := fmt.Sprint("g", i, "-")
			sizes[name] = 1 + rnd.IntN(8)
			q.put("podgroups", group1(name, int32(sizes[name]), disruptedTogether), watch.Added)
		}
		names := slices.Sorted(func(yield func(string) bool) {
			for name := range sizes {
				if !yield(name) {
					return
				}
			}
		})
		made := 0
		// make1 makes what is missing of a gang, one or all of it.
		make1 := func(name string, all bool) {
			for i := range sizes[name] {
				key := fmt.Sprint(name, i)
				if _, err := q.Get(t.Context(), podsResource, "default", key); err == nil {
					continue
				}
				made++
				p := member(name, key)
				p.UID = types.UID(fmt.Sprint(key, "/", made))
				if q.put("pods", p, watch.Added); !all {
					return
				}
			}
		}
		running(t, q, func(t *testing.T, settle func()) {
			check := func() {
				t.Helper()
				used := map[string]int{}
				for _, p := range q.on("") {
					used[p.Spec.NodeName]++
				}
				if used["a"] > 3 || used["b"] > 3 || used["c"] > 2 {
					t.Fatalf("seed %d: nodes have %v", seed, used)
				}
				for _, name := range names {
					if n := len(q.on(name)); n != 0 && n != sizes[name] {
						t.Fatalf("seed %d: %d of %d of %s are on nodes", seed, n, sizes[name], name)
					}
				}
			}
			for range 40 {
				switch name := names[rnd.IntN(len(names))]; rnd.IntN(6) {
				case 0: // one fails; who owns it takes it away
					if on := q.on(name); len(on) > 0 {
						p := on[rnd.IntN(len(on))].DeepCopy()
						p.Status.Phase = corev1.PodFailed
						q.put("pods", p, watch.Modified)
						time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
						q.put("pods", p, watch.Deleted)
					}
				case 1: // one is deleted
					if on := q.on(name); len(on) > 0 {
						q.put("pods", on[rnd.IntN(len(on))], watch.Deleted)
					}
				case 2:
					make1(name, true)
				default:
					make1(name, false)
				}
				if rnd.IntN(2) == 0 {
					settle()
					check()
				}
			}
			had := map[string]bool{}
			for range 4 * len(names) {
				for _, name := range names {
					if !had[name] {
						make1(name, true)
					}
				}
				settle()
				settle()
				check()
				for _, name := range names {
					for _, p := range q.on(name) { // it has done its work
						had[name] = true
						q.put("pods", p, watch.Deleted)
					}
				}
			}
			if len(had) != len(names) {
				t.Fatalf("seed %d: of %v only %v had their turn", seed, sizes, had)
			}
		})
	}
}
