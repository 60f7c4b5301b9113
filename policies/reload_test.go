package policies

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/pintle/pintle/policies/abi"
)

// TestANewVersionThatFailsChangesNothing: whatever is wrong with it, and for whichever of two policies.
func TestANewVersionThatFailsChangesNothing(t *testing.T) {
	refuses := newGuest(abi.Configured{Error: "a key is missing"})
	refuses.answer("pintle_admit", nil)
	place := schedules(abi.Configured{}, "")
	for name, c := range map[string]struct {
		wasm []byte
		says string
	}{
		"no module":        {[]byte("garbage"), "refused"},
		"another ABI":      {[]byte("\x00asm\x01\x00\x00\x00"), ErrUnknownABI.Error()},
		"settings refused": {refuses.Bytes(), "a key is missing"},
		"another kind":     {place, "doesn't export pintle_admit"},
		"a trap":           {trapsOnStart(), "unreachable"},
		"another version":  {speaks(2, 3), "versions 2 to 3"},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, Config{})
			before := h.mustLoad(t, "m", admits(abi.AdmissionResponse{Allowed: true}))
			for _, p := range []string{"a", "b"} {
				h.mustSet(t, abi.Policy{Name: p, Kind: abi.Admission, Module: "m"})
			}
			if _, err := h.Load(t.Context(), "m", c.wasm); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("Load: %v", err)
			}
			if m, ok := h.Module("m"); !ok || m != before {
				t.Fatalf("the module is %+v", m)
			}
			for _, p := range []string{"a", "b"} {
				if r, _, err := h.Admit(t.Context(), p, request); err != nil || !r.Allowed {
					t.Fatal(r, err)
				}
				if s := h.Status(abi.Admission, p); !s.Ready || s.Digest != before.Digest {
					t.Fatalf("%+v", s)
				}
			}
		})
	}
}

func trapsOnStart() []byte {
	g := newGuest(abi.Configured{})
	g.answer("pintle_admit", nil)
	g.export("_initialize", noTypes, noTypes, "unreachable")
	return g.Bytes()
}

func speaks(lowest, highest int) []byte {
	g := newGuestOf(fmt.Sprint("i32.const ", highest<<16|lowest), "i64.const 0")
	g.answer("pintle_admit", nil)
	return g.Bytes()
}

func TestSettingsThatAreRefusedLeaveThePolicyAsItWas(t *testing.T) {
	// Settings whose JSON begins with x are refused: byte 4 of the message, behind the version and the field's head.
	refusal := (&abi.Configured{Error: "x is no good"}).Append(nil)
	g := newGuestOf(bothSpeak, fmt.Sprintf("local.get 0 i32.load8_u 4 i32.const 120 i32.eq if i64 i64.const %d else i64.const 0 end", 2048<<32|len(refusal)))
	g.Data(2048, refusal)
	g.answer("pintle_admit", nil)
	module := g.Bytes()
	h := start(t, Config{})
	h.mustLoad(t, "m", module)
	p := abi.Policy{Name: "p", Kind: abi.Admission, Module: "m", Settings: []byte("y")}
	h.mustSet(t, p)
	p.Settings = []byte("x")
	if err := h.Set(t.Context(), p); !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), "x is no good") {
		t.Fatal(err)
	}
	if s := h.Status(abi.Admission, "p"); !s.Ready || s.Reason != "Refused" || !strings.Contains(s.Message, "x is no good") {
		t.Fatalf("%+v", s)
	}
	if _, _, err := h.Admit(t.Context(), "p", request); err != nil {
		t.Fatal(err)
	}
	// A reload goes by the settings that are in force, and the policy says still what is wrong with the others.
	h.mustLoad(t, "m", module)
	if s := h.Status(abi.Admission, "p"); !s.Ready || s.Reason != "Refused" {
		t.Fatalf("%+v", s)
	}
	// A module that takes the others is run with them.
	h.mustLoad(t, "m", admits(abi.AdmissionResponse{Message: "takes all"}))
	if r, _, err := h.Admit(t.Context(), "p", request); err != nil || r.Message != "takes all" || h.Status(abi.Admission, "p").Reason != "" {
		t.Fatal(r, err)
	}
	// A policy that never ran keeps no other from a new version.
	p = abi.Policy{Name: "never", Kind: abi.Admission, Module: "m", Capabilities: []string{"no such"}}
	if err := h.Set(t.Context(), p); err == nil {
		t.Fatal("it was set")
	}
	h.mustLoad(t, "m", admits(abi.AdmissionResponse{Message: "takes all, too"}))
	if s := h.Status(abi.Admission, "never"); s.Ready || s.Reason != "Refused" {
		t.Fatalf("%+v", s)
	}
}

