package scheduler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
	"github.com/pintle/pintle/policies/abi"
)

// fakePolicy is a policy of Go functions; what is nil it takes no part in.
type fakePolicy struct {
	mu       sync.Mutex // guards what follows; Has, Changed and the like are called while a test changes it
	profiles []string
	changed  chan struct{}
	place    func(p *abi.Placement) error
	key      func(pod *abi.Pod) int64
	permit   func(req *abi.PermitRequest) (*abi.PermitResponse, error)
	post     func(req *abi.PostFilterRequest) *abi.PostFilterResponse
}

func newFakePolicy() *fakePolicy {
	return &fakePolicy{profiles: []string{corev1.DefaultSchedulerName}, changed: make(chan struct{})}
}

func (f *fakePolicy) Has(profile, hook string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.profiles, profile) {
		return false
	}
	return hook == "" || hook == hookPlace && f.place != nil || hook == hookQueueSort && f.key != nil ||
		hook == hookPermit && f.permit != nil || hook == hookPostFilter && f.post != nil
}

func (f *fakePolicy) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fakePolicy) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakePolicy) QueueKey(_ context.Context, pod *abi.Pod) int64 { return f.key(pod) }

func (f *fakePolicy) Place(_ context.Context, p *abi.Placement) error {
	p.Reset()
	return f.place(p)
}

func (f *fakePolicy) Permitters(profile string) []string {
	if f.Has(profile, hookPermit) {
		return []string{"gang"}
	}
	return nil
}

func (f *fakePolicy) Permit(_ context.Context, _ string, req *abi.PermitRequest) (*abi.PermitResponse, error) {
	return f.permit(req)
}

func (f *fakePolicy) PostFilter(_ context.Context, req *abi.PostFilterRequest) *abi.PostFilterResponse {
	return f.post(req)
}

// odd refuses the node a and likes the node c.
func odd(p *abi.Placement) error {
	p.Reasons = []string{"nodes rejected by policy odd: not a"}
	for i, row := range p.Rows {
		switch p.Nodes.Name(row) {
		case "a":
			p.Verdicts[i] = 1
		case "c":
			p.Scores[i] = 1000
		}
	}
	return nil
}

func TestPoliciesFilterAndScore(t *testing.T) {
	policy := newFakePolicy()
	policy.place = odd
	view := newPolicyView(policy)
	s := framework.NewState()
	for _, name := range []string{"c", "b", "a"} {
		s.SetNode(node(name, "4"))
	}
	choose := func() (string, error) {
		return decide(context.Background(), plugins.Default(), view, framework.NewPod(pod("p", "1", byDefault)), s)
	}
	if got, err := choose(); err != nil || got != "c" {
		t.Fatalf("got %q, %v", got, err)
	}
	s.RemoveNode("c")
	if got, err := choose(); err != nil || got != "b" {
		t.Fatalf("got %q, %v", got, err)
	}
	s.RemoveNode("b")
	fit := (*FitError)(nil)
	if _, err := choose(); !errors.As(err, &fit) || err.Error() != "0/1 nodes are available: 1 node rejected by policy odd: not a." || !fit.Plugins[policyPlugin] {
		t.Fatalf("got %v", err)
	}
	if two := (&FitError{Nodes: 2, Reasons: map[string]int{"nodes rejected by policy odd: not a": 2}}); two.Error() != "0/2 nodes are available: 2 nodes rejected by policy odd: not a." {
		t.Error(two)
	}
	policy.place = func(*abi.Placement) error { return errors.New("it trapped") }
	if _, err := choose(); err == nil || err.Error() != "it trapped" {
		t.Errorf("got %v", err)
	}
	other := framework.NewPod(pod("q", "1", func(p *corev1.Pod) { p.Spec.SchedulerName = "other" }))
	if got, err := decide(context.Background(), plugins.Default(), view, other, s); err != nil || got != "a" {
		t.Errorf("a pod of another profile: %q, %v", got, err)
	}
}

func byDefault(p *corev1.Pod) { p.Spec.SchedulerName = corev1.DefaultSchedulerName }

