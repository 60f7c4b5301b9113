package orchestratortest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/sdk/sdktest"
)

// policyHost runs a host until the test has ended, after the control plane that it is for.
func policyHost(t *testing.T, cache string, lookup func(context.Context, string) ([]byte, error)) *policies.Host {
	t.Helper()
	host, err := policies.New(policies.Config{CacheDir: cache, Lookup: lookup})
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

// startWithPolicies is Start with a host of its own.
func startWithPolicies(t *testing.T, change ...func(*orchestrator.Config)) *policyCluster {
	t.Helper()
	var control atomic.Pointer[Cluster]
	host := policyHost(t, t.TempDir(), func(ctx context.Context, name string) ([]byte, error) { return control.Load().Lookup(ctx, name) })
	c := Start(t, append(change, func(cfg *orchestrator.Config) { cfg.Policies = host })...)
	control.Store(c)
	return &policyCluster{t, c}
}

type policyCluster struct {
	t *testing.T
	*Cluster
}

// apply creates what a manifest says, or replaces it.
func (c *policyCluster) apply(manifest string) {
	c.t.Helper()
	client, err := dynamic.NewForConfig(c.RESTConfig())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, document := range strings.Split(manifest, "\n---\n") {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &obj.Object); err != nil {
			c.t.Fatal(err)
		}
		gvr := schema.GroupVersionResource{Group: "policy.pintle.dev", Version: "v1alpha1", Resource: map[string]string{
			"PolicyModule": "policymodules", "AdmissionPolicy": "admissionpolicies", "SchedulingPolicy": "schedulingpolicies"}[obj.GetKind()]}
		data, err := obj.MarshalJSON()
		if err != nil {
			c.t.Fatal(err)
		}
		if _, err := client.Resource(gvr).Patch(c.t.Context(), obj.GetName(), types.ApplyYAMLPatchType, data, metav1.PatchOptions{FieldManager: "test"}); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *policyCluster) rest() rest.Interface { return c.Client.CoreV1().RESTClient() }

const policyAPI = "/apis/policy.pintle.dev/v1alpha1/"

func (c *policyCluster) upload(name string, wasm []byte) {
	c.t.Helper()
	if err := c.rest().Put().AbsPath(policyAPI + "policymodules/" + name + "/wasm").Body(wasm).Do(c.t.Context()).Error(); err != nil {
		c.t.Fatal(err)
	}
}

// ready waits until an object's condition Ready is that of its newest version.
func (c *policyCluster) ready(resourceAndName, status string) (obj *unstructured.Unstructured) {
	c.t.Helper()
	obj = &unstructured.Unstructured{}
	until(c.t, func() string {
		raw, err := c.rest().Get().AbsPath(policyAPI + resourceAndName).Do(c.t.Context()).Raw()
		if err == nil {
			err = obj.UnmarshalJSON(raw)
		}
		if err != nil {
			return err.Error()
		}
		list, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
		for _, one := range list {
			if condition, ok := one.(map[string]any); ok && condition["type"] == "Ready" && condition["status"] == status &&
				condition["observedGeneration"] == obj.GetGeneration() {
				return ""
			}
		}
		return fmt.Sprintf("%s is not Ready=%s: %v", resourceAndName, status, obj.Object["status"])
	})
	return obj
}

func until(t *testing.T, problem func() string) {
	t.Helper()
	last := ""
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if last = problem(); last == "" {
			return
		}
	}
	t.Fatal(last)
}

// labeller builds testdata/labeller, as the SDK says a policy in Go is built.
func labeller(t *testing.T, version string, flags ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "labeller.wasm")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w -X main.version="+version, "-o", out)
	build.Args = append(append(build.Args, flags...), ".")
	build.Dir = "testdata/labeller"
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

const labelPolicy = `
apiVersion: policy.pintle.dev/v1alpha1
kind: PolicyModule
metadata: {name: labeller}
---
apiVersion: policy.pintle.dev/v1alpha1
kind: AdmissionPolicy
metadata: {name: label}
spec:
  module: labeller
  type: mutate
  settings: {label: seen, value: "yes", refused: nobody}
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}
`

