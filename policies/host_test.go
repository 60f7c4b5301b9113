package policies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a host until the test ends, which finds nothing left of it.
func start(t testing.TB, cfg Config) *Host {
	t.Helper()
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	<-h.Ready()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, _, err := h.Admit(context.Background(), "any", &abi.AdmissionRequest{}); !errors.Is(err, ErrNoPolicy) {
			t.Errorf("a host that has ended answers: %v", err)
		}
	})
	return h
}

func (h *Host) mustLoad(t testing.TB, name string, wasm []byte) abi.Module {
	t.Helper()
	m, err := h.Load(t.Context(), name, wasm)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (h *Host) mustSet(t testing.TB, p abi.Policy) {
	t.Helper()
	if err := h.Set(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

var request = &abi.AdmissionRequest{UID: "1", Operation: abi.Create, Meta: &abi.Meta{Name: "web"}, Object: abi.JSONObject(`{}`)}

func TestAPolicyDecides(t *testing.T) {
	h := start(t, Config{})
	want := abi.AdmissionResponse{Code: 422, Message: "no owner", Reason: "Invalid", Warnings: []string{"w"}, Audit: []abi.Pair{{Key: "k", Value: "v"}}, Patch: []byte("{}"), PatchType: abi.MergePatch}
	m := h.mustLoad(t, "m", admits(want))
	if m.ABI != "pintle/v1" || !strings.HasPrefix(m.Digest, "sha256:") || m.Name != "m" || m.Size == 0 {
		t.Fatalf("%+v", m)
	}
	h.mustSet(t, abi.Policy{Name: "p", Kind: abi.Admission, Module: "m"})
	got, spent, err := h.Admit(t.Context(), "p", request)
	if err != nil || fmt.Sprint(*got) != fmt.Sprint(want) {
		t.Fatalf("%+v %v", got, err)
	}
	if spent.Time <= 0 || spent.Fuel == 0 || spent.Memory != 3<<16 {
		t.Errorf("%+v", spent)
	}
	s := h.Status(abi.Admission, "p")
	if !s.Ready || s.Digest != m.Digest || s.Calls != 1 || s.Rejections != 1 || s.Errors != 0 || s.P50 <= 0 || s.P99 < s.P50 || s.Fuel != spent.Fuel {
		t.Errorf("%+v", s)
	}
}

func TestAPolicyBeginsWhenItsModuleIsLoaded(t *testing.T) {
	h := start(t, Config{})
	if err := h.Set(t.Context(), abi.Policy{Name: "p", Kind: abi.Admission, Module: "m"}); !errors.Is(err, ErrNoModule) {
		t.Fatal(err)
	}
	if _, _, err := h.Admit(t.Context(), "p", request); !errors.Is(err, ErrNotReady) {
		t.Fatal(err)
	}
	if s := h.Status(abi.Admission, "p"); s.Ready || s.Reason != "ModuleMissing" {
		t.Fatalf("%+v", s)
	}
	h.mustLoad(t, "m", admits(abi.AdmissionResponse{Allowed: true}))
	if s := h.Status(abi.Admission, "p"); !s.Ready || s.Reason != "" {
		t.Fatalf("%+v", s)
	}
	if r, _, err := h.Admit(t.Context(), "p", request); err != nil || !r.Allowed {
		t.Fatal(r, err)
	}
	h.Remove(abi.Admission, "p")
	if _, _, err := h.Admit(t.Context(), "p", request); !errors.Is(err, ErrNoPolicy) {
		t.Fatal(err)
	}
}

func TestTheHighestVersionThatBothSpeakIsTaken(t *testing.T) {
	for module, ok := range map[uint32]bool{1<<16 | 1: true, 7<<16 | 1: true, 1<<16 | 0: true, 3<<16 | 2: false, 0: false, 1: false} {
		if v, err := negotiate(module); (err == nil) != ok || ok && v != abi.Version {
			t.Errorf("%#x: %d, %v", module, v, err)
		}
	}
}

func TestTheCircuitOpensAndClosesAgain(t *testing.T) {
	clock := &testClock{now: time.Unix(1000, 0)}
	// The guest traps while now_ms is below 1,020,000: until twenty seconds later.
	h := start(t, Config{Clock: clock})
	h.mustLoad(t, "m", runs("$now_ms i64.const 1020000 i64.lt_s if unreachable end "+"i64.const 0"))
	h.mustSet(t, abi.Policy{Name: "p", Kind: abi.Admission, Module: "m", Capabilities: []string{"clock"}})
	call := func() error { _, _, err := h.Admit(t.Context(), "p", request); return err }
	var trap *guest.Trap
	for i := range breakAfter {
		if err := call(); !errors.As(err, &trap) {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if err := call(); !errors.Is(err, ErrCircuitOpen) {
		t.Fatalf("after %d failures: %v", breakAfter, err)
	}
	if s := h.Status(abi.Admission, "p"); !s.Ready || s.Reason != "CircuitOpen" || !strings.Contains(s.Message, "unreachable") || s.Errors != breakAfter {
		t.Fatalf("%+v", s)
	}
	clock.add(firstPause)
	if err := call(); !errors.As(err, &trap) {
		t.Fatalf("the trial: %v", err)
	}
	clock.add(firstPause)
	if err := call(); !errors.Is(err, ErrCircuitOpen) {
		t.Fatalf("the second pause is no longer than the first: %v", err)
	}
	clock.add(firstPause)
	if err := call(); err != nil {
		t.Fatalf("the second trial: %v", err)
	}
	if s := h.Status(abi.Admission, "p"); s.Reason != "" {
		t.Fatalf("%+v", s)
	}
}

func TestWhatTheCallerGivesUpIsNoFailureOfThePolicy(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := start(t, Config{})
	h.mustLoad(t, "m", admits(abi.AdmissionResponse{Allowed: true}))
	h.mustSet(t, abi.Policy{Name: "p", Kind: abi.Admission, Module: "m"})
	for range 2 * breakAfter {
		if _, _, err := h.Admit(ctx, "p", request); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if _, _, err := h.Admit(t.Context(), "p", request); err != nil {
		t.Fatal(err)
	}
}

type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *testClock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *testClock) add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

func TestAPodIsPlaced(t *testing.T) {
	h := start(t, Config{})
	h.mustLoad(t, "m", schedules(abi.Configured{Columns: []abi.Column{{Kind: abi.ColumnLabelNumber, Name: "price"}}}, refuseOdd, "the row is odd"))
	h.mustSet(t, abi.Policy{Name: "p", Kind: abi.Scheduling, Module: "m"})
	if s := h.Status(abi.Scheduling, "p"); !slices.Equal(s.Hooks, []string{HookPlace}) {
		t.Fatalf("%+v", s)
	}
	table := abi.NewNodeTable()
	for i := range 100 {
		table.Set(&abi.Node{Name: fmt.Sprint("node-", i)})
	}
	for _, rows := range [][]uint32{table.AppendRows(nil), {3, 4}, nil} {
		p := &abi.Placement{Pod: &abi.Pod{Name: "web"}, Nodes: table, Rows: rows}
		if _, err := h.Place(t.Context(), "p", p); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.Reasons, []string{"the row is odd"}) || len(p.Scores) != len(rows) {
			t.Fatalf("%+v", p)
		}
		for i, row := range rows {
			if p.Verdicts[i] != row%2 || p.Scores[i] != int32(min(row, 100)) {
				t.Fatalf("row %d: verdict %d, score %d", row, p.Verdicts[i], p.Scores[i])
			}
		}
	}
	// Another table, as after a change of leaders, and a generation: instances are replaced, nothing fails.
	for range 3 {
		other := abi.NewNodeTable()
		other.Set(&abi.Node{Name: "only"})
		p := &abi.Placement{Pod: &abi.Pod{}, Nodes: other, Rows: []uint32{0}}
		if _, err := h.Place(t.Context(), "p", p); err != nil || p.Verdicts[0] != 0 {
			t.Fatal(err)
		}
	}
	for _, hook := range []func() error{
		func() error { _, _, err := h.QueueKey(t.Context(), "p", &abi.Pod{}); return err },
		func() error { _, _, err := h.Permit(t.Context(), "p", &abi.PermitRequest{}); return err },
		func() error { _, _, err := h.PostFilter(t.Context(), "p", &abi.PostFilterRequest{}); return err },
	} {
		if err := hook(); !errors.Is(err, ErrNoHook) {
			t.Errorf("%v", err)
		}
	}
	if s := h.Status(abi.Scheduling, "p"); s.Errors != 0 {
		t.Errorf("%+v", s)
	}
	if err := h.Set(t.Context(), abi.Policy{Name: "q", Kind: abi.Scheduling, Module: "m", Hooks: []string{HookPermit}}); err == nil {
		t.Error("a hook that the module doesn't have was taken")
	}
}

func TestHooksAreAsked(t *testing.T) {
	g := newGuest(abi.Configured{})
	g.export("pintle_queue_key", i32i32, i64, "i64.const -7")
	g.answer("pintle_permit", (&abi.PermitResponse{Decision: abi.Wait, TimeoutMs: 5000, Reason: "2 of 3", Allow: []string{"a"}}).Append(nil))
	g.answer("pintle_post_filter", (&abi.PostFilterResponse{Message: "none left", Nominate: "node-1"}).Append(nil))
	h := start(t, Config{})
	h.mustLoad(t, "m", g.Bytes())
	h.mustSet(t, abi.Policy{Name: "p", Kind: abi.Scheduling, Module: "m"})
	if s := h.Status(abi.Scheduling, "p"); !slices.Equal(s.Hooks, []string{HookQueueSort, HookPermit, HookPostFilter}) {
		t.Fatalf("%q", s.Hooks)
	}
	if key, _, err := h.QueueKey(t.Context(), "p", &abi.Pod{Name: "web"}); err != nil || key != -7 {
		t.Error(key, err)
	}
	if r, _, err := h.Permit(t.Context(), "p", &abi.PermitRequest{Pod: &abi.Pod{}, Node: "n"}); err != nil || r.Decision != abi.Wait || r.TimeoutMs != 5000 || r.Reason != "2 of 3" || r.Allow[0] != "a" {
		t.Error(r, err)
	}
	if r, _, err := h.PostFilter(t.Context(), "p", &abi.PostFilterRequest{Pod: &abi.Pod{}, Reasons: []abi.Count{{Reason: "x", Nodes: 3}}}); err != nil || r.Message != "none left" || r.Nominate != "node-1" {
		t.Error(r, err)
	}
	if _, err := h.Place(t.Context(), "p", &abi.Placement{Pod: &abi.Pod{}, Nodes: abi.NewNodeTable()}); !errors.Is(err, ErrNoHook) {
		t.Error(err)
	}
}

func TestMetricsFollowThePolicies(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := start(t, Config{Metrics: registry})
	h.mustLoad(t, "m", admits(abi.AdmissionResponse{}))
	h.mustSet(t, abi.Policy{Name: "p", Kind: abi.Admission, Module: "m"})
	for range 3 {
		_, _, _ = h.Admit(t.Context(), "p", request)
	}
	read := func() map[string]float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]float64{}
		for _, f := range families {
			for _, m := range f.Metric {
				key := f.GetName()
				for _, l := range m.Label {
					key += " " + l.GetName() + "=" + l.GetValue()
				}
				all[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		return all
	}
	got := read()
	if got["pintle_policy_calls_total kind=Admission policy=p result=rejected"] != 3 || got["pintle_policy_duration_seconds kind=Admission policy=p"] != 3 ||
		got["pintle_policy_ready kind=Admission policy=p"] != 1 || got["pintle_policy_fuel_total kind=Admission policy=p"] == 0 {
		t.Errorf("%v", got)
	}
	h.Remove(abi.Admission, "p")
	if got := read(); len(got) != 0 {
		t.Errorf("a policy that was removed left %v", got)
	}
}

func TestQuantilesAreOfRecentCalls(t *testing.T) {
	var y tally
	for i := range 5000 {
		d := time.Microsecond
		if i < 2000 {
			d = time.Second // long ago
		} else if i%50 == 0 {
			d = time.Millisecond
		}
		y.add(d, 1)
	}
	if p50, p99 := y.quantiles(); p50 != time.Microsecond || p99 != time.Millisecond {
		t.Error(p50, p99)
	}
}

// TestWhatACallMayUseDoesNotDependOnTheCallsBefore: with just the fuel that a warm instance needs, a fresh one has enough,
// and half of it is too little for both.
func TestWhatACallMayUseDoesNotDependOnTheCallsBefore(t *testing.T) {
	table := abi.NewNodeTable()
	for i := range 4000 { // so that to decide costs more than to find room
		table.Set(&abi.Node{Name: fmt.Sprint("node-", i)})
	}
	wasm := schedules(abi.Configured{}, refuseOdd, "odd")
	place := func(fuel uint64, warm int) (spent abi.Spent, err error) {
		h := start(t, Config{})
		h.mustLoad(t, "m", wasm)
		h.mustSet(t, abi.Policy{Name: "p", Kind: abi.Scheduling, Module: "m", Limits: abi.Limits{Fuel: fuel}})
		p := &abi.Placement{Pod: &abi.Pod{Name: "web"}, Nodes: table, Rows: table.AppendRows(nil)}
		for range warm + 1 {
			if spent, err = h.Place(t.Context(), "p", p); err != nil {
				return spent, err
			}
		}
		return spent, nil
	}
	warm, err := place(0, 3)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := place(0, 3); err != nil || again.Fuel != warm.Fuel {
		t.Fatalf("the same call used %d and %d of fuel, %v", warm.Fuel, again.Fuel, err)
	}
	for before := range 3 {
		if _, err := place(warm.Fuel+1, before); err != nil {
			t.Errorf("after %d calls: %v", before, err)
		}
		if _, err := place(warm.Fuel/2, before); !errors.Is(err, guest.ErrFuel) {
			t.Errorf("after %d calls, with half the fuel: %v", before, err)
		}
	}
}
