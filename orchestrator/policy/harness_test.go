package policy

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/raftstore"
)

// cluster is a registry with an engine over a fake host.
type cluster struct {
	*registry.Client
	t        *testing.T
	registry *registry.Registry
	engine   *Engine
	host     *fakeHost
}

// start runs one; its admission says what a module's text asks for (see decideByText) unless the test says otherwise.
func start(t *testing.T, change ...func(*Config)) *cluster {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	host := newFakeHost()
	host.admit = decideByText
	cfg := Config{Host: host, Patience: 2 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	engine, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	store, err := raftstore.Open(raftstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.New(registry.Config{Store: store, Kinds: api.All(), Admitter: engine})
	if err != nil {
		t.Fatal(err)
	}
	client := reg.Client("tester", "testers")
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{store.Run, reg.Run,
		func(ctx context.Context) error { return engine.Run(ctx, client) },
		func(ctx context.Context) error { return engine.Report(ctx, client) }} {
		running.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("ended with %v", err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		if !host.empty() {
			t.Error("the engine left something in the host")
		}
		goleak.VerifyNone(t, leaks)
	})
	<-engine.Ready()
	c := &cluster{Client: client, t: t, registry: reg, engine: engine, host: host}
	c.create("", "namespaces", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{"env": "prod"}}})
	return c
}

// decideByText: "refuse TEXT" refuses, "label K=V" sets a label, "warn TEXT" warns, "fail" fails; otherwise it allows.
// What is said in the settings is done, too.
func decideByText(_, module, settings string, req *abi.AdmissionRequest) (*abi.AdmissionResponse, error) {
	resp := &abi.AdmissionResponse{Allowed: true}
	for _, line := range append(strings.Split(module, "\n"), strings.Split(strings.Trim(settings, `"`), `\n`)...) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "refuse":
			resp.Allowed, resp.Message = false, rest
		case "refuse-without": // a label
			if req.Meta != nil && !hasLabel(req.Meta, rest) {
				resp.Allowed, resp.Message = false, "the label "+rest+" is missing"
			}
		case "label":
			key, value, _ := strings.Cut(rest, "=")
			resp.Patch = fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, key, value)
			resp.PatchType = abi.MergePatch
		case "patch":
			resp.Patch, resp.PatchType = []byte(rest), abi.MergePatch
		case "warn":
			resp.Warnings = append(resp.Warnings, rest)
		case "audit":
			resp.Audit = append(resp.Audit, abi.Pair{Key: "said", Value: rest})
		case "code":
			_, _ = fmt.Sscan(rest, &resp.Code)
		case "fail":
			return nil, fmt.Errorf("it trapped")
		}
	}
	return resp, nil
}

func hasLabel(m *abi.Meta, key string) bool {
	for _, l := range m.Labels {
		if l.Key == key {
			return true
		}
	}
	return false
}

func gvrOf(group, resource string) schema.GroupVersionResource {
	switch group {
	case "":
		return corev1.SchemeGroupVersion.WithResource(resource)
	default:
		return api.PolicyGroupVersion().WithResource(resource)
	}
}

func (c *cluster) create(group, resource string, obj api.Object) api.Object {
	c.t.Helper()
	out, err := c.Create(c.t.Context(), gvrOf(group, resource), obj)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// module stores a module and waits until it can be used.
func (c *cluster) module(name, text string) {
	c.t.Helper()
	c.create("policy", "policymodules", &api.PolicyModule{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: api.PolicyModuleSpec{Source: api.PolicyModuleSource{Inline: wasm(text)}}})
	c.state(name, api.ModuleReady)
}

func (c *cluster) state(name string, want api.PolicyModuleState) *api.PolicyModule {
	c.t.Helper()
	var m *api.PolicyModule
	c.eventually(func() string {
		o, err := c.Get(c.t.Context(), modulesGVR(), "", name)
		if err != nil {
			return err.Error()
		}
		m = o.(*api.PolicyModule)
		if m.Status.State == want && m.Status.ObservedGeneration == m.Generation {
			return ""
		}
		return fmt.Sprintf("module %s is %+v at generation %d, not %s", name, m.Status, m.Generation, want)
	})
	return m
}

func onConfigMaps() *admissionv1.MatchResources {
	return &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
		Operations: []admissionv1.OperationType{"*"}, Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}}}}}}
}

