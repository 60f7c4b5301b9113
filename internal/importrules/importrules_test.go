package importrules

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pintle/pintle/"

// rule says what the packages below from may import of this module, beside their own tree.
type rule struct {
	from  string   // folder below the module; "dir/" means the folder and everything below
	allow []string // likewise
	why   string
}

// The first rule whose from matches a package decides about it. internal/ may be imported by all.
var rules = []rule{
	{"examples/", []string{""}, "examples wire what they like"},
	{"internal/", []string{"internal/"}, "what several need must not need them"},
	{"orchestrator/appliance/", []string{"orchestrator/", "raftstore/", "runtime/", "netproxy/", "gpu/", "policies/"}, "the wiring room: the one place where the parts meet"},
	{"orchestrator/orchestratortest/", []string{"orchestrator/", "raftstore/", "runtime/", "netproxy/", "gpu/", "policies/"}, "the second wiring room, for tests"},
	{"orchestrator/api", nil, "the kinds are pure functions that everything may use"},
	{"orchestrator/registry/", []string{"orchestrator/api", "raftstore/"}, "the write path knows the kinds and the store, and nothing that uses it"},
	{"orchestrator/apiserver/authn", []string{"orchestrator/api"}, "who asks is decided without the server"},
	{"orchestrator/apiserver/authz", []string{"orchestrator/api", "orchestrator/apiserver/authn"}, "what they may do is decided without the server"},
	{"orchestrator/apiserver/", []string{"orchestrator/api", "orchestrator/registry"}, "apiserver → registry → raftstore + api"},
	{"orchestrator/scheduler/framework", []string{"orchestrator/api"}, "framework is a leaf: framework ← plugins ← scheduler"},
	{"orchestrator/scheduler/devices", []string{"orchestrator/api", "gpu/topology"}, "devices is a leaf: what it decides is pure, and topology's"},
	{"orchestrator/scheduler/volumes", []string{"orchestrator/api"}, "volumes is a leaf: what it decides is pure"},
	{"orchestrator/scheduler/plugins", []string{"orchestrator/api", "orchestrator/scheduler/framework", "orchestrator/scheduler/devices", "orchestrator/scheduler/claims", "orchestrator/scheduler/volumes", "gpu/topology"}, "plugins are pure and know only the framework, and how devices are chosen"},
	{"orchestrator/scheduler/", []string{"orchestrator/api", "gpu/topology", "policies/abi"}, "the scheduler sees only the small client that it declares"},
	{"orchestrator/policy", []string{"orchestrator/api", "orchestrator/registry", "policies/abi"}, "policies are brought to the write path and to the scheduler as bytes and records; who runs them is handed in"},
	{"orchestrator/controllers/reconcile/", []string{"orchestrator/api"}, "reconcile is a leaf: every controller stands on it"},
	{"orchestrator/controllers/consolidation", []string{"orchestrator/api", "orchestrator/controllers/reconcile", "orchestrator/scheduler/devices", "gpu/topology"}, "what moves is planned by the scheduler's own arithmetic of devices, a leaf"},
	{"orchestrator/controllers", []string{"orchestrator/api"}, "the assembly knows the controllers and what they stand on"},
	{"orchestrator/", []string{"raftstore/", "policies/abi"}, "the control plane links no containerd, NVML or wazero: it reaches its own children and the store"},
	{"policies/abi", nil, "what both sides of a policy name is a leaf, which anyone may import"},
	{"raftstore/", nil, "the store keeps bytes: it imports none of the others"},
	{"runtime/", nil, "the node talks to the API with client-go, from here or from another machine"},
	{"netproxy/", nil, "the proxy talks to the API with client-go, from here or from another machine"},
	{"gpu/topology", nil, "topology is a leaf: the scheduler and the node decide by the same pure functions"},
	{"gpu/device", []string{"gpu/topology"}, "device is plain data: the Manager, the driver and the fake share it"},
	{"gpu/internal/", []string{"gpu/device", "gpu/topology"}, "the driver knows the data, and nothing that uses it"},
	{"gpu/", nil, "GPUs are managed without an orchestrator too"},
	{"policies/guest/", []string{"policies/abi", "policies/internal/"}, "guest is a leaf: what runs modules knows no ABI's functions"},
	{"policies/compat/", []string{"policies/abi", "policies/guest", "policies/internal/"}, "adapters are handed to the Host, and don't know it"},
	{"policies/sdk/go/", nil, "what guests are made of links nothing of the host's"},
	{"policies/", nil, "policies run without an orchestrator too"},
}

// banned names packages that a tree must not link, even through others.
var banned = []struct{ from, prefix, why string }{
	{"raftstore", "k8s.io/", "importing the store alone links no Kubernetes"},
	{"orchestrator", "github.com/containerd/", "the control plane alone links no container runtime"},
	{"orchestrator", "github.com/tetratelabs/", "the control plane alone links no WebAssembly runtime"},
	{"orchestrator", "github.com/NVIDIA/", "the control plane alone links no NVML"},
	{"policies", "k8s.io/", "importing policies alone links no Kubernetes: objects cross it as bytes"},
	{"policies/abi", "github.com/", "both sides of a policy import it: the standard library and protobuf are all that it links"},
	{"gpu", "k8s.io/", "GPUs are managed without Kubernetes' types too"},
	{"runtime", "github.com/containerd/containerd", "runtime/containerd is reached only by an explicit import"},
}

type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

func list(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func covers(tree, dir string) bool {
	if tree == "" {
		return true
	}
	base := strings.TrimSuffix(tree, "/")
	return dir == base || strings.HasPrefix(dir, base+"/")
}

func TestImportsFlowOneWay(t *testing.T) {
	for _, p := range list(t) {
		dir := strings.TrimPrefix(p.ImportPath, module)
		i := slices.IndexFunc(rules, func(r rule) bool { return covers(r.from, dir) })
		if i < 0 {
			t.Errorf("%s is in no room of the house: add a rule for it, with its reason", dir)
			continue
		}
		r := rules[i]
		for _, path := range p.Imports {
			other, ours := strings.CutPrefix(path, module)
			if !ours || covers("internal", other) || covers(r.from, other) {
				continue
			}
			if !slices.ContainsFunc(r.allow, func(tree string) bool { return covers(tree, other) }) {
				t.Errorf("%s imports %s, but %s", dir, other, r.why)
			}
		}
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if path == "k8s.io/kubernetes" || strings.HasPrefix(path, "k8s.io/kubernetes/") {
				t.Errorf("%s imports %s, which no importer can build without replaces", dir, path)
			}
		}
	}
}

func TestControllersDoNotKnowEachOther(t *testing.T) {
	const room = "orchestrator/controllers/"
	for _, p := range list(t) {
		dir, ok := strings.CutPrefix(strings.TrimPrefix(p.ImportPath, module), room)
		if !ok || dir == "" {
			continue
		}
		own, _, _ := strings.Cut(dir, "/")
		for _, path := range p.Imports {
			if other, ok := strings.CutPrefix(path, module+room); ok {
				other, _, _ = strings.Cut(other, "/")
				if other != own && other != "reconcile" {
					t.Errorf("controllers/%s imports controllers/%s: controllers meet only in stored objects", dir, other)
				}
			}
		}
	}
}

func TestNobodyLinksMoreThanAsked(t *testing.T) {
	packages := list(t)
	for _, b := range banned {
		for _, p := range packages {
			if p.ImportPath != module+b.from {
				continue
			}
			for _, dep := range p.Deps {
				if strings.HasPrefix(dep, b.prefix) {
					t.Errorf("%s links %s, but %s", b.from, dep, b.why)
				}
			}
		}
	}
}
