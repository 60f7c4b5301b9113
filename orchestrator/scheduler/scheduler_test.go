package scheduler

import (
	"context"
	"strconv"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"go.uber.org/goleak"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeClient stores objects and feeds watches with an unbounded order of changes.
type fakeClient struct {
	mu          sync.Mutex
	objects     map[string]map[string]api.Object // resource, namespace/name
	watches     map[string][]chan watch.Event
	bindings    []string
	bound       chan string
	conflict    int // that many bindings fail
	events      chan *corev1.Event
	deleted     chan string
	nominations map[string]string // that were written
	version     int
}

func newFakeClient() *fakeClient {
	return &fakeClient{objects: map[string]map[string]api.Object{}, watches: map[string][]chan watch.Event{},
		bound: make(chan string, 100), events: make(chan *corev1.Event, 100), deleted: make(chan string, 100), nominations: map[string]string{}}
}

func (f *fakeClient) put(resource string, obj api.Object, kind watch.EventType) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects[resource] == nil {
		f.objects[resource] = map[string]api.Object{}
	}
	f.store(resource, obj, kind)
}

func (f *fakeClient) store(resource string, obj api.Object, kind watch.EventType) {
	obj = obj.DeepCopyObject().(api.Object)
	f.version++
	obj.SetResourceVersion(strconv.Itoa(f.version))
	key := obj.GetNamespace() + "/" + obj.GetName()
	if kind == watch.Deleted {
		delete(f.objects[resource], key)
	} else {
		f.objects[resource][key] = obj
	}
	for _, w := range f.watches[resource] {
		w <- watch.Event{Type: kind, Object: obj}
	}
}

func (f *fakeClient) Watch(ctx context.Context, gvr schema.GroupVersionResource) (watch.Interface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := make(chan watch.Event, 10000)
	for _, obj := range f.objects[gvr.Resource] {
		c <- watch.Event{Type: watch.Added, Object: obj}
	}
	c <- watch.Event{Type: watch.Bookmark, Object: &corev1.Pod{}}
	f.watches[gvr.Resource] = append(f.watches[gvr.Resource], c)
	w := watch.NewProxyWatcher(c)
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i, other := range f.watches[gvr.Resource] {
			if other == c {
				f.watches[gvr.Resource] = append(f.watches[gvr.Resource][:i], f.watches[gvr.Resource][i+1:]...)
				close(c)
				return
			}
		}
	})
	return w, nil
}

func (f *fakeClient) Get(_ context.Context, gvr schema.GroupVersionResource, namespace, name string) (api.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if obj := f.objects[gvr.Resource][namespace+"/"+name]; obj != nil {
		return obj, nil
	}
	return nil, apierrors.NewNotFound(gvr.GroupResource(), name)
}

func (f *fakeClient) Create(_ context.Context, _ schema.GroupVersionResource, obj api.Object) (api.Object, error) {
	f.events <- obj.(*corev1.Event)
	return obj, nil
}

func (f *fakeClient) Update(_ context.Context, gvr schema.GroupVersionResource, _ string, obj api.Object) (api.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if gvr == claimsResource {
		return f.updateClaim(obj)
	}
	if gvr == volumesResource || gvr == volumeClaimResource {
		return f.updateVolume(gvr.Resource, obj)
	}
	if gvr.Resource != "pods" {
		return obj, nil
	}
	if have := f.objects["pods"][obj.GetNamespace()+"/"+obj.GetName()]; have == nil || have.GetResourceVersion() != obj.GetResourceVersion() {
		return nil, apierrors.NewConflict(gvr.GroupResource(), obj.GetName(), nil)
	}
	if node := obj.(*corev1.Pod).Status.NominatedNodeName; node != "" {
		f.nominations[obj.GetName()] = node
	}
	f.store("pods", obj, watch.Modified)
	return obj, nil
}

func (f *fakeClient) Delete(_ context.Context, gvr schema.GroupVersionResource, namespace, name string, _ metav1.DeleteOptions) error {
	obj, err := f.Get(context.Background(), gvr, namespace, name)
	if err != nil {
		return err
	}
	now := metav1.Now()
	ending := obj.DeepCopyObject().(*corev1.Pod)
	ending.DeletionTimestamp = &now
	f.put(gvr.Resource, ending, watch.Modified)
	f.deleted <- name
	return nil
}