func (c *policyCluster) write(name string) (*corev1.ConfigMap, error) {
	return c.Client.CoreV1().ConfigMaps("default").Create(c.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
}

// A real module, uploaded, replaced under load: writes are refused and changed as it says, none fails, and each is
// decided by one version.
func TestAnUploadedPolicyDecidesAndIsReplacedUnderLoad(t *testing.T) {
	c := startWithPolicies(t)
	first, second := labeller(t, "1"), labeller(t, "2")
	t.Logf("the module has %d bytes", len(first))
	c.apply(labelPolicy)
	c.upload("labeller", first)
	c.ready("admissionpolicies/label", "True")
	cm, err := c.write("a")
	if err != nil || cm.Labels["seen"] != "yes" || cm.Labels["version"] != "1" {
		t.Fatalf("%+v, %v", cm, err)
	}
	if _, err := c.write("nobody"); err == nil || !strings.Contains(err.Error(), `admission policy "label" denied the request: the name nobody is taken by version 1`) {
		t.Errorf("got %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var wrote [3]atomic.Int64
	for w := range 4 {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				cm, err := c.write(fmt.Sprintf("w%d-%d", w, n))
				if err != nil {
					t.Error(err)
					return
				}
				switch version := cm.Labels["version"]; version {
				case "1", "2":
					wrote[version[0]-'0'].Add(1)
				default:
					t.Errorf("decided by %q", version)
				}
			}
		})
	}
	for _, wasm := range [][]byte{second, first, second} {
		c.upload("labeller", wasm)
		c.ready("policymodules/labeller", "True")
	}
	time.Sleep(50 * time.Millisecond)
	cancel()
	writers.Wait()
	t.Logf("written under version 1: %d, 2: %d", wrote[1].Load(), wrote[2].Load())
	if cm, err := c.write("last"); err != nil || cm.Labels["version"] != "2" {
		t.Errorf("%+v, %v", cm, err)
	}
	module := c.ready("policymodules/labeller", "True")
	status := module.Object["status"].(map[string]any)
	if status["abi"] != "pintle/v1" || status["size"] != int64(len(second)) || status["state"] != "Ready" {
		t.Errorf("%v", status)
	}
}

// Modules lie in the replicated store and not in anybody's memory alone: every member compiles them and decides alike,
// whoever leads and whoever was restarted.
func TestEveryMemberDecidesAlike(t *testing.T) {
	if testing.Short() {
		t.Skip("three members and three compilers")
	}
	hosts := map[string]*policies.Host{}
	var mu sync.Mutex
	caches := t.TempDir()
	m := StartMembers(t, 3, func(member string, cfg *orchestrator.Config) {
		mu.Lock()
		defer mu.Unlock()
		if hosts[member] == nil {
			hosts[member] = policyHost(t, filepath.Join(caches, member), nil)
		}
		cfg.Policies = hosts[member]
	})
	on := func(i int) *policyCluster { return &policyCluster{t, m.Get(m.Name(i))} }
	wasm := labeller(t, "1", "-ldflags=-X main.version=1") // with what debuggers need: several megabytes
	t.Logf("the module has %d bytes", len(wasm))
	on(1).apply(labelPolicy)
	on(2).upload("labeller", wasm)
	on(0).ready("admissionpolicies/label", "True")
	alike := func(round string) {
		t.Helper()
		for i := range 3 {
			var cm *corev1.ConfigMap
			until(t, func() (problem string) {
				var err error
				if cm, err = on(i).write(fmt.Sprintf("%s-%d", round, i)); err != nil {
					return err.Error()
				}
				return ""
			})
			if cm.Labels["seen"] != "yes" {
				t.Errorf("%s: member %d decided otherwise: %v", round, i, cm.Labels)
			}
			if _, err := on(i).write("nobody"); err == nil || !strings.Contains(err.Error(), "denied the request") {
				t.Errorf("%s: member %d: %v", round, i, err)
			}
			got, err := on(i).rest().Get().AbsPath(policyAPI + "policymodules/labeller/wasm").Do(t.Context()).Raw()
			if err != nil || len(got) != len(wasm) {
				t.Errorf("%s: member %d has %d bytes of %d: %v", round, i, len(got), len(wasm), err)
			}
		}
	}
	alike("at-first")
	leader := m.Leader()
	m.Stop(leader)
	m.Start(leader)
	m.WaitVoters(3)
	alike("after-a-restart")
}

func TestPoliciesSurviveARestart(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	wasm := labeller(t, "1")
	for round := range 2 {
		t.Run(fmt.Sprint("start ", round), func(t *testing.T) {
			host := policyHost(t, cache, nil)
			c := &policyCluster{t, Start(t, func(cfg *orchestrator.Config) { cfg.DataDir, cfg.Policies = dir, host })}
			if round == 0 {
				c.apply(labelPolicy)
				c.upload("labeller", wasm)
				c.ready("admissionpolicies/label", "True")
			}
			// After the second start this waits until the module is compiled; no write passes unseen.
			cm, err := c.write(fmt.Sprint("round-", round))
			if err != nil || cm.Labels["seen"] != "yes" {
				t.Errorf("%+v, %v", cm, err)
			}
		})
	}
}