// What policies read of the nodes is, after any sequence of changes, what a table made anew would hold.
func TestTheTableOfNodesKeepsUp(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	s, kept := framework.NewState(), newNodeRecords()
	var pods []*framework.Pod
	for step := range 3000 {
		name := fmt.Sprint("n", random.IntN(12))
		switch random.IntN(6) {
		case 0:
			s.RemoveNode(name)
		case 1:
			s.SetNode(node(name, fmt.Sprint(1+random.IntN(9)), func(n *corev1.Node) {
				n.Labels = map[string]string{"zone": fmt.Sprint(random.IntN(3))}
				if random.IntN(2) == 0 {
					n.Spec.Taints = []corev1.Taint{{Key: "k", Value: "v", Effect: "NoSchedule"}}
				}
				n.Status.Allocatable["example.com/thing"] = resource.MustParse(fmt.Sprint(random.IntN(4)))
			}))
		case 2, 3:
			p := framework.NewPod(pod(fmt.Sprint("p", step), fmt.Sprint(1+random.IntN(3))))
			s.SetPod(p, name)
			pods = append(pods, p)
		case 4:
			if len(pods) > 0 {
				k := random.IntN(len(pods))
				s.RemovePod(pods[k].UID)
				pods = slices.Delete(pods, k, k+1)
			}
		}
		if random.IntN(3) > 0 {
			continue // several changes at a time
		}
		kept.update(s)
		fresh := newNodeRecords()
		fresh.update(s)
		if got, want := content(kept.table), content(fresh.table); got != want {
			t.Fatalf("step %d\ngot\n%s\nwant\n%s", step, got, want)
		}
		var some []*framework.Node
		for _, n := range s.Nodes() {
			if random.IntN(2) == 0 {
				some = append(some, n)
			}
		}
		rows, which := kept.candidates(some, nil, nil)
		if len(rows) != len(some) || !slices.IsSorted(rows) {
			t.Fatalf("%d rows for %d nodes: %v", len(rows), len(some), rows)
		}
		for i, row := range rows {
			if got, want := kept.table.Name(row), some[which[i]].Name; got != want {
				t.Fatalf("row %d is %s, not %s", row, got, want)
			}
		}
	}
}

