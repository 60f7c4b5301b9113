package gang

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// fake is a cluster whose only resource that runs out is GPUs: the emptiest node goes first, as the default plugins do.
type fake struct {
	state *framework.State
	quota int64 // GPUs that all pods may have together; 0: no end
}

func (f *fake) Nodes() []*framework.Node { return f.state.Nodes() }
func (f *fake) gpus(n *framework.Node) int64 {
	return n.Allocatable.Scalar["nvidia.com/gpu"] - n.Requested.Scalar["nvidia.com/gpu"]
}
func (f *fake) Place(p *framework.Pod, in Domain) (string, error) {
	var best *framework.Node
	for _, n := range f.state.Nodes() {
		if in.Has(n) && f.Fits(p, n.Name) && (best == nil || f.gpus(n) > f.gpus(best)) {
			best = n
		}
	}
	if best == nil {
		return "", errors.New("no room")
	}
	f.state.SetPod(p, best.Name)
	return best.Name, nil
}
func (f *fake) Fits(p *framework.Pod, node string) bool {
	return f.gpus(f.state.Node(node)) >= p.Request.Scalar["nvidia.com/gpu"]
}
func (f *fake) Set(p *framework.Pod, node string) { f.state.SetPod(p, node) }
func (f *fake) Remove(uid types.UID)              { f.state.RemovePod(uid) }
func (f *fake) NodeOf(uid types.UID) string       { return f.state.NodeOf(uid) }
func (f *fake) Admit(pods []*framework.Pod) error {
	if f.quota == 0 {
		return nil
	}
	var used int64
	for _, n := range f.state.Nodes() {
		used += n.Requested.Scalar["nvidia.com/gpu"]
	}
	if used+total(pods)["nvidia.com/gpu"] > f.quota {
		return errors.New("no quota")
	}
	return nil
}

// dump is where every pod is, for comparison.
func (f *fake) dump() string {
	var out []string
	for _, n := range f.state.Nodes() {
		for uid := range n.Pods {
			out = append(out, fmt.Sprintf("%s@%s", uid, n.Name))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func newFake(nodes ...*corev1.Node) *fake {
	f := &fake{state: framework.NewState()}
	for _, n := range nodes {
		f.state.SetNode(n)
	}
	return f
}

func node(name string, gpus int64, labels ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		n.Labels[key] = value
	}
	n.Status.Allocatable = corev1.ResourceList{"nvidia.com/gpu": *resource.NewQuantity(gpus, resource.DecimalSI), "pods": resource.MustParse("1000"),
		"cpu": resource.MustParse("1000")}
	return n
}

func pod(name string, gpus int64) *framework.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}}
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{}}}}
	if gpus > 0 {
		p.Spec.Containers[0].Resources.Requests["nvidia.com/gpu"] = *resource.NewQuantity(gpus, resource.DecimalSI)
	}
	return framework.NewPod(p)
}

func pods(name string, n int, gpus int64) (out []*framework.Pod) {
	for i := range n {
		out = append(out, pod(fmt.Sprintf("%s-%d", name, i), gpus))
	}
	return out
}

func racks(perRack, gpus int, names ...string) (out []*corev1.Node) {
	for _, rack := range names {
		for i := range perRack {
			out = append(out, node(fmt.Sprintf("%s-%d", rack, i), int64(gpus), "rack="+rack, "row="+rack[:1]))
		}
	}
	return out
}