// policy stores a policy that is asked about ConfigMaps.
func (c *cluster) policy(name, module string, change ...func(*api.AdmissionPolicySpec)) *api.AdmissionPolicy {
	c.t.Helper()
	p := &api.AdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: api.AdmissionPolicySpec{Module: module, MatchConstraints: onConfigMaps()}}
	for _, f := range change {
		f(&p.Spec)
	}
	return c.create("policy", "admissionpolicies", p).(*api.AdmissionPolicy)
}

// decides waits until the newest version of a policy decides, or for the reason why not.
func (c *cluster) decides(name, reason string) *api.AdmissionPolicy {
	c.t.Helper()
	var p *api.AdmissionPolicy
	c.eventually(func() string {
		o, err := c.Get(c.t.Context(), admissionGVR(), "", name)
		if err != nil {
			return err.Error()
		}
		p = o.(*api.AdmissionPolicy)
		if len(p.Status.Conditions) == 1 && p.Status.Conditions[0].Reason == reason && p.Status.Conditions[0].ObservedGeneration == p.Generation {
			return ""
		}
		return fmt.Sprintf("policy %s is %+v, not %s", name, p.Status, reason)
	})
	return p
}

func (c *cluster) eventually(problem func() string) {
	c.t.Helper()
	var last string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if last = problem(); last == "" {
			return
		}
	}
	c.t.Fatal(last)
}

func settings(text string) func(*api.AdmissionPolicySpec) {
	return func(s *api.AdmissionPolicySpec) {
		s.Settings = &runtime.RawExtension{Raw: fmt.Appendf(nil, "%q", text)}
	}
}

func mutate(s *api.AdmissionPolicySpec) { s.Type = api.PolicyMutate }

func mode(m api.AdmissionPolicyMode) func(*api.AdmissionPolicySpec) {
	return func(s *api.AdmissionPolicySpec) { s.Mode = m }
}

func order(n int32) func(*api.AdmissionPolicySpec) {
	return func(s *api.AdmissionPolicySpec) { s.Order = n }
}

func ignore(s *api.AdmissionPolicySpec) { s.FailurePolicy = api.PolicyIgnore }

// write creates a ConfigMap and returns it, with the warnings that came.
func (c *cluster) write(name string, labels ...string) (cm *corev1.ConfigMap, warnings []string, err error) {
	c.t.Helper()
	return c.writeUnder(c.t.Context(), name, labels...)
}

func (c *cluster) writeUnder(ctx context.Context, name string, labels ...string) (cm *corev1.ConfigMap, warnings []string, err error) {
	ctx = registry.WithWarnings(ctx, func(text string) { warnings = append(warnings, text) })
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"k": "v"}}
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		metav1.SetMetaDataLabel(&obj.ObjectMeta, key, value)
	}
	stored, err := c.Create(ctx, gvrOf("", "configmaps"), obj)
	if err != nil {
		return nil, warnings, err
	}
	return stored.(*corev1.ConfigMap), warnings, nil
}

func mergePatch(t *testing.T, c *cluster, gvr schema.GroupVersionResource, name string, change func(api.Object)) {
	t.Helper()
	for {
		o, err := c.Get(t.Context(), gvr, "", name)
		if err != nil {
			t.Fatal(err)
		}
		o = o.DeepCopyObject().(api.Object)
		change(o)
		if _, err = c.Update(t.Context(), gvr, "", o); err == nil {
			return
		} else if !strings.Contains(err.Error(), "modified") {
			t.Fatal(err)
		}
	}
}