// content is what a table says of its nodes, whatever their rows and the ids of their strings.
func content(t *abi.NodeTable) string {
	var lines []string
	for _, row := range t.AppendRows(nil) {
		r := t.Records()[row]
		line := fmt.Sprint(t.Name(row), r.Flags, r.CPUAllocatable, r.CPURequested, r.MemoryRequested, r.Pods, r.PodsAllocatable)
		for _, run := range [][2]uint32{{r.Labels, r.LabelCount}, {r.Taints, 2 * r.TaintCount}} {
			var pairs []string
			for _, p := range t.Pairs()[run[0] : run[0]+run[1]] {
				pairs = append(pairs, t.String(p.Key)+"="+t.String(p.Value))
			}
			slices.Sort(pairs)
			line += fmt.Sprint(pairs)
		}
		var amounts []string
		for _, q := range t.Quantities()[r.Quantities : r.Quantities+r.QuantityCount] {
			amounts = append(amounts, fmt.Sprint(t.String(q.Name), q.Allocatable, q.Requested))
		}
		slices.Sort(amounts)
		lines = append(lines, line+fmt.Sprint(amounts))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// gang lets pods of a group go when there are three of them.
func gang(req *abi.PermitRequest) (*abi.PermitResponse, error) {
	group := func(p *abi.Pod) string {
		for _, l := range p.Labels {
			if l.Key == "gang" {
				return l.Value
			}
		}
		return ""
	}
	mine := group(req.Pod)
	if mine == "" {
		return &abi.PermitResponse{}, nil
	}
	if mine == "never" {
		return &abi.PermitResponse{Decision: abi.Deny, Reason: "never"}, nil
	}
	resp := &abi.PermitResponse{}
	for _, w := range req.Waiting {
		if group(w.Pod) == mine {
			resp.Allow = append(resp.Allow, w.Pod.UID)
		}
	}
	if len(resp.Allow) < 2 {
		return &abi.PermitResponse{Decision: abi.Wait, TimeoutMs: 1500}, nil
	}
	return resp, nil
}

func ganged(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		byDefault(p)
		p.Labels = map[string]string{"gang": name}
	}
}

func nextBound(t *testing.T, client *fakeClient) string {
	t.Helper()
	select {
	case got := <-client.bound:
		return got
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is bound")
	}
	return ""
}

// waitEvent waits for an event of a pod that says so.
func waitEvent(t *testing.T, client *fakeClient, pod, want string) {
	t.Helper()
	last := "nothing"
	for {
		select {
		case e := <-client.events:
			if e.InvolvedObject.Name != pod {
				continue
			}
			if last = e.Message; strings.Contains(last, want) {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no event of %s says %q; the last: %s", pod, want, last)
		}
	}
}

func TestAGangIsBoundTogetherOrNotAtAll(t *testing.T) {
	client, policy := newFakeClient(), newFakePolicy()
	policy.permit = gang
	client.put("nodes", node("a", "3"), watch.Added)
	start(t, client, func(cfg *Config) { cfg.Policy = policy })

	client.put("pods", pod("a1", "1", ganged("a")), watch.Added)
	client.put("pods", pod("a2", "1", ganged("a")), watch.Added)
	waitEvent(t, client, "a1", "pod rejected by policy gang: it waited 1.5s to be permitted")
	select {
	case got := <-client.bound:
		t.Fatalf("%s is bound without the others", got)
	default:
	}
	// Their room was given back, and they are tried again with the third.
	client.put("pods", pod("a3", "1", ganged("a")), watch.Added)
	var bound []string
	for range 3 {
		bound = append(bound, nextBound(t, client))
	}
	slices.Sort(bound)
	if want := []string{"a1→a", "a2→a", "a3→a"}; !slices.Equal(bound, want) {
		t.Errorf("bound %v", bound)
	}
	client.put("nodes", node("b", "9"), watch.Added)
	client.put("pods", pod("no", "1", ganged("never")), watch.Added)
	waitEvent(t, client, "no", "pod rejected by policy gang: never")
	client.put("pods", pod("alone", "1", byDefault), watch.Added)
	if got := nextBound(t, client); got != "alone→b" {
		t.Errorf("bound %s", got)
	}
}

func TestPodsThatWaitAreLetGoWhenTheirPolicyIs(t *testing.T) {
	client, policy := newFakeClient(), newFakePolicy()
	held := make(chan struct{}, 10)
	policy.permit = func(*abi.PermitRequest) (*abi.PermitResponse, error) {
		held <- struct{}{}
		return &abi.PermitResponse{Decision: abi.Wait}, nil
	}
	client.put("nodes", node("a", "3"), watch.Added)
	start(t, client, func(cfg *Config) { cfg.Policy = policy })
	client.put("pods", pod("p", "1", byDefault), watch.Added)
	client.put("pods", pod("gone", "1", byDefault), watch.Added)
	<-held
	<-held
	client.put("pods", pod("gone", "1", byDefault), watch.Deleted)
	time.Sleep(20 * time.Millisecond)
	policy.change(func() { policy.permit = nil })
	if got := nextBound(t, client); got != "p→a" {
		t.Errorf("bound %s", got)
	}
	client.put("pods", pod("large", "2", byDefault), watch.Added) // fits only if nothing is kept for the one that is gone
	if got := nextBound(t, client); got != "large→a" {
		t.Errorf("bound %s", got)
	}
}

func TestAProfileThatAPolicyNamesIsServed(t *testing.T) {
	client, policy := newFakeClient(), newFakePolicy()
	client.put("nodes", node("a", "3"), watch.Added)
	start(t, client, func(cfg *Config) { cfg.Policy = policy })
	client.put("pods", pod("p", "1", func(p *corev1.Pod) { p.Spec.SchedulerName = "gpu" }), watch.Added)
	client.put("pods", pod("q", "1", byDefault), watch.Added)
	if got := nextBound(t, client); got != "q→a" {
		t.Errorf("bound %s", got)
	}
	policy.change(func() { policy.profiles = append(policy.profiles, "gpu") })
	if got := nextBound(t, client); got != "p→a" {
		t.Errorf("bound %s", got)
	}
}

func TestAPolicyOrdersTheQueueBeforePriority(t *testing.T) {
	q := newQueue()
	for name, key := range map[string]int64{"late": 5, "early": -1, "middle": 0} {
		q.set(framework.NewPod(pod(name, "1")), key)
	}
	q.set(framework.NewPod(pod("important", "1", ranked(100))), 5)
	for _, want := range []string{"early", "middle", "important", "late"} {
		if got := q.pop().pod.Name; got != want {
			t.Errorf("%s comes before %s", got, want)
		}
	}
}

func TestPoliciesHaveTheLastWordAboutAPodThatFitsNowhere(t *testing.T) {
	client, policy := newFakeClient(), newFakePolicy()
	policy.post = func(req *abi.PostFilterRequest) *abi.PostFilterResponse {
		if len(req.Reasons) != 1 || req.Reasons[0] != (abi.Count{Reason: "Insufficient cpu", Nodes: 1}) {
			return &abi.PostFilterResponse{Message: fmt.Sprint(req.Reasons)}
		}
		return &abi.PostFilterResponse{Message: "policy p: buy another", Nominate: "a"}
	}
	client.put("nodes", node("a", "1"), watch.Added)
	start(t, client, func(cfg *Config) { cfg.Policy = policy })
	client.put("pods", pod("p", "2", byDefault), watch.Added)
	waitEvent(t, client, "p", "No preemption victims found for incoming pod. policy p: buy another")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		client.mu.Lock()
		node := client.nominations["p"]
		client.mu.Unlock()
		if node == "a" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nominated to %q", node)
		}
	}
}

func TestAPodIsShownWithWhatPoliciesNeed(t *testing.T) {
	yes := true
	p := framework.NewPod(pod("p", "500m", ranked(7), func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "Job", Name: "other"}, {Kind: "ReplicaSet", Name: "web", Controller: &yes}}
		p.Spec.NodeSelector = map[string]string{"b": "2", "a": "1"}
		p.Spec.Containers[0].Image = "web:v1"
		p.Spec.Containers[0].Resources.Requests["nvidia.com/gpu"] = resource.MustParse("2")
	}))
	got := policyPod(p)
	if got.OwnerKind != "ReplicaSet" || got.OwnerName != "web" || got.Priority != 7 || fmt.Sprint(got.NodeSelector) != "[{a 1} {b 2}]" ||
		!slices.Contains(got.Images, "web:v1") || fmt.Sprint(got.Requests) != "[{cpu 500} {pods 1000} {nvidia.com/gpu 2000}]" {
		t.Errorf("%+v", got)
	}
}
