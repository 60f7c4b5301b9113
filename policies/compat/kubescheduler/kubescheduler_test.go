package kubescheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/compat/internal/wasmtest"
	"github.com/pintle/pintle/policies/guest"
)

var shared wasmtest.Shared

func newModule(t testing.TB, a *Adapter) *guest.Module {
	t.Helper()
	return shared.Get(t, a, func() []byte { return wasmtest.Reactor(t, "testdata/guest") })
}

func policy(t testing.TB, a *Adapter, m *guest.Module, settings string, limits abi.Limits) *evaluator {
	t.Helper()
	e, err := a.Scheduling(context.Background(), m, abi.Policy{Name: "p", Settings: []byte(settings), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	return e.(*evaluator)
}

// placement is a pod and n nodes, named node-0 on, in two zones.
func placement(n int, pod string) *abi.Placement {
	p := &abi.Placement{Pod: &abi.Pod{UID: "uid-" + pod, Name: pod, Namespace: "default"}, Nodes: abi.NewNodeTable()}
	for i := range n {
		p.Nodes.Set(&abi.Node{
			Name: fmt.Sprintf("node-%d", i), Labels: []abi.Pair{{Key: "topology.kubernetes.io/zone", Value: string(rune('a' + i%2))}},
			Allocatable: []abi.Quantity{{Name: "cpu", Milli: 4000}, {Name: "example.com/thing", Milli: 1500}},
		})
	}
	p.Rows = p.Nodes.AppendRows(nil)
	p.Reset()
	return p
}

func TestPlace(t *testing.T) {
	a := New(Config{})
	m := newModule(t, a)
	const n = 300 // more than two chunks
	for _, c := range []struct {
		name, settings string
		passes         func(i int) bool
		score          func(i int) int32
		reasons        []string
	}{
		{name: "scores by prescore's state", settings: ``, score: func(i int) int32 {
			if i%10 == 3 {
				return 10
			}
			return 0
		}},
		{name: "filters", settings: `{"Zone":"a"}`, passes: func(i int) bool { return i%2 == 0 }, reasons: []string{"in another zone than a"},
			score: func(int) int32 { return 0 }},
		{name: "takes its configuration from a JSON string", settings: `"{\"Zone\":\"b\"}"`, passes: func(i int) bool { return i%2 == 1 },
			reasons: []string{"in another zone than b"}, score: func(i int) int32 {
				if i%10 == 3 {
					return 10
				}
				return 0
			}},
		{name: "keeps to prefilter's nodes", settings: `{"Pinned":["node-7","node-250"]}`, passes: func(i int) bool { return i == 7 || i == 250 },
			reasons: []string{"node is filtered out by the prefilter result"}, score: func(int) int32 { return 0 }},
		{name: "is refused as a whole", settings: `{"Refuse":"no such pod here"}`, passes: func(int) bool { return false },
			reasons: []string{"no such pod here"}},
		{name: "skips filter", settings: `{"Skip":true,"Zone":"a"}`, score: func(i int) int32 {
			if i%10 == 3 {
				return 10
			}
			return 0
		}},
		{name: "normalizes", settings: `{"Normalize":true}`, score: func(i int) int32 {
			if i%10 == 3 {
				return 70
			}
			return 0
		}},
		{name: "scores above the range count as its end", settings: `{"UsePrelist":true}`, score: func(int) int32 { return 100 }},
		{name: "prescore finds who passed", settings: `{"UsePrelist":true,"Pinned":["node-7","node-250"]}`,
			passes: func(i int) bool { return i == 7 || i == 250 }, reasons: []string{"node is filtered out by the prefilter result"},
			score: func(int) int32 { return 2 }},
		{name: "reads all nodes", settings: `{"All":true}`, score: func(i int) int32 {
			if i%10 == 3 {
				return 10
			}
			return 0
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := policy(t, a, m, c.settings, abi.Limits{})
			for range 2 {
				p := placement(n, "pod-3")
				if _, err := e.Place(context.Background(), p); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(p.Reasons, c.reasons) {
					t.Errorf("reasons %q, want %q", p.Reasons, c.reasons)
				}
				for i := range n {
					if passes := c.passes == nil || c.passes(i); (p.Verdicts[i] == 0) != passes {
						t.Fatalf("node %d: verdict %d", i, p.Verdicts[i])
					} else if passes && p.Scores[i] != c.score(i) {
						t.Fatalf("node %d: score %d, want %d", i, p.Scores[i], c.score(i))
					}
				}
			}
		})
	}
}

// Guests that ask for objects get the host's own, byte for byte, where it has them.
func TestObjectsOfTheHost(t *testing.T) {
	a := New(Config{})
	e := policy(t, a, newModule(t, a), `{"ByImage":true}`, abi.Limits{})
	p := placement(4, "pod-3")
	asked := 0
	p.NodeObject = func(row uint32) ([]byte, error) {
		asked++
		node := field(nil, 1, text(nil, 1, p.Nodes.Name(row)))
		image := "own"
		if row < 3 {
			image = "common"
		}
		return field(node, 3, field(nil, 8, number(text(nil, 1, image), 2, 5))), nil
	}
	if _, err := e.Place(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Scores, []int32{3, 3, 3, 1}) || asked == 0 {
		t.Errorf("scores %v, asked %d times", p.Scores, asked)
	}
	want := errors.New("no such object")
	p.NodeObject = func(uint32) ([]byte, error) { return nil, want }
	if _, err := e.Place(context.Background(), p); !errors.Is(err, want) {
		t.Errorf("%v", err)
	}
}

func TestHooks(t *testing.T) {
	a := New(Config{})
	m := newModule(t, a)
	waiting := []abi.Waiting{{Pod: &abi.Pod{UID: "w1", Name: "waiter"}, Node: "node-1"}}
	for settings, want := range map[string]abi.PermitResponse{
		``:                 {},
		`{"WaitMs":1500}`:  {Decision: abi.Wait, TimeoutMs: 1500},
		`{"Deny":"never"}`: {Decision: abi.Deny, Reason: "never on node-2"},
		`{"BindCode":2}`:   {Decision: abi.Deny, Reason: "bind says so"},
		`{"Reject":"w1"}`:  {Decision: abi.Wait, TimeoutMs: 1, Reason: "rejected 1", Reject: []string{"w1"}},
		`{"Reject":"w2"}`:  {Decision: abi.Wait, TimeoutMs: 1, Reason: "rejected 0"},
	} {
		e := policy(t, a, m, settings, abi.Limits{})
		got, _, err := e.Permit(context.Background(), &abi.PermitRequest{Pod: &abi.Pod{UID: "u", Name: "pod-3"}, Node: "node-2", Waiting: waiting})
		if err != nil || fmt.Sprint(*got) != fmt.Sprint(want) {
			t.Errorf("%s: %+v, %v; want %+v", settings, got, err, want)
		}
	}
	e := policy(t, a, m, `{"BindCode":1}`, abi.Limits{})
	if _, _, err := e.Permit(context.Background(), &abi.PermitRequest{Pod: &abi.Pod{UID: "u", Name: "pod-3"}, Node: "n"}); err == nil || !strings.Contains(err.Error(), "bind answers with status 1: bind says so") {
		t.Errorf("an error of bind: %v", err)
	}
	if got := e.Hooks(); !slices.Equal(got, []string{"Place", "Permit", "PostFilter"}) {
		t.Errorf("hooks %q", got)
	}

	e = policy(t, a, m, `{"Zone":"z"}`, abi.Limits{})
	p := placement(5, "pod-3")
	if _, err := e.Place(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	got, _, err := e.PostFilter(context.Background(), &abi.PostFilterRequest{Pod: p.Pod})
	if err != nil || got.Nominate != "nominated-5" || got.Message != "one of 5 for pod-3" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestEventsAreGivenOnce(t *testing.T) {
	var events []Event
	a := New(Config{Events: func(_ context.Context, e Event) { events = append(events, e) }})
	e := policy(t, a, newModule(t, a), ``, abi.Limits{})
	if _, err := e.Place(context.Background(), placement(500, "pod-3")); err != nil {
		t.Fatal(err)
	}
	want := []Event{{Regarding: Reference{Kind: "Pod", Name: "pod-3"}, Reason: "PreScore", Note: "looking"}}
	if !slices.Equal(events, want) {
		t.Errorf("%+v", events)
	}
}

func TestHostileGuestsAreContained(t *testing.T) {
	a := New(Config{})
	m := newModule(t, a)
	limits := abi.Limits{Fuel: 20_000_000, MemoryBytes: 32 << 20}
	for do, want := range map[string]error{"spin": guest.ErrFuel, "lie": guest.ErrBounds, "ask": guest.ErrHostCalls, "panic": nil, "grow": nil, "error": nil, "code": nil} {
		t.Run(do, func(t *testing.T) {
			e := policy(t, a, m, `{"Do":"`+do+`"}`, limits)
			for range 2 {
				if _, err := e.Place(context.Background(), placement(3, "pod-3")); err == nil || want != nil && !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
			}
		})
	}
	_, err := a.Scheduling(context.Background(), m, abi.Policy{Settings: []byte(`{"Zone":7}`)})
	if err == nil {
		t.Error("a configuration that the guest panics over is taken")
	}
}

func TestPlacingByManyAtOnce(t *testing.T) {
	a := New(Config{})
	e := policy(t, a, newModule(t, a), `{"Zone":"a"}`, abi.Limits{})
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			p := placement(150, fmt.Sprintf("pod-%d", i))
			if _, err := e.Place(context.Background(), p); err != nil {
				t.Error(err)
			}
			for n, s := range p.Scores {
				if want := int32(0); n%10 == i && n%2 == 0 {
					if want = 10; s != want {
						t.Errorf("pod %d, node %d: score %d", i, n, s)
					}
				} else if s != want {
					t.Errorf("pod %d, node %d: score %d", i, n, s)
				}
			}
		})
	}
	wg.Wait()
}

func TestImageStatesAreKubeSchedulers(t *testing.T) {
	node := field(nil, 3, field(nil, 8, number(text(text(nil, 1, "a"), 1, "a:1"), 2, 7)))
	got := map[string]int64{}
	eachImage(node, func(name string, size int64) { got[name] = size })
	if b, _ := json.Marshal(got); string(b) != `{"a":7,"a:1":7}` {
		t.Errorf("%s", b)
	}
}

func FuzzBrokenProtobufIsReadWithoutHarm(f *testing.F) {
	f.Add(encodeNode(&abi.Node{Name: "n", Labels: []abi.Pair{{Key: "a", Value: "b"}}}))
	f.Add([]byte{0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) { eachImage(b, func(string, int64) {}) })
}