func TestAGangIsPlacedWholeOrNotAtAll(t *testing.T) {
	type taken map[string]int64 // GPUs in use, by node
	tests := map[string]struct {
		nodes   []*corev1.Node
		taken   taken
		gang    Gang
		domain  string // "" anywhere
		placed  int    // 0: none
		message string
	}{
		"fits": {racks(2, 8, "a"), nil, Gang{Min: 16, Pending: pods("g", 16, 1)}, "=", 16, ""},
		"one GPU short": {racks(2, 8, "a"), taken{"a-0": 1}, Gang{Name: "train", Min: 16, Pending: pods("g", 16, 1)}, "", 0,
			"gang train: 15/16 members can be placed: no room"},
		"not all have come":                         {racks(2, 8, "a"), nil, Gang{Name: "train", Min: 16, Pending: pods("g", 15, 1)}, "", 0, "gang train: 15 of 16 pods have come"},
		"those beyond the minimum don't hold it up": {racks(2, 8, "a"), taken{"a-0": 1}, Gang{Min: 12, Pending: pods("g", 16, 1)}, "=", 15, ""},
		"the minimum counts those that have nodes":  {racks(2, 8, "a"), taken{"a-0": 7}, Gang{Min: 10, Placed: []string{"a-0"}, Pending: pods("g", 9, 1)}, "=", 9, ""},
		"in one rack":                               {racks(2, 8, "a", "b"), taken{"a-0": 1}, Gang{Min: 16, Key: "rack", Pending: pods("g", 16, 1)}, "rack=b", 16, ""},
		"in the rack that is left fullest":          {racks(2, 8, "a", "b", "c"), taken{"b-0": 4, "c-0": 2}, Gang{Min: 8, Key: "rack", Pending: pods("g", 8, 1)}, "rack=b", 8, ""},
		"racks that only have the sum":              {racks(2, 8, "a", "b"), taken{"a-0": 4, "a-1": 4}, Gang{Name: "g", Min: 1, Key: "rack", Pending: pods("g", 1, 8)}, "rack=b", 1, ""},
		"in no rack": {racks(2, 8, "a", "b"), taken{"a-0": 1, "b-0": 2}, Gang{Name: "g", Min: 16, Key: "rack", Pending: pods("g", 16, 1)}, "", 0,
			"gang g: 15/16 members can be placed in rack=a, the best of 2 domains: no room"},
		"as many as possible, in one rack": {racks(2, 8, "a", "b"), taken{"a-0": 1, "b-0": 2}, Gang{Min: 8, Key: "rack", Pending: pods("g", 16, 1)}, "rack=a", 15, ""},
		"nobody has the label":             {racks(2, 8, "a"), nil, Gang{Name: "g", Min: 1, Key: "zone", Pending: pods("g", 1, 1)}, "", 0, "gang g: 0/1 members can be placed: no node has the label zone"},
		"near those that have nodes":       {racks(2, 8, "a", "b"), taken{"b-1": 1}, Gang{Min: 8, Key: "rack", Placed: []string{"b-1"}, Pending: pods("g", 7, 1)}, "rack=b", 7, ""},
		"not near those that have nodes": {racks(2, 8, "a", "b"), taken{"b-1": 8, "b-0": 4}, Gang{Name: "g", Min: 8, Key: "rack", Placed: []string{"b-1"}, Pending: pods("g", 7, 1)}, "", 0,
			"gang g: 5/8 members can be placed in rack=b: no room"},
		"members that stand apart": {racks(1, 8, "a", "b"), nil, Gang{Name: "g", Min: 3, Key: "rack", Placed: []string{"a-0", "b-0"}, Pending: pods("g", 1, 1)}, "", 0,
			"gang g: 2/3 members can be placed: members that have nodes don't share a value of the label rack"},
		"preferably in one rack":            {racks(2, 8, "a", "b"), taken{"b-1": 1}, Gang{Min: 8, Prefer: []string{"rack"}, Pending: pods("g", 8, 1)}, "rack=b", 8, ""},
		"preferably in one rack, or a row":  {racks(2, 8, "a1", "a2", "b1"), taken{"b1-0": 1}, Gang{Min: 20, Prefer: []string{"rack", "row"}, Pending: pods("g", 20, 1)}, "row=a", 20, ""},
		"preferably in one rack, of a row":  {racks(2, 8, "a1", "a2", "b1"), taken{"a1-0": 1}, Gang{Min: 12, Key: "row", Prefer: []string{"rack"}, Pending: pods("g", 12, 1)}, "rack=a1", 12, ""},
		"preferably in one rack, else here": {racks(2, 8, "a", "b"), nil, Gang{Min: 17, Prefer: []string{"rack"}, Pending: pods("g", 17, 1)}, "=", 17, ""},
		"the largest first":                 {racks(1, 8, "a", "b"), nil, Gang{Min: 9, Pending: append(pods("s", 8, 1), pod("l", 8))}, "=", 9, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(tt.nodes...)
			for n, gpus := range tt.taken {
				f.state.SetPod(pod("taken-"+n, gpus), n)
			}
			before := f.dump()
			p, err := Place(f, &tt.gang)
			if tt.placed == 0 {
				if err == nil || err.Error() != tt.message {
					t.Errorf("got %v, want %s", err, tt.message)
				}
				if f.dump() != before {
					t.Errorf("the cluster was\n%s and is\n%s", before, f.dump())
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Placed) != tt.placed || p.Domain.String() != tt.domain || len(p.Left) != len(tt.gang.Pending)-tt.placed {
				t.Errorf("%d are placed in %v, %d are left, want %d in %v", len(p.Placed), p.Domain, len(p.Left), tt.placed, tt.domain)
			}
			for _, a := range p.Placed {
				if f.NodeOf(a.Pod.UID) != a.Node || !p.Domain.Has(f.state.Node(a.Node)) {
					t.Errorf("%s is said to be on %s and is on %s", a.Pod.Name, a.Node, f.NodeOf(a.Pod.UID))
				}
			}
		})
	}
}

