package kubewarden

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/compat/internal/wasmtest"
	"github.com/pintle/pintle/policies/guest"
)

// fixture keeps what all tests share: guests in Go take a second to build and another to compile.
type fixture struct {
	wapc    *guest.Module
	adapter *Adapter
}

var wapcGuest wasmtest.Shared

func lookup(_ context.Context, name string) ([]byte, error) {
	switch name {
	case "/v1/namespaces//default":
		return []byte(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"default"}}`), nil
	case "/v1/pods/default/":
		return []byte(`{"items":[{"metadata":{"name":"a","namespace":"default","labels":{"color":"green"},"managedFields":[{}]}},` +
			`{"metadata":{"name":"b","namespace":"default","labels":{"color":"red"}},"spec":{"nodeName":"n1"}}]}`), nil
	case "networking.k8s.io/v1/ingresses//":
		return []byte(`{"items":[]}`), nil
	}
	return nil, nil
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{}
	f.adapter = New(Config{
		Lookup: lookup,
		CanI: func(_ context.Context, spec []byte) ([]byte, error) {
			return fmt.Appendf(nil, `{"allowed":true,"reason":%q}`, spec), nil
		},
		Host: func(_ context.Context, namespace, operation string, payload []byte) ([]byte, error) {
			return fmt.Appendf(nil, "%s %s %s", namespace, operation, payload), nil
		},
	})
	f.wapc = wapcGuest.Get(t, f.adapter, func() []byte { return wasmtest.Reactor(t, "testdata/wapc") })
	return f
}

// policy sets a policy up, and ends it with the test.
func (f *fixture) policy(t testing.TB, m *guest.Module, p abi.Policy) guest.Admitter {
	t.Helper()
	e, err := f.adapter.Admission(context.Background(), m, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	return e
}

func pod(labels string) *abi.AdmissionRequest {
	return &abi.AdmissionRequest{
		UID: "u1", Operation: abi.Create, Name: "p1", Namespace: "default",
		Kind:     abi.GroupVersionKind{Version: "v1", Kind: "Pod"},
		Resource: abi.GroupVersionResource{Version: "v1", Resource: "pods"},
		User:     abi.UserInfo{Username: "eve", Groups: []string{"system:authenticated"}},
		Object:   abi.JSONObject(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p1","labels":` + labels + `}}`),
	}
}

