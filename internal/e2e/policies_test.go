package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/orchestratortest"
	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/sdk/sdktest"
	"github.com/pintle/pintle/runtime/wasm"
	"github.com/pintle/pintle/runtime/wasm/wasmtest"
)

const labelModule = `
apiVersion: policy.pintle.dev/v1alpha1
kind: PolicyModule
metadata: {name: required-labels}
`

// labelPolicy asks for a label of ConfigMaps. %MODE% is replaced.
const labelPolicy = `
apiVersion: policy.pintle.dev/v1alpha1
kind: AdmissionPolicy
metadata: {name: team}
spec:
  module: required-labels
  mode: %MODE%
  settings: {labels: [team]}
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}
`

func policyMode(mode string) string { return strings.ReplaceAll(labelPolicy, "%MODE%", mode) }

// until runs a command until it prints the text.
func (k *kubectl) until(args, want string) {
	k.t.Helper()
	var out string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if out, _ = k.run("", split(args)...); strings.Contains(out, want) {
			return
		}
	}
	k.t.Fatalf("kubectl %s never prints %q:\n%s", args, want, out)
}

// policyHost runs one until the test ends.
func policyHost(t *testing.T) *policies.Host {
	t.Helper()
	host, err := policies.New(policies.Config{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return host
}

// What the page for policies tells people to type, typed.
func TestKubectlUsesPolicies(t *testing.T) {
	t.Parallel()
	host := policyHost(t)
	c := orchestratortest.Start(t, func(cfg *orchestrator.Config) { cfg.Address, cfg.Policies = "127.0.0.1:0", host })
	config, err := c.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	k := newKubectl(t, config)
	file := filepath.Join(k.home, "policy.wasm")
	if err := os.WriteFile(file, sdktest.Need(t, "required-labels", sdktest.Go), 0o600); err != nil {
		t.Fatal(err)
	}
	const upload = "replace --raw /apis/policy.pintle.dev/v1alpha1/policymodules/required-labels/wasm -f "

	k.steps([]step{
		does("api-resources --api-group=policy.pintle.dev", "admissionpolicies", "policymodules", "schedulingpolicies", "PolicyModule"),
		does("explain policymodule.spec.source", "--raw", "inline", "embedded", "image"),
		does("explain admissionpolicy.spec", "failurePolicy", "enforce", "matchConstraints", "capabilities"),
		does("explain admissionpolicies.spec.matchConstraints.resourceRules", "operations", "resourceNames"),
		does("explain schedulingpolicy.spec", "extensionPoints", "QueueSort", "PostFilter"),
		does("explain admissionpolicy.status", "p99", "rejections"),
		with(labelModule, does("apply -f -", "policymodule.policy.pintle.dev/required-labels created")),
		with(policyMode("enforce"), does("apply -f -", "admissionpolicy.policy.pintle.dev/team created")),
		with(strings.ReplaceAll(policyMode("enforce"), "mode: enforce", "mode: sometimes"), refuses("apply -f -", `spec.mode: Unsupported value: "sometimes"`)),
		with(strings.ReplaceAll(policyMode("enforce"), "mode: enforce", "moode: enforce"), refuses("apply -f -", `unknown field "spec.moode"`)),
	})
	k.until("get policymodules", "Pending")
	k.until("get policymodule required-labels -o wide", "kubectl replace --raw")
	k.until("get admissionpolicies", "ModuleNotReady")
	k.steps([]step{
		refuses("create configmap early", `admission policy "team" could not decide`, "is Pending"),
		does(upload+file, `"upload":{"id":`),
	})
	k.until("get policymodules", "Ready")
	k.until("get admissionpolicies team", "True")
	k.steps([]step{
		does("get policymodule required-labels", "NAME", "SOURCE", "STATE", "ABI", "SIZE", "Upload", "pintle/v1", "Mi"),
		does("get policymodule required-labels -o wide", "DIGEST", "sha256:", "TOOLCHAIN"),
		does("wait --for=condition=Ready policymodule/required-labels admissionpolicy/team", "condition met"),
		refuses("create configmap c", `admission policy "team" denied the request`, "missing required labels: team"),
		refuses("create configmap c --dry-run=server", "missing required labels: team"),
		with("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good, labels: {team: a}}\n", does("apply -f -", "configmap/good created")),
		refuses("label configmap good team-", "missing required labels: team"),
		with(policyMode("warn"), does("apply -f -", "configured")),
	})
	k.until("create configmap warned --dry-run=server", `Warning: admission policy "team" would refuse this: missing required labels: team`)
	k.steps([]step{
		does("create configmap warned", "configmap/warned created", "Warning:"),
		with(policyMode("audit"), does("apply -f -", "configured")),
	})
	k.until("get admissionpolicy team -o jsonpath={.status.observedGeneration}", "3")
	if out, err := k.run("", split("create configmap audited")...); err != nil || strings.Contains(out, "Warning") {
		t.Errorf("audited: %v\n%s", err, out)
	}
	k.until("get admissionpolicies team -o json", `"rejections": `)
	k.until("get admissionpolicies", "audit")
	k.steps([]step{
		does("get admissionpolicies", "NAME", "MODULE", "TYPE", "MODE", "ON FAILURE", "READY", "CALLS", "REJECTED", "ERRORS", "P99", "AGE", "validate"),
		does("get admissionpolicies -o wide", "FUEL/CALL", "P50", "DIGEST"),
		does("describe admissionpolicy team", "Deciding", "required-labels"),
		refuses(upload+k.config, "is no WebAssembly module"),
	})
	// What matches everything and refuses it goes all the same.
	everything := strings.ReplaceAll(policyMode("enforce"), `{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}`,
		`{apiGroups: ["*"], apiVersions: ["*"], operations: ["*"], resources: ["*/*"]}`)
	k.steps([]step{with(everything, does("apply -f -", "configured"))})
	k.until("create secret generic s --dry-run=server", "denied the request")
	k.steps([]step{
		does("delete admissionpolicy team", "deleted"),
		does("delete policymodule required-labels", "deleted"),
	})
	k.until("create configmap free", "configmap/free created")
}

const imagePolicy = `
apiVersion: policy.pintle.dev/v1alpha1
kind: PolicyModule
metadata: {name: freeze}
spec: {source: {image: "example.com/policies/freeze:1"}, digest: %DIGEST%}
---
apiVersion: policy.pintle.dev/v1alpha1
kind: AdmissionPolicy
metadata: {name: freeze}
spec:
  module: freeze
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
`

// An image may be imported after the module that names it was made, and is found then.
func TestAModuleComesFromAnImageOfTheNodesStore(t *testing.T) {
	module, err := os.ReadFile("../../policies/testdata/freeze.wasm")
	if err != nil {
		t.Fatal(err)
	}
	store, err := wasm.New(wasm.Config{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c := orchestratortest.Start(t, func(cfg *orchestrator.Config) {
		cfg.Address, cfg.Policies, cfg.PolicyImage = "127.0.0.1:0", policyHost(t), store.Module
	})
	config, err := c.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	k := newKubectl(t, config)
	manifest := strings.ReplaceAll(imagePolicy, "%DIGEST%", fmt.Sprintf("sha256:%x", sha256.Sum256(module)))
	k.steps([]step{with(manifest, does("apply -f -", "policymodule.policy.pintle.dev/freeze created", "admissionpolicy.policy.pintle.dev/freeze created"))})
	k.until("get policymodule freeze -o wide", "example.com/policies/freeze:1")
	k.steps([]step{refuses("create configmap early", `admission policy "freeze" could not decide`)})

	archive, err := wasmtest.Archive("example.com/policies/freeze:1", module, wasmtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.ImportImages(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	k.until("get policymodule freeze", "Ready")
	k.until("create configmap late", "nothing is created before Monday")
	k.steps([]step{does("get policymodule freeze", "Image", "pintle/v1")})
}