func podFor(name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i",
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}}}}}
}

func (c *policyCluster) pod(name string, labels map[string]string) {
	c.t.Helper()
	if _, err := c.Client.CoreV1().Pods("default").Create(c.t.Context(), podFor(name, labels), metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *policyCluster) nodeOf(name string) string {
	pod, err := c.Client.CoreV1().Pods("default").Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	return pod.Spec.NodeName
}

// event waits for an event of a pod that says so.
func (c *policyCluster) event(pod, want string) {
	c.t.Helper()
	until(c.t, func() string {
		events, err := c.Client.CoreV1().Events("default").List(c.t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod})
		if err != nil {
			return err.Error()
		}
		last := "nothing"
		for _, e := range events.Items {
			if last = e.Message; strings.Contains(last, want) {
				return ""
			}
		}
		return fmt.Sprintf("no event of %s says %q; the last: %s", pod, want, last)
	})
}

func TestASchedulingPolicyFiltersAndScores(t *testing.T) {
	c := startWithPolicies(t)
	for name, cost := range map[string]string{"cheap": "1", "dear": "9", "dearer": "12", "unknown": ""} {
		c.AddNode(t, name)
		if cost == "" {
			continue
		}
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"pintle.dev/cost-per-hour":%q}}}`, cost)
		if _, err := c.Client.CoreV1().Nodes().Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.apply(`
apiVersion: policy.pintle.dev/v1alpha1
kind: PolicyModule
metadata: {name: cost}
---
apiVersion: policy.pintle.dev/v1alpha1
kind: SchedulingPolicy
metadata: {name: cost}
spec: {module: cost, weight: 100, settings: {cost: {weight: 1, max: 10}}}
`)
	c.upload("cost", sdktest.Need(t, "cost-carbon", sdktest.Go))
	c.ready("schedulingpolicies/cost", "True")
	for n := range 3 {
		name := fmt.Sprint("p", n)
		c.pod(name, nil)
		until(t, func() string {
			if node := c.nodeOf(name); node != "cheap" {
				return name + " is on " + node
			}
			return ""
		})
	}
	c.apply(`
apiVersion: policy.pintle.dev/v1alpha1
kind: SchedulingPolicy
metadata: {name: cost}
spec: {module: cost, weight: 100, settings: {cost: {weight: 1, max: 0.5}}}
`)
	c.ready("schedulingpolicies/cost", "True")
	c.pod("q", nil)
	c.event("q", "0/4 nodes are available: 4 nodes rejected by policy cost: cost above the limit or unknown.")
	c.apply(`
apiVersion: policy.pintle.dev/v1alpha1
kind: SchedulingPolicy
metadata: {name: cost}
spec: {module: cost, weight: 100, settings: {cost: {weight: 1, max: 100}}}
`)
	until(t, func() string { // the change wakes it
		if node := c.nodeOf("q"); node != "cheap" {
			return "q is on " + node
		}
		return ""
	})
}

func TestAGangOfAPolicyIsBoundTogether(t *testing.T) {
	c := startWithPolicies(t)
	c.AddNode(t, "n")
	c.apply(`
apiVersion: policy.pintle.dev/v1alpha1
kind: PolicyModule
metadata: {name: gang}
---
apiVersion: policy.pintle.dev/v1alpha1
kind: SchedulingPolicy
metadata: {name: gang}
spec: {module: gang, capabilities: ["read:/pods"], extensionPoints: [Permit], settings: {timeoutSeconds: 60}}
`)
	c.upload("gang", sdktest.Need(t, "gang", sdktest.Go))
	c.ready("schedulingpolicies/gang", "True")
	group := map[string]string{"pod-group.scheduling.sigs.k8s.io/name": "g", "pod-group.scheduling.sigs.k8s.io/min-available": "3"}
	c.pod("g1", group)
	c.pod("g2", group)
	c.pod("alone", nil)
	until(t, func() string {
		if node := c.nodeOf("alone"); node != "n" {
			return "alone is on " + node
		}
		return ""
	})
	for _, name := range []string{"g1", "g2"} {
		if node := c.nodeOf(name); node != "" {
			t.Errorf("%s is bound to %s before the others are there", name, node)
		}
	}
	c.pod("g3", group)
	for _, name := range []string{"g1", "g2", "g3"} {
		until(t, func() string {
			if node := c.nodeOf(name); node != "n" {
				return name + " is on " + node
			}
			return ""
		})
	}
}
