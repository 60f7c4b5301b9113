package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pintle/pintle/policies/sdk/sdktest"
)

// tryIt runs the program and returns what it prints, and its error.
func tryIt(t *testing.T, in string, args ...string) (string, error) {
	t.Helper()
	var out, complaints bytes.Buffer
	err := run(t.Context(), args, strings.NewReader(in), &out, &complaints)
	return out.String() + complaints.String(), err
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	freeze  = "../../policies/testdata/freeze.wasm"
	oddRows = "../../policies/testdata/oddrows.wasm"
)

func TestBothKindsAreTriedOnTheirSamples(t *testing.T) {
	for _, c := range []struct {
		module string
		args   []string
		says   []string
	}{
		{freeze, nil, []string{"ABI pintle/v1", "Admission policy, on a built-in sample", "CREATE pods shop/web: refused (403): nothing is created before Monday", "CREATE deployments shop/api"}},
		{freeze, []string{"-kind=admission", "-abi=pintle/v1"}, []string{"refused"}},
		{oddRows, nil, []string{"Scheduling policy, on a built-in sample", "pod research/train-0, 5 nodes: 3 of 5 nodes pass", "gpu-1: refused: the row is odd"}},
	} {
		out, err := tryIt(t, "", append([]string{"-module", c.module, "-n=50"}, c.args...)...)
		if err != nil {
			t.Errorf("%s: %v", c.module, err)
		}
		for _, s := range c.says {
			if !strings.Contains(out, s) {
				t.Errorf("%s: %q isn't in\n%s", c.module, s, out)
			}
		}
		if !regexp.MustCompile(`(?m)^50 calls: p50 \S+s, p99 \S+s$`).MatchString(out) || !regexp.MustCompile(`(?m)^fuel: \d+ a call \(at most \d+\); memory: \d+ KiB$`).MatchString(out) {
			t.Error(out)
		}
	}
}