func TestQuotaIsAskedForTheWholeGang(t *testing.T) {
	f := newFake(racks(4, 8, "a")...)
	f.quota = 10
	g := &Gang{Min: 11, Pending: pods("g", 16, 1)}
	if _, err := Place(f, g); err == nil || err.Error() != "no quota" || f.dump() != "" {
		t.Errorf("got %v, %s", err, f.dump())
	}
	g.Min = 10
	if p, err := Place(f, g); err != nil || len(p.Placed) != 10 || len(p.Left) != 6 {
		t.Errorf("got %+v, %v", p, err)
	}
}

func unit(priority int32, gang string, pods ...*framework.Pod) *Unit {
	return &Unit{Gang: gang, Priority: priority, Pods: pods}
}

func names(units []*Unit) string {
	var out []string
	for _, u := range units {
		for _, p := range u.Pods {
			out = append(out, p.Name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestAGangPreemptsForAllItsMembersAtOnce(t *testing.T) {
	type on struct {
		node string
		pod  *framework.Pod
	}
	tests := map[string]struct {
		nodes   []*corev1.Node
		there   []on
		units   []*Unit
		gang    Gang
		quota   int64
		victims string
	}{
		"the fewest": {racks(2, 8, "a"), []on{{"a-0", pod("x", 4)}, {"a-0", pod("y", 1)}, {"a-1", pod("z", 2)}},
			[]*Unit{unit(0, "", pod("x", 4)), unit(0, "", pod("y", 1)), unit(0, "", pod("z", 2))}, Gang{Min: 13, Pending: pods("g", 13, 1)}, 0, "x"},
		"the least important": {racks(2, 8, "a"), []on{{"a-0", pod("x", 4)}, {"a-1", pod("y", 4)}},
			[]*Unit{unit(5, "", pod("x", 4)), unit(1, "", pod("y", 4))}, Gang{Min: 12, Pending: pods("g", 12, 1)}, 0, "y"},
		"not the protected": {racks(2, 8, "a"), []on{{"a-0", pod("x", 4)}, {"a-1", pod("y", 4)}},
			[]*Unit{{Protected: true, Pods: []*framework.Pod{pod("x", 4)}}, unit(7, "", pod("y", 4))}, Gang{Min: 12, Pending: pods("g", 12, 1)}, 0, "y"},
		"nobody unless all fit": {racks(2, 8, "a"), []on{{"a-0", pod("x", 4)}, {"a-1", pod("kept", 4)}},
			[]*Unit{unit(0, "", pod("x", 4))}, Gang{Min: 13, Pending: pods("g", 13, 1)}, 0, ""},
		"a whole gang": {racks(2, 8, "a"), []on{{"a-0", pod("x", 4)}, {"a-1", pod("y", 4)}},
			[]*Unit{unit(0, "other", pod("x", 4), pod("y", 4))}, Gang{Min: 9, Pending: pods("g", 9, 1)}, 0, "x y"},
		"a pod rather than a gang": {racks(2, 8, "a"), []on{{"a-0", pod("x", 2)}, {"a-1", pod("y", 2)}, {"a-0", pod("z", 1)}},
			[]*Unit{unit(0, "other", pod("x", 2), pod("y", 2)), unit(0, "", pod("z", 1))}, Gang{Min: 12, Pending: pods("g", 12, 1)}, 0, "z"},
		"in one rack": {racks(1, 8, "a", "b"), []on{{"a-0", pod("x", 4)}, {"b-0", pod("y", 2)}},
			[]*Unit{unit(0, "", pod("x", 4)), unit(1, "", pod("y", 2))}, Gang{Min: 7, Key: "rack", Pending: pods("g", 7, 1)}, 0, "x"},
		"for quota": {racks(4, 8, "a"), []on{{"a-0", pod("x", 4)}, {"b-0", pod("y", 2)}},
			[]*Unit{unit(0, "", pod("x", 4))}, Gang{Min: 7, Pending: pods("g", 7, 1)}, 10, "x"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(tt.nodes...)
			f.quota = tt.quota
			at := map[string]*framework.Pod{}
			for _, o := range tt.there {
				f.state.SetPod(o.pod, o.node)
				at[o.pod.Name] = o.pod
			}
			for _, u := range tt.units {
				for i := range u.Pods {
					u.Pods[i] = at[u.Pods[i].Name]
				}
			}
			before := f.dump()
			p, victims := Preempt(f, &tt.gang, tt.units)
			if got := names(victims); got != tt.victims {
				t.Errorf("the victims are %q, want %q", got, tt.victims)
			}
			if f.dump() != before {
				t.Errorf("the cluster was\n%s and is\n%s", before, f.dump())
			}
			if tt.victims != "" && len(p.Placed) < tt.gang.Min {
				t.Errorf("%d are placed", len(p.Placed))
			}
		})
	}
}

// Two gangs that come pod by pod, in any order, with failures: each is on nodes whole or not at all whenever nothing is
// being done, no node is over-committed, and as long as either fits alone one of them runs.
func TestGangsNeverDeadlockWhateverTheOrder(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 6))
		f := newFake(racks(1+rnd.IntN(3), 4, "a", "b", "c")[:2+rnd.IntN(2)]...)
		room := 0
		for _, n := range f.Nodes() {
			room += int(n.Allocatable.Scalar["nvidia.com/gpu"])
		}
		type group struct {
			gang    *Gang
			coming  []*framework.Pod
			running []Assigned
		}
		var groups []*group
		for i := range 2 + rnd.IntN(3) {
			size := 1 + rnd.IntN(room)
			groups = append(groups, &group{gang: &Gang{Name: fmt.Sprint(i), Min: size}, coming: pods(fmt.Sprintf("g%d", i), size, 1)})
		}
		attempt := func(g *group) {
			g.gang.Placed = nil
			if p, err := Place(f, g.gang); err == nil {
				g.running = append(g.running, p.Placed...)
				g.gang.Pending = p.Left
			}
			for _, a := range g.running {
				g.gang.Placed = append(g.gang.Placed, a.Node)
			}
		}
		check := func() {
			t.Helper()
			for _, n := range f.Nodes() {
				if f.gpus(n) < 0 {
					t.Fatalf("seed %d: %s is over-committed", seed, n.Name)
				}
			}
			for _, g := range groups {
				if n := len(g.running); n != 0 && n < g.gang.Min {
					t.Fatalf("seed %d: %d of gang %s's %d members are on nodes", seed, n, g.gang.Name, g.gang.Min)
				}
			}
		}
		for range 100 {
			g := groups[rnd.IntN(len(groups))]
			switch {
			case len(g.coming) > 0:
				i := rnd.IntN(len(g.coming))
				g.gang.Pending = append(g.gang.Pending, g.coming[i])
				g.coming = slices.Delete(g.coming, i, i+1)
			case len(g.running) > 0 && rnd.IntN(4) == 0: // it fails, and its pods are made anew
				for _, a := range g.running {
					f.Remove(a.Pod.UID)
					g.coming = append(g.coming, a.Pod)
				}
				g.running, g.gang.Placed = nil, nil
			}
			attempt(groups[rnd.IntN(len(groups))])
			check()
		}
		for _, g := range groups {
			g.gang.Pending, g.coming = append(g.gang.Pending, g.coming...), nil
		}
		for _, g := range groups {
			attempt(g)
			check()
		}
		if !slices.ContainsFunc(groups, func(g *group) bool { return len(g.running) > 0 }) {
			t.Fatalf("seed %d: nobody runs", seed)
		}
	}
}

