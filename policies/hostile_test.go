package policies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// TestHostilePoliciesAreContained: each fails, says why, and the policy beside it goes on.
func TestHostilePoliciesAreContained(t *testing.T) {
	h := start(t, Config{})
	h.mustLoad(t, "good", admits(abi.AdmissionResponse{Allowed: true}))
	h.mustSet(t, abi.Policy{Name: "good", Kind: abi.Admission, Module: "good"})
	for name, c := range map[string]struct {
		code string
		want error
	}{
		"spins":                     {"loop br 0 end i64.const 0", guest.ErrFuel},
		"spins in a host call":      {"loop i32.const 0 i32.const 0 $intern drop br 0 end i64.const 0", guest.ErrHostCalls},
		"lies about its answer":     {"i64.const -1", guest.ErrOutput},
		"points outside its memory": {"i64.const 0x7fffffff00000001", guest.ErrBounds},
		"answers garbage":           {"i32.const 512 i32.const -1 i32.store 0 i64.const 0x20000000004", abi.ErrMalformed},
		"interns what it hasn't":    {"i32.const 2000000000 i32.const 100 $intern drop i64.const 0", guest.ErrBounds},
		"logs what it hasn't":       {"i32.const 1 i32.const -5 i32.const -5 $log i64.const 0", guest.ErrBounds},
		"looks up what it hasn't":   {"i32.const -5 i32.const 100 $lookup", guest.ErrBounds},
		"looks up what is no name":  {"i32.const 0 i32.const 4 $lookup", nil},
		"interns what is no string": {"i32.const 512 i32.const -1 i32.store 0 i32.const 512 i32.const 4 $intern drop i64.const 0", abi.ErrMalformed},
		"makes up strings without end": {`loop
			i32.const 512 i32.const 512 i32.load 0 i32.const 0x101 i32.add i32.const 0x7f7f7f7f i32.and i32.store 0
			i32.const 512 local.get 2 i32.const 1 i32.add local.tee 2 i32.const 0xffff i32.and $intern drop br 0 end i64.const 0`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h.mustLoad(t, name, runs(c.code))
			h.mustSet(t, abi.Policy{Name: name, Kind: abi.Admission, Module: name})
			for range 3 {
				if _, _, err := h.Admit(t.Context(), name, request); err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Fatalf("%v", err)
				}
				if r, _, err := h.Admit(t.Context(), "good", request); err != nil || !r.Allowed {
					t.Fatal(r, err)
				}
			}
			h.Remove(abi.Admission, name)
			h.Unload(name)
		})
	}
}

// TestHostileSchedulersAreContained: what they do to the regions and verdicts is an error, and leaves a zero placement.
func TestHostileSchedulersAreContained(t *testing.T) {
	region := func(code string) []byte {
		g := newGuest(abi.Configured{})
		g.export("pintle_region", i32i32, i32, code)
		g.answer("pintle_place", nil)
		return g.Bytes()
	}
	h := start(t, Config{})
	table := abi.NewNodeTable()
	for i := range 50 {
		table.Set(&abi.Node{Name: fmt.Sprint("node-", i)})
	}
	for name, wasm := range map[string][]byte{
		"no region":                region("i32.const 0"),
		"a region that isn't even": region("i32.const 4097"),
		"a region beyond memory":   region("i32.const -8"),
		"regions that spin":        region("loop br 0 end i32.const 0"),
		"a verdict without reason": schedules(abi.Configured{}, refuseOdd),
		"too many columns":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			if wasm == nil {
				many := newGuest(abi.Configured{Columns: make([]abi.Column, abi.MaxColumns+1)})
				many.answer("pintle_permit", nil)
				h.mustLoad(t, name, many.Bytes())
				if err := h.Set(t.Context(), abi.Policy{Name: name, Kind: abi.Scheduling, Module: name}); err == nil {
					t.Fatal("it got them")
				}
				return
			}
			h.mustLoad(t, name, wasm)
			h.mustSet(t, abi.Policy{Name: name, Kind: abi.Scheduling, Module: name})
			p := &abi.Placement{Pod: &abi.Pod{}, Nodes: table, Rows: table.AppendRows(nil)}
			_, err := h.Place(t.Context(), name, p)
			if err == nil || len(p.Reasons) > 0 || slices.Max(p.Verdicts) > 0 || slices.Max(p.Scores) > 0 {
				t.Fatalf("%v %+v", err, p)
			}
		})
	}
}

func TestWhatAPolicyLogsIsBounded(t *testing.T) {
	var out bytes.Buffer
	h := start(t, Config{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	g := newGuest(abi.Configured{})
	at := g.data
	g.Data(at, []byte("hello from the guest"))
	g.data += 64
	g.export("pintle_admit", i32i32, i64, fmt.Sprintf(`loop i32.const 1 i32.const %d i32.const 20 $log
		i32.const 2 i32.const %d i32.const 60000 $log local.get 2 i32.const 1 i32.add local.tee 2 i32.const 1000 i32.lt_u br_if 0 end i64.const 0`, at, at))
	h.mustLoad(t, "m", g.Bytes())
	h.mustSet(t, abi.Policy{Name: "p", Kind: abi.Admission, Module: "m"})
	if _, _, err := h.Admit(t.Context(), "p", request); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "a policy says"); n != logLines || !strings.Contains(out.String(), "hello from the guest") || out.Len() > logLines*(logBytes*4+300)+1000 {
		t.Errorf("%d lines, %d bytes", n, out.Len())
	}
}

func TestOnlyWhatIsGrantedIsGiven(t *testing.T) {
	const object = "/v1/pods/default/web"
	read := func() []byte { // answers with what lookup gives
		g := newGuest(abi.Configured{})
		at := g.data
		g.Data(at, []byte(object))
		g.data += 64
		g.export("pintle_admit", i32i32, i64, fmt.Sprintf("i32.const %d i32.const %d $lookup", at, len(object)))
		return g.Bytes()
	}
	now := runs("i32.const 512 i32.const 0x10 i32.store 0 i32.const 513 $now_ms i64.const 127 i64.and i64.store8 0 i64.const 0x20000000002") // code: 0..127
	found := (&abi.AdmissionResponse{Message: "found"}).Append(nil)
	clock := &testClock{now: time.UnixMilli(1<<40 | 77)}
	asked := ""
	h := start(t, Config{Clock: clock, Lookup: func(_ context.Context, name string) ([]byte, error) { asked = name; return found, nil }})
	h.mustLoad(t, "read", read())
	h.mustLoad(t, "now", now)
	for _, c := range []struct {
		module, capability string
		code               uint32
		message            string
	}{{"read", "", 0, ""}, {"read", "read:apps/pods", 0, ""}, {"read", "read:/pods", 0, "found"}, {"now", "", 0, ""}, {"now", "clock", 77, ""}} {
		p := abi.Policy{Name: "p", Kind: abi.Admission, Module: c.module}
		if c.capability != "" {
			p.Capabilities = []string{c.capability}
		}
		h.mustSet(t, p)
		asked = ""
		r, _, err := h.Admit(t.Context(), "p", request)
		if err != nil || r.Code != c.code || r.Message != c.message || (asked == object) != (c.message != "") {
			t.Errorf("%s with %q: %+v, %v; asked for %q", c.module, c.capability, r, err, asked)
		}
	}
	if err := h.Set(t.Context(), abi.Policy{Name: "p", Kind: abi.Admission, Module: "now", Capabilities: []string{"network"}}); err == nil {
		t.Error("a capability that there isn't was granted")
	}
}
