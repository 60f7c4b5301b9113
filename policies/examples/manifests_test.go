package examples

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/sdk/sdktest"
)

// manifest reads an example's policy.yaml: the policy object as the host runs it. Fields that the kinds don't have fail.
func manifest(t *testing.T, name string) abi.Policy {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(name, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	decode := func(data []byte, into any) {
		if err := yaml.UnmarshalStrict(data, into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	module, policy, ok := bytes.Cut(data, []byte("\n---\n"))
	if !ok {
		t.Fatalf("%s: want a PolicyModule and a policy", name)
	}
	var m api.PolicyModule
	decode(module, &m)
	settings := func(raw *runtime.RawExtension) []byte {
		if raw == nil {
			return nil
		}
		return raw.Raw
	}
	p := abi.Policy{Name: "p"}
	if bytes.Contains(policy, []byte("kind: AdmissionPolicy")) {
		var a api.AdmissionPolicy
		decode(policy, &a)
		p.Kind, p.Module, p.Settings, p.Capabilities = abi.Admission, a.Spec.Module, settings(a.Spec.Settings), a.Spec.Capabilities
		if a.Spec.MatchConstraints == nil {
			t.Errorf("%s: it matches everything", name)
		}
	} else {
		var s api.SchedulingPolicy
		decode(policy, &s)
		p.Kind, p.Module, p.Settings, p.Capabilities = abi.Scheduling, s.Spec.Module, settings(s.Spec.Settings), s.Spec.Capabilities
	}
	if p.Module != name || m.Name != name {
		t.Errorf("%s: the module is called %s, the policy names %s", name, m.Name, p.Module)
	}
	return p
}

func TestManifestsAreTakenByTheirPolicies(t *testing.T) {
	for name := range sdktest.Policies() {
		t.Run(name, func(t *testing.T) {
			p := manifest(t, name)
			each(t, name, p.Kind, func(t *testing.T, g *example) {
				p := p
				p.Name, p.Module = g.name, g.module
				if err := host.Set(t.Context(), p); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