func TestAPolicyGoesOnWhileTheModuleItIsToHaveIsMissing(t *testing.T) {
	h := start(t, Config{})
	h.mustLoad(t, "old", admits(abi.AdmissionResponse{Message: "old"}))
	h.mustSet(t, abi.Policy{Name: "p", Kind: abi.Admission, Module: "old"})
	says := func(want string) {
		t.Helper()
		if r, _, err := h.Admit(t.Context(), "p", request); err != nil || r.Message != want {
			t.Fatal(r, err)
		}
	}
	if err := h.Set(t.Context(), abi.Policy{Name: "p", Kind: abi.Admission, Module: "new"}); !errors.Is(err, ErrNoModule) {
		t.Fatal(err)
	}
	says("old")
	h.mustLoad(t, "old", admits(abi.AdmissionResponse{Message: "old, again"}))
	says("old, again")
	h.mustLoad(t, "new", admits(abi.AdmissionResponse{Message: "new"}))
	says("new")
	h.Unload("old")
	h.Unload("new")
	says("new")
}

// TestNoCallFailsOrIsHalfDecidedWhileModulesAreReloaded: two policies of one module are asked without end while it is
// loaded anew; each call is answered by one version or the other, and one policy never sees an older version again.
func TestNoCallFailsOrIsHalfDecidedWhileModulesAreReloaded(t *testing.T) {
	h := start(t, Config{})
	version := func(n int) []byte {
		return admits(abi.AdmissionResponse{Allowed: n%2 == 0, Code: uint32(n), Message: fmt.Sprint("version ", n)})
	}
	h.mustLoad(t, "m", version(0))
	h.mustSet(t, abi.Policy{Name: "a", Kind: abi.Admission, Module: "m"})
	h.mustSet(t, abi.Policy{Name: "b", Kind: abi.Admission, Module: "m"})
	sched := schedules(abi.Configured{}, refuseOdd, "odd")
	h.mustLoad(t, "s", sched)
	h.mustSet(t, abi.Policy{Name: "s", Kind: abi.Scheduling, Module: "s"})
	table := abi.NewNodeTable()
	for i := range 10 {
		table.Set(&abi.Node{Name: fmt.Sprint("node-", i)})
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			last := uint32(0)
			p := &abi.Placement{Pod: &abi.Pod{}, Nodes: table, Rows: table.AppendRows(nil)}
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, _, err := h.Admit(context.Background(), []string{"a", "b"}[i%2], request)
				if err != nil || r.Message != fmt.Sprint("version ", r.Code) || r.Allowed != (r.Code%2 == 0) || r.Code < last {
					t.Errorf("after version %d: %+v, %v", last, r, err)
					return
				}
				last = r.Code
				if _, err := h.Place(context.Background(), "s", p); err != nil || p.Verdicts[1] != 1 {
					t.Errorf("%v", err)
					return
				}
				h.Status(abi.Admission, "a")
			}
		})
	}
	for n := 1; n <= 20; n++ {
		h.mustLoad(t, "m", version(n))
		h.mustLoad(t, "s", sched)
		h.mustSet(t, abi.Policy{Name: "b", Kind: abi.Admission, Module: "m", Settings: fmt.Append(nil, n)})
		_, _ = h.Load(t.Context(), "m", []byte("garbage"))
		h.mustSet(t, abi.Policy{Name: fmt.Sprint("passing ", n), Kind: abi.Admission, Module: "m"})
		h.Remove(abi.Admission, fmt.Sprint("passing ", n))
	}
	close(stop)
	wg.Wait()
	if s := h.Status(abi.Admission, "a"); s.Errors != 0 || s.Calls == 0 {
		t.Errorf("%+v", s)
	}
}

func TestTheLatestLoadWins(t *testing.T) {
	h := start(t, Config{})
	begin := func() uint64 { // a Load that has begun
		h.mu.Lock()
		defer h.mu.Unlock()
		h.tickets["m"]++
		return h.tickets["m"]
	}
	finish := func(ticket uint64) error {
		m, err := h.compile(t.Context(), "m", admits(abi.AdmissionResponse{Message: "late"}))
		if err != nil {
			t.Fatal(err)
		}
		m.hold()
		h.mu.Lock()
		err = h.install(t.Context(), "m", ticket, m)
		h.mu.Unlock()
		if err != nil {
			return errors.Join(err, m.release(t.Context()))
		}
		return nil
	}
	late := begin()
	h.mustLoad(t, "m", admits(abi.AdmissionResponse{Message: "second"}))
	if err := finish(late); !errors.Is(err, ErrSuperseded) {
		t.Fatal(err)
	}
	late = begin()
	if _, err := h.Load(t.Context(), "m", []byte("garbage")); err == nil {
		t.Fatal("garbage was loaded")
	}
	if err := finish(late); err != nil {
		t.Fatalf("a Load that failed overtakes none: %v", err)
	}
	late = begin()
	h.Unload("m")
	if err := finish(late); !errors.Is(err, ErrSuperseded) {
		t.Fatalf("what is unloaded comes back: %v", err)
	}
}