// Whatever is there, preemption leaves the cluster as it was; its victims are enough, and none is there in vain.
func TestPreemptionTakesWhatIsNeededAndNoMore(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		f := newFake(racks(2, 4, "a", "b")...)
		var units []*Unit
		for i := range 12 {
			u := &Unit{Priority: int32(rnd.IntN(3)), Protected: rnd.IntN(5) == 0}
			for _, p := range pods(fmt.Sprintf("v%d", i), 1+rnd.IntN(3), int64(1+rnd.IntN(2))) {
				if _, err := f.Place(p, Domain{}); err == nil {
					u.Pods = append(u.Pods, p)
				}
			}
			if len(u.Pods) > 0 {
				units = append(units, u)
			}
		}
		g := &Gang{Min: 1 + rnd.IntN(10), Key: []string{"", "rack"}[rnd.IntN(2)]}
		g.Pending = pods("g", g.Min, int64(1+rnd.IntN(2)))
		before := f.dump()
		if p, err := Place(f, g); err == nil {
			undo(f, p)
			continue
		}
		p, victims := Preempt(f, g, units)
		if f.dump() != before {
			t.Fatalf("seed %d: the cluster is changed", seed)
		}
		where := map[types.UID]string{}
		for _, u := range units {
			for _, v := range u.Pods {
				where[v.UID] = f.NodeOf(v.UID)
			}
		}
		without := func(gone []*Unit) bool {
			for _, u := range gone {
				for _, v := range u.Pods {
					f.Remove(v.UID)
				}
			}
			placed, err := Place(f, g)
			if err == nil {
				undo(f, placed)
			}
			for _, u := range gone {
				for _, v := range u.Pods {
					f.Set(v, where[v.UID])
				}
			}
			return err == nil
		}
		if p == nil {
			if without(units) {
				t.Fatalf("seed %d: the end of all would do, and nobody is chosen", seed)
			}
			continue
		}
		if !without(victims) {
			t.Fatalf("seed %d: the victims %s are not enough", seed, names(victims))
		}
		// Without any one of them the members don't fit where they are meant to go.
		for i := range victims {
			rest := slices.Delete(slices.Clone(victims), i, i+1)
			for _, u := range rest {
				for _, v := range u.Pods {
					f.Remove(v.UID)
				}
			}
			fits := true
			for _, a := range p.Placed {
				fits = fits && f.Fits(a.Pod, a.Node)
				f.Set(a.Pod, a.Node)
			}
			undo(f, p)
			for _, u := range rest {
				for _, v := range u.Pods {
					f.Set(v, where[v.UID])
				}
			}
			if fits {
				t.Fatalf("seed %d: %s is a victim in vain", seed, names(victims[i:i+1]))
			}
		}
	}
}