func TestWapcPolicies(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		name, settings, labels string
		capabilities           []string
		want                   abi.AdmissionResponse
	}{
		{name: "accepts", labels: `{}`, want: abi.AdmissionResponse{Allowed: true}},
		{name: "finds its settings", settings: `{"Required":["team"]}`, labels: `{"team":"a"}`, want: abi.AdmissionResponse{Allowed: true}},
		{
			name: "refuses", settings: `{"Required":["team"]}`, labels: `{}`,
			want: abi.AdmissionResponse{Message: "label team is missing", Warnings: []string{"look at u1"}, Audit: []abi.Pair{{Key: "missing", Value: "team"}}},
		},
		{
			name: "mutates", settings: `{"Label":"seen"}`, labels: `{}`,
			want: abi.AdmissionResponse{Allowed: true, PatchType: abi.WholeObject,
				Patch: []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"seen":"yes"},"name":"p1"}}`)},
		},
		{name: "mutates nothing", settings: `{"Label":"seen"}`, labels: `{"seen":"yes"}`, want: abi.AdmissionResponse{Allowed: true}},
		{
			name: "reads an object", capabilities: []string{"read:/namespaces"},
			settings: `{"Call":{"Binding":"kubewarden","Namespace":"kubernetes","Operation":"get_resource","Payload":"{\"api_version\":\"v1\",\"kind\":\"Namespace\",\"name\":\"default\",\"namespace\":null,\"disable_cache\":false}"}}`,
			want:     abi.AdmissionResponse{Code: 418, Message: `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"default"}}`},
		},
		{
			name: "reads no object that is missing", capabilities: []string{"read:/namespaces"},
			settings: `{"Call":{"Binding":"kubewarden","Namespace":"kubernetes","Operation":"get_resource","Payload":"{\"api_version\":\"v1\",\"kind\":\"Namespace\",\"name\":\"other\"}"}}`,
			want:     abi.AdmissionResponse{Code: 418, Message: `refused: Cannot find v1/Namespace named 'other' inside of namespace ''`},
		},
		{
			name:     "reads nothing that isn't granted",
			settings: `{"Call":{"Binding":"kubewarden","Namespace":"kubernetes","Operation":"get_resource","Payload":"{\"api_version\":\"v1\",\"kind\":\"Secret\",\"name\":\"s\",\"namespace\":\"default\"}"}}`,
			want: abi.AdmissionResponse{Code: 418, Message: `refused: policy has not been granted access to Kubernetes v1/Secret resources: ` +
				`add the capability "read:/secrets" to the policy object`},
		},
		{
			name: "lists by namespace and labels", capabilities: []string{"read:/pods"},
			settings: `{"Call":{"Binding":"kubewarden","Namespace":"kubernetes","Operation":"list_resources_by_namespace","Payload":"{\"api_version\":\"v1\",\"kind\":\"Pod\",\"namespace\":\"default\",\"label_selector\":\"color=green\",\"field_selector\":null}"}}`,
			want: abi.AdmissionResponse{Code: 418, Message: `{"apiVersion":"v1","items":[{"apiVersion":"v1","kind":"Pod","metadata":` +
				`{"labels":{"color":"green"},"name":"a","namespace":"default"}}],"kind":"PodList","metadata":{}}`},
		},
		{
			name: "lists by field", capabilities: []string{"read:/pods"},
			settings: `{"Call":{"Binding":"kubewarden","Namespace":"kubernetes","Operation":"list_resources_by_namespace","Payload":"{\"api_version\":\"v1\",\"kind\":\"Pod\",\"namespace\":\"default\",\"field_selector\":\"spec.nodeName=n1\"}"}}`,
			want: abi.AdmissionResponse{Code: 418, Message: `{"apiVersion":"v1","items":[{"apiVersion":"v1","kind":"Pod","metadata":` +
				`{"labels":{"color":"red"},"name":"b","namespace":"default"},"spec":{"nodeName":"n1"}}],"kind":"PodList","metadata":{}}`},
		},
		{
			name: "lists everywhere, as old SDKs ask", capabilities: []string{"read:networking.k8s.io/ingresses"},
			settings: `{"Call":{"Binding":"kubernetes","Namespace":"ingresses","Operation":"list","Payload":""}}`,
			want:     abi.AdmissionResponse{Code: 418, Message: `{"apiVersion":"networking.k8s.io/v1","items":[],"kind":"IngressList","metadata":{}}`},
		},
		{
			name: "asks for access reviews", capabilities: []string{"kubewarden:can_i"},
			settings: `{"Call":{"Binding":"kubewarden","Namespace":"kubernetes","Operation":"can_i","Payload":"{\"subject_access_review\":{\"user\":\"eve\"},\"disable_cache\":true}"}}`,
			want:     abi.AdmissionResponse{Code: 418, Message: `{"allowed":true,"reason":"{\"user\":\"eve\"}"}`},
		},
		{
			name: "reaches other host capabilities", capabilities: []string{"kubewarden:oci"},
			settings: `{"Call":{"Binding":"kubewarden","Namespace":"oci","Operation":"v1/manifest_digest","Payload":"\"busybox\""}}`,
			want:     abi.AdmissionResponse{Code: 418, Message: `oci v1/manifest_digest "busybox"`},
		},
		{
			name:     "is refused them without a grant",
			settings: `{"Call":{"Binding":"kubewarden","Namespace":"net","Operation":"v1/dns_lookup_host","Payload":"\"example.com\""}}`,
			want: abi.AdmissionResponse{Code: 418, Message: `refused: policy has not been granted the host capability net: ` +
				`add the capability "kubewarden:net" to the policy object`},
		},
		{
			name:     "is refused what doesn't exist",
			settings: `{"Call":{"Binding":"kubewarden","Namespace":"kubernetes","Operation":"delete_everything","Payload":"{}"}}`,
			want:     abi.AdmissionResponse{Code: 418, Message: `refused: unknown operation: delete_everything`},
		},
		{
			name:     "logs",
			settings: `{"Call":{"Binding":"kubewarden","Namespace":"tracing","Operation":"log","Payload":"{\"level\":\"info\",\"message\":\"hello\"}"}}`,
			want:     abi.AdmissionResponse{Code: 418},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.labels == "" {
				c.labels = "{}"
			}
			e := f.policy(t, f.wapc, abi.Policy{Name: "p", Settings: []byte(c.settings), Capabilities: c.capabilities})
			for range 2 { // a warm instance answers the same
				got, spent, err := e.Admit(context.Background(), pod(c.labels))
				if err != nil {
					t.Fatal(err)
				}
				if fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", c.want) {
					t.Errorf("got  %+v\nwant %+v", *got, c.want)
				}
				if spent.Fuel == 0 || spent.Memory == 0 {
					t.Errorf("spent nothing: %+v", spent)
				}
			}
		})
	}
}

func TestAMutationOfADeletionIsRefused(t *testing.T) {
	f := newFixture(t)
	e := f.policy(t, f.wapc, abi.Policy{Settings: []byte(`{"Answer":{"accepted":true,"mutated_object":{}}}`)})
	q := pod(`{}`)
	q.Operation, q.OldObject, q.Object = abi.Delete, q.Object, nil
	got, _, err := e.Admit(context.Background(), q)
	if err != nil || got.Allowed || !strings.Contains(got.Message, "Incoming object is null") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSettingsThatTheModuleRefusesRefuseThePolicy(t *testing.T) {
	f := newFixture(t)
	for settings, want := range map[string]string{
		`{"Required":7}`: "the module refuses its settings: json: cannot unmarshal",
		`[]`:             "settings must be a JSON object",
		`{`:              "settings must be a JSON object",
	} {
		_, err := f.adapter.Admission(context.Background(), f.wapc, abi.Policy{Settings: []byte(settings)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", settings, err, want)
		}
	}
}

// What a guest does wrong ends its call, and the next call finds a sound instance.
func TestHostileModulesAreContained(t *testing.T) {
	f := newFixture(t)
	limits := abi.Limits{Fuel: 20_000_000, MemoryBytes: 32 << 20}
	for do, want := range map[string]error{
		"spin": guest.ErrFuel, "lie": guest.ErrBounds, "flood": guest.ErrOutput, "chatter": guest.ErrHostCalls,
		"liecall": guest.ErrBounds, "panic": nil, "grow": nil, "fail": nil,
	} {
		t.Run(do, func(t *testing.T) {
			e := f.policy(t, f.wapc, abi.Policy{Settings: []byte(`{"Do":"` + do + `"}`), Limits: limits})
			for range 2 {
				_, _, err := e.Admit(context.Background(), pod(`{}`))
				if err == nil || want != nil && !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
			}
		})
	}
}

func TestAnswersThatAreNoneAreErrors(t *testing.T) {
	f := newFixture(t)
	for _, answer := range []string{`{}`, `"yes"`, `{"accepted":"yes"}`, `{"accepted":true,"mutated_object":7}`, `{"accepted":null}`, `[]`} {
		e := f.policy(t, f.wapc, abi.Policy{Settings: []byte(`{"Answer":` + answer + `}`)})
		if got, _, err := e.Admit(context.Background(), pod(`{}`)); err == nil {
			t.Errorf("%s: %+v", answer, got)
		}
	}
}

// A policy that decides by what it did before is asked again as if it had done nothing.
func TestAWarmInstanceThatFailsIsTriedAfresh(t *testing.T) {
	f := newFixture(t)
	e := f.policy(t, f.wapc, abi.Policy{Settings: []byte(`{"Do":"second"}`)})
	for range 5 {
		if got, _, err := e.Admit(context.Background(), pod(`{}`)); err != nil || !got.Allowed {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

func TestPoliciesAreAskedByManyAtOnce(t *testing.T) {
	f := newFixture(t)
	e := f.policy(t, f.wapc, abi.Policy{Settings: []byte(`{"Required":["team"]}`)})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				labels, allowed := `{}`, (i+j)%2 == 0
				if allowed {
					labels = `{"team":"a"}`
				}
				got, _, err := e.Admit(context.Background(), pod(labels))
				if err != nil || got.Allowed != allowed {
					t.Errorf("%+v, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestMetadata(t *testing.T) {
	a := New(Config{})
	rt := wasmtest.Runtime(t)
	wasm := wasmtest.C(t, "testdata/label.c")
	const section = "io.kubewarden.metadata"
	for meta, want := range map[string]string{
		`{"protocolVersion":"v1","rules":[],"mutating":false}`:                  "",
		`{"protocolVersion":"V1","executionMode":"kubewarden-wapc","rules":[]}`: "",
		`{"protocolVersion":"v2","rules":[]}`:                                   `protocolVersion "v2"; v1 is understood`,
		`{"protocolVersion":"v1","executionMode":"gatekeeper"}`:                 `executionMode "gatekeeper"`,
		`{"protocolVersion":"v1","policyType":"raw"}`:                           "raw policy",
		`{`: "section io.kubewarden.metadata",
	} {
		m := wasmtest.Compile(t, rt, a, wasmtest.Section(wasm, section, []byte(meta)))
		e, err := a.Admission(context.Background(), m, abi.Policy{})
		if err == nil {
			_ = e.Close(context.Background())
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", meta, err, want)
		}
	}
}

func TestWASICommands(t *testing.T) {
	wasm := wasmtest.Section(wasmtest.Command(t, "testdata/command"), "io.kubewarden.metadata", []byte(`{"protocolVersion":"Unknown","executionMode":"wasi"}`))
	f := &fixture{adapter: New(Config{Lookup: lookup})}
	m := wasmtest.Compile(t, wasmtest.Runtime(t), f.adapter, wasm)
	e := f.policy(t, m, abi.Policy{Settings: []byte(`{"Forbidden":"p1"}`)})
	for range 2 {
		got, _, err := e.Admit(context.Background(), pod(`{}`))
		if err != nil || got.Allowed || got.Message != "CREATE of p1" || got.Code != 400 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	q := pod(`{}`)
	q.Name = "other"
	if got, _, err := e.Admit(context.Background(), q); err != nil || !got.Allowed {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := f.adapter.Admission(context.Background(), m, abi.Policy{}); err == nil || !strings.Contains(err.Error(), "forbidden is needed") {
		t.Errorf("settings: %v", err)
	}
	e = f.policy(t, m, abi.Policy{Settings: []byte(`{"Forbidden":"x","Fail":true}`)})
	if _, _, err := e.Admit(context.Background(), pod(`{}`)); err == nil || !strings.Contains(err.Error(), "failed on purpose") {
		t.Errorf("%v", err)
	}
	for _, granted := range []bool{true, false} {
		p := abi.Policy{Settings: []byte(`{"Forbidden":"x","Ask":true}`)}
		if granted {
			p.Capabilities = []string{"read:/namespaces"}
		}
		got, _, err := f.policy(t, m, p).Admit(context.Background(), pod(`{}`))
		if err != nil || got.Allowed != granted {
			t.Errorf("granted %t: %+v, %v", granted, got, err)
		}
	}
}

func TestPoliciesInOtherLanguages(t *testing.T) {
	for language, build := range map[string]func(t *testing.T) []byte{
		"C":              func(t *testing.T) []byte { return wasmtest.C(t, "testdata/label.c") },
		"AssemblyScript": func(t *testing.T) []byte { return wasmtest.AssemblyScript(t, "testdata/label.ts") },
	} {
		t.Run(language, func(t *testing.T) {
			f := &fixture{adapter: New(Config{})}
			m := wasmtest.Compile(t, wasmtest.Runtime(t), f.adapter, build(t))
			e := f.policy(t, m, abi.Policy{})
			for labels, allowed := range map[string]bool{`{}`: false, `{"team":"a"}`: true} {
				got, _, err := e.Admit(context.Background(), pod(labels))
				if err != nil || got.Allowed != allowed || !allowed && got.Message != "label team is missing" {
					t.Errorf("%s: %+v, %v", labels, got, err)
				}
			}
			if language != "AssemblyScript" {
				return
			}
			_, _, err := e.Admit(context.Background(), pod(`{"abort":"x"}`))
			if err == nil || !strings.Contains(err.Error(), "label.ts") || !strings.Contains(err.Error(), "aborted on purpose") {
				t.Errorf("%v", err)
			}
		})
	}
}