func TestInputsOfEveryFormAreTried(t *testing.T) {
	pod := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"mine"},"spec":{"containers":[]}}`
	a := file(t, "object.json", pod)
	b := file(t, "request.json", `{"operation":"DELETE","name":"gone","resource":{"resource":"pods"}}`)
	out, err := tryIt(t, `{"kind":"AdmissionReview","request":{"operation":"UPDATE","name":"from-stdin","resource":{"resource":"pods"}}}`, "-module", freeze, "-n=10", a, b, "-")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"CREATE pods default/mine", "DELETE pods gone", "UPDATE pods from-stdin"} {
		if !strings.Contains(out, s) {
			t.Errorf("%q isn't in\n%s", s, out)
		}
	}
	// A pod alone goes to the sample's nodes.
	if out, err = tryIt(t, "", "-module", oddRows, "-n=10", a); err != nil || !strings.Contains(out, "pod /mine, 5 nodes") {
		t.Error(err, out)
	}
	out, err = tryIt(t, `{"pod":`+pod+`,"nodes":[{"metadata":{"name":"here"}}]}`, "-module", oddRows, "-n=10", "-")
	if err != nil || !strings.Contains(out, "here: 0") {
		t.Error(err, out)
	}
}

func TestWhatCannotBeTriedIsAnError(t *testing.T) {
	garbage := file(t, "garbage.wasm", "garbage")
	empty := file(t, "empty.json", "")
	nodes := file(t, "nodes.json", `{"pod":{"metadata":{"name":"p"}},"nodes":[]}`)
	for name, args := range map[string][]string{
		"no module":        {},
		"no such file":     {"-module", "nowhere.wasm"},
		"garbage":          {"-module", garbage},
		"another kind":     {"-module", freeze, "-kind=scheduling"},
		"unknown kind":     {"-module", freeze, "-kind=else"},
		"unknown ABI":      {"-module", freeze, "-abi=else"},
		"unknown flag":     {"-module", freeze, "-what"},
		"no calls":         {"-module", freeze, "-n=0"},
		"settings missing": {"-module", freeze, "-settings=nowhere.json"},
		"no input":         {"-module", freeze, empty},
		"no such input":    {"-module", freeze, "nowhere.json"},
		"nodes to admit":   {"-module", freeze, "-kind=admission", nodes},
		"unknown grant":    {"-module", freeze, "-grant=everything"},
		"no such objects":  {"-module", freeze, "-objects=nowhere.yaml"},
		"neither answer":   {"-module", freeze, "-can-i=perhaps"},
	} {
		if out, err := tryIt(t, "", args...); err == nil {
			t.Errorf("%s: no error:\n%s", name, out)
		}
	}
}

func TestSettingsMayBeYAML(t *testing.T) {
	for in, want := range map[string]string{"a: [1, b]": `{"a":[1,"b"]}`, `{"a": 1}`: `{"a":1}`, "": "", " \n": ""} {
		if got, err := settingsJSON([]byte(in)); err != nil || string(got) != want {
			t.Errorf("%q: %s, %v", in, got, err)
		}
	}
}

func TestSamplesHaveAProtobufEncoding(t *testing.T) {
	for _, kind := range []string{"admission", "scheduling"} {
		data := sampleAdmission
		if kind == "scheduling" {
			data = sampleScheduling
		}
		requests, err := readInputs([]string{file(t, "sample.json", string(data))}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range requests {
			if q.Admission != nil {
				if b, err := q.Admission.Object.Encoded(2); err != nil || len(b) < 50 {
					t.Errorf("%s: %d bytes, %v", q.Name, len(b), err)
				}
				continue
			}
			if b, err := q.Placement.PodObject(); err != nil || len(b) < 50 {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			for _, row := range q.Placement.Rows {
				if b, err := q.Placement.NodeObject(row); err != nil || len(b) < 50 {
					t.Errorf("%d bytes, %v", len(b), err)
				}
			}
		}
	}
}

func TestAPolicyReadsWhatItIsGranted(t *testing.T) {
	objects := file(t, "objects.yaml", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n"+
		"- {apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i, namespace: shop}}\n---\n---\n"+
		"{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i, namespace: other}}\n")
	all, err := readObjects(objects)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"/v1/namespaces//shop":                      `"name":"shop"`,
		"/v1/namespaces//else":                      ``,
		"/v2/namespaces//shop":                      ``,
		"/v1/pods//":                                `{"items":[]}`,
		"networking.k8s.io/v1/ingresses/other/i":    `"namespace":"other"`,
		"networking.k8s.io/v1/ingresses/shop/":      `"namespace":"shop"`,
		"networking.k8s.io/v1/ingresses//":          `"namespace":"other"`,
		"networking.k8s.io/v1/ingresses//i":         ``,
		"networking.k8s.io/v1/ingresses/nowhere/":   `{"items":[]}`,
		"networking.k8s.io/v1beta1/ingresses/shop/": `{"items":[]}`,
	} {
		got, err := all.lookup(t.Context(), name)
		if err != nil || !strings.Contains(string(got), want) || want == "" && got != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if _, err := all.lookup(t.Context(), "namespaces"); err == nil {
		t.Error("a name of one part names something")
	}

	// The GPU quota counts the pods that are there, where it may see them.
	module := file(t, "policy.wasm", string(sdktest.Need(t, "gpu-quota", sdktest.Go)))
	pod := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"shop"},"spec":{"containers":[{"name":"c","resources":{"limits":{"nvidia.com/gpu":"2"}}}]}}`
	args := []string{"-module", module, "-kind=admission", "-n=5", "-settings", file(t, "settings.yaml", "default: 3"), "-objects", file(t, "pods.json", pod), file(t, "pod.json", pod)}
	out, err := tryIt(t, "", append([]string{"-grant=clock", "-grant=read:/pods"}, args...)...)
	if err != nil || !strings.Contains(out, "its pods ask for 2, and this one for 2") {
		t.Error(err, out)
	}
	if out, err := tryIt(t, "", args...); err == nil {
		t.Errorf("a policy that needs a grant has none:\n%s", out)
	}
}
