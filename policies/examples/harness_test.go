package examples

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/sdk/sdktest"
)

// host runs the policies of all tests: a module is compiled once.
var host *policies.Host

// objects is what policies find when they look something up: JSON by the name of the lookup.
var objects sync.Map

func TestMain(m *testing.M) {
	h, err := policies.New(policies.Config{Lookup: func(_ context.Context, name string) ([]byte, error) {
		object, _ := objects.Load(name)
		json, _ := object.(string)
		return []byte(json), nil
	}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	host = h
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	code := m.Run()
	cancel()
	if err := <-ended; err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// loads are the modules that a test has asked for; each is loaded once.
var loads sync.Map

func load(t *testing.T, policy string, in sdktest.Language) (string, error) {
	name := policy + "-" + string(in)
	wasm := sdktest.Need(t, policy, in)
	once, _ := loads.LoadOrStore(name, sync.OnceValue(func() error {
		m, err := host.Load(context.Background(), name, wasm)
		if err == nil && m.ABI != "pintle/v1" {
			err = fmt.Errorf("the module's ABI is %q", m.ABI)
		}
		return err
	}))
	return name, once.(func() error)()
}

// each runs a test on a policy in every language that it is written in.
func each(t *testing.T, policy string, kind abi.Kind, test func(t *testing.T, g *example)) {
	for _, language := range sdktest.Policies()[policy] {
		t.Run(string(language), func(t *testing.T) {
			t.Parallel()
			module, err := load(t, policy, language)
			if err != nil {
				t.Fatal(err)
			}
			g := &example{kind: kind, module: module, name: t.Name()}
			t.Cleanup(func() { host.Remove(kind, g.name) })
			test(t, g)
		})
	}
}

// example is a policy of one test, whose module is loaded.
type example struct {
	kind   abi.Kind
	module string
	name   string
}

// set gives the policy its settings and what it is granted.
func (g *example) set(settings string, capabilities ...string) error {
	return host.Set(context.Background(), abi.Policy{
		Name: g.name, Kind: g.kind, Module: g.module, Settings: []byte(settings), Capabilities: capabilities,
	})
}

func (g *example) mustSet(t *testing.T, settings string, capabilities ...string) {
	t.Helper()
	if err := g.set(settings, capabilities...); err != nil {
		t.Fatal(err)
	}
}

// refusesSettings says that the policy doesn't take them, and why.
func (g *example) refusesSettings(t *testing.T, settings, why string) {
	t.Helper()
	if err := g.set(settings, "read:/pods"); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("settings %s: %v, want %q", settings, err, why)
	}
}

// admit asks about a request and returns why it is refused; empty: it isn't.
func (g *example) admit(t *testing.T, r *abi.AdmissionRequest) string {
	t.Helper()
	response, _, err := host.Admit(t.Context(), g.name, r)
	if err != nil {
		t.Fatal(err)
	}
	if response.Allowed != (response.Message == "") {
		t.Errorf("allowed is %v, and the message %q", response.Allowed, response.Message)
	}
	return response.Message
}

// write is a write of an object in JSON, as the API server would ask about it.
func write(t *testing.T, operation abi.Operation, object, old string) *abi.AdmissionRequest {
	t.Helper()
	r := &abi.AdmissionRequest{Operation: operation, User: abi.UserInfo{Username: "somebody"}}
	for _, o := range []struct {
		json   string
		meta   **abi.Meta
		object *abi.Object
	}{{old, &r.OldMeta, &r.OldObject}, {object, &r.Meta, &r.Object}} {
		if o.json == "" {
			continue
		}
		var head struct {
			APIVersion, Kind string
			Metadata         struct {
				Name, Namespace     string
				Labels, Annotations map[string]string
			}
		}
		if err := json.Unmarshal([]byte(o.json), &head); err != nil {
			t.Fatalf("%v: %s", err, o.json)
		}
		group, version, ok := strings.Cut(head.APIVersion, "/")
		if !ok {
			group, version = "", head.APIVersion
		}
		m := head.Metadata
		r.Kind = abi.GroupVersionKind{Group: group, Version: version, Kind: head.Kind}
		r.Resource = abi.GroupVersionResource{Group: group, Version: version, Resource: strings.ToLower(head.Kind) + "s"}
		r.Name, r.Namespace = m.Name, m.Namespace
		*o.meta = &abi.Meta{Name: m.Name, Namespace: m.Namespace, Labels: abi.Pairs(m.Labels), Annotations: abi.Pairs(m.Annotations)}
		*o.object = abi.JSONObject(o.json)
	}
	return r
}

// place asks about a pod and returns what becomes of each node: its score, or why it is refused.
func (g *example) place(t *testing.T, pod *abi.Pod, nodes ...*abi.Node) map[string]string {
	t.Helper()
	table := abi.NewNodeTable()
	for _, n := range nodes {
		table.Set(n)
	}
	p := &abi.Placement{Pod: pod, Nodes: table, Rows: table.AppendRows(nil)}
	if _, err := host.Place(t.Context(), g.name, p); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for i, row := range p.Rows {
		if v := p.Verdicts[i]; v != 0 {
			got[table.Name(row)] = p.Reasons[v-1]
		} else {
			got[table.Name(row)] = fmt.Sprint(p.Scores[i])
		}
	}
	return got
}