func (f *fakeClient) Bind(_ context.Context, namespace, name string, _ types.UID, node string, annotations map[string]string) error {
	f.mu.Lock()
	if f.conflict > 0 {
		f.conflict--
		f.mu.Unlock()
		return apierrors.NewConflict(podsResource.GroupResource(), name, nil)
	}
	obj := f.objects["pods"][namespace+"/"+name]
	f.mu.Unlock()
	if obj == nil {
		return apierrors.NewNotFound(podsResource.GroupResource(), name)
	}
	changed := obj.DeepCopyObject().(*corev1.Pod)
	changed.Spec.NodeName = node
	for key, value := range annotations {
		metav1.SetMetaDataAnnotation(&changed.ObjectMeta, key, value)
	}
	f.put("pods", changed, watch.Modified)
	f.bound <- name + "→" + node
	return nil
}

func start(t *testing.T, client *fakeClient, change ...func(*Config)) {
	t.Helper()
	cfg := Config{Client: client}
	for _, c := range change {
		c(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-s.Ready()
}

func TestAPodIsBoundAndAnEventSaysSo(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", node("a", "4"), watch.Added)
	client.put("pods", pod("p", "1"), watch.Added)
	start(t, client)
	if got := <-client.bound; got != "p→a" {
		t.Fatal(got)
	}
	if e := <-client.events; e.Reason != "Scheduled" || e.Message != "Successfully assigned default/p to a" {
		t.Fatalf("%+v", e)
	}
}

func TestAPodThatFitsNowhereIsExplainedAndBoundWhenANodeComes(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", node("a", "1"), watch.Added)
	client.put("pods", pod("p", "2"), watch.Added)
	start(t, client)
	if e := <-client.events; e.Reason != "FailedScheduling" || e.Message != "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod. Nearest: short of 1 cpu on a." {
		t.Fatalf("%+v", e)
	}
	client.put("nodes", node("b", "2"), watch.Added)
	if got := <-client.bound; got != "p→b" {
		t.Fatal(got)
	}
}

func TestHigherPriorityGoesFirst(t *testing.T) {
	client := newFakeClient()
	high := int32(10)
	for _, p := range []*corev1.Pod{pod("low", "1"), pod("high", "1", func(p *corev1.Pod) { p.Spec.Priority = &high })} {
		p.CreationTimestamp = metav1.Unix(1, 0)
		client.put("pods", p, watch.Added)
	}
	client.put("nodes", node("a", "1"), watch.Added)
	start(t, client)
	if got := <-client.bound; got != "high→a" {
		t.Fatal(got)
	}
}

func TestABindingThatFailsIsTriedAgain(t *testing.T) {
	client := newFakeClient()
	client.conflict = 1
	client.put("nodes", node("a", "1"), watch.Added)
	client.put("pods", pod("p", "1"), watch.Added)
	start(t, client)
	if got := <-client.bound; got != "p→a" {
		t.Fatal(got)
	}
}

func TestGatedForeignAndEndingPodsAreLeftAlone(t *testing.T) {
	client := newFakeClient()
	now := metav1.Now()
	client.put("nodes", node("a", "9"), watch.Added)
	for _, p := range []*corev1.Pod{
		pod("gated", "1", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }),
		pod("foreign", "1", func(p *corev1.Pod) { p.Spec.SchedulerName = "other" }),
		pod("ending", "1", func(p *corev1.Pod) { p.DeletionTimestamp = &now }),
	} {
		client.put("pods", p, watch.Added)
	}
	start(t, client)
	client.put("pods", pod("ours", "1"), watch.Added)
	if got := <-client.bound; got != "ours→a" {
		t.Fatal(got)
	}
	client.put("pods", pod("gated", "1"), watch.Modified)
	if got := <-client.bound; got != "gated→a" {
		t.Fatal(got)
	}
}

// panicky stands for a plugin with a bug.
type panicky struct{}

func (panicky) Name() string { return "Panicky" }
func (panicky) Prepare(pod *framework.Pod, _ *framework.State) framework.Prepared {
	if pod.Name == "bad" {
		panic("bug")
	}
	return framework.Prepared{}
}

func TestAPanicCostsOnePodItsTurn(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", node("a", "9"), watch.Added)
	client.put("pods", pod("bad", "1"), watch.Added)
	start(t, client, func(c *Config) { c.Plugins = []framework.Plugin{panicky{}} })
	<-client.events
	client.put("pods", pod("good", "1"), watch.Added)
	if got := <-client.bound; got != "good→a" {
		t.Fatal(got)
	}
}
