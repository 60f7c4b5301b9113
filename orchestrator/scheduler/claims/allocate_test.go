package claims

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

func object[T any](t testing.TB, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return o
}

func node(name string, labels ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, l := range labels {
		k, v, _ := strings.Cut(l, "=")
		n.Labels[k] = v
	}
	return n
}

func claim(t testing.TB, name, spec string) *resourcev1.ResourceClaim {
	c := object[resourcev1.ResourceClaim](t, "{spec: {devices: "+spec+"}}")
	c.Namespace, c.Name, c.UID = "default", name, types.UID("uid-"+name)
	return c
}

// ledger has the classes "any", "gpu" and "big" (40Gi and more), and the slices.
func ledger(t testing.TB, slices ...string) *Ledger {
	l := NewLedger()
	for name, spec := range map[string]string{"any": `{}`, "gpu": `{selectors: [{cel: {expression: "device.driver == 'gpu.x'"}}], config: [{opaque: {driver: gpu.x, parameters: {a: 1}}}]}`,
		"big": `{selectors: [{cel: {expression: "device.capacity['gpu.x'].memory.compareTo(quantity('40Gi')) >= 0"}}]}`} {
		c := object[resourcev1.DeviceClass](t, "{spec: "+spec+"}")
		c.Name = name
		l.SetClass(c)
	}
	for i, text := range slices {
		s := object[resourcev1.ResourceSlice](t, "{spec: "+text+"}")
		s.Name = fmt.Sprintf("slice-%d", i)
		l.SetSlice(s)
	}
	return l
}

const fourGPUs = `{driver: gpu.x, nodeName: n1, pool: {name: n1, generation: 1, resourceSliceCount: 1}, devices: [
  {name: a, attributes: {model: {string: A}, numa: {int: 0}, v: {version: 1.2.0}}, capacity: {memory: {value: 80Gi}}},
  {name: b, attributes: {model: {string: A}, numa: {int: 1}, v: {version: 1.3.0}}, capacity: {memory: {value: 80Gi}}},
  {name: c, attributes: {model: {string: B}, numa: {int: 1}}, capacity: {memory: {value: 24Gi}}},
  {name: d, attributes: {model: {string: B}, numa: {int: 0}, bad: {bool: true}}, capacity: {memory: {value: 24Gi}}, taints: [{key: broken, value: "yes", effect: NoSchedule}]}]}`

// said is what was allocated, "request=device" by claim, or why nothing was.
func said(results []*resourcev1.AllocationResult, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	if results == nil {
		return "none"
	}
	var claims []string
	for _, r := range results {
		var all []string
		for _, d := range r.Devices.Results {
			all = append(all, d.Request+"="+d.Device)
		}
		claims = append(claims, strings.Join(all, " "))
	}
	return strings.Join(claims, " | ")
}

func TestRequestsGetTheDevicesThatTheyDescribe(t *testing.T) {
	for name, tt := range map[string]struct{ spec, want string }{
		"one":             {`{requests: [{name: r, exactly: {deviceClassName: gpu}}]}`, "r=a"},
		"two":             {`{requests: [{name: r, exactly: {deviceClassName: gpu, count: 2}}]}`, "r=a r=b"},
		"too many":        {`{requests: [{name: r, exactly: {deviceClassName: gpu, count: 4}}]}`, "none"}, // one is tainted
		"nothing asked":   {`{requests: []}`, ""},
		"a class chooses": {`{requests: [{name: r, exactly: {deviceClassName: big, count: 3}}]}`, "none"},
		"a selector": {`{requests: [{name: r, exactly: {deviceClassName: any, selectors: [{cel: {expression: "device.attributes['gpu.x'].model == 'B'"}}]}}]}`,
			"r=c"},
		"two selectors": {`{requests: [{name: r, exactly: {deviceClassName: any, selectors: [{cel: {expression: "device.attributes['gpu.x'].model == 'A'"}}, {cel: {expression: "device.attributes['gpu.x'].numa == 1"}}]}}]}`,
			"r=b"},
		"a version": {`{requests: [{name: r, exactly: {deviceClassName: big, selectors: [{cel: {expression: "device.attributes['gpu.x'].v.isGreaterThan(semver('1.2.9'))"}}]}}]}`,
			"r=b"},
		"capacity": {`{requests: [{name: r, exactly: {deviceClassName: gpu, count: 2, capacity: {requests: {memory: 30Gi}}}}, {name: s, exactly: {deviceClassName: gpu}}]}`,
			"r=a r=b s=c"},
		"all of a kind":            {`{requests: [{name: r, exactly: {deviceClassName: big, allocationMode: All}}]}`, "r=a r=b"},
		"all, one is tainted":      {`{requests: [{name: r, exactly: {deviceClassName: gpu, allocationMode: All}}]}`, "none"},
		"all, and it is tolerated": {`{requests: [{name: r, exactly: {deviceClassName: gpu, allocationMode: All, tolerations: [{key: broken, operator: Exists}]}}]}`, "r=a r=b r=c r=d"},
		"all of none":              {`{requests: [{name: r, exactly: {deviceClassName: any, allocationMode: All, selectors: [{cel: {expression: "device.driver == 'x'"}}]}}]}`, "none"},
		"tolerated by value": {`{requests: [{name: r, exactly: {deviceClassName: gpu, count: 4, tolerations: [{key: broken, operator: Equal, value: "yes", effect: NoSchedule}]}}]}`,
			"r=a r=b r=c r=d"},
		"another value":                {`{requests: [{name: r, exactly: {deviceClassName: gpu, count: 4, tolerations: [{key: broken, value: "no"}]}}]}`, "none"},
		"another effect":               {`{requests: [{name: r, exactly: {deviceClassName: gpu, count: 4, tolerations: [{operator: Exists, effect: NoExecute}]}}]}`, "none"},
		"requests don't share":         {`{requests: [{name: r, exactly: {deviceClassName: big}}, {name: s, exactly: {deviceClassName: big}}]}`, "r=a s=b"},
		"one gives way to another":     {`{requests: [{name: r, exactly: {deviceClassName: gpu}}, {name: s, exactly: {deviceClassName: any, selectors: [{cel: {expression: "device.attributes['gpu.x'].numa == 0 && device.attributes['gpu.x'].model == 'A'"}}]}}]}`, "r=b s=a"},
		"the same model":               {`{requests: [{name: r, exactly: {deviceClassName: gpu, count: 2}}], constraints: [{matchAttribute: gpu.x/model}]}`, "r=a r=b"},
		"the same node":                {`{requests: [{name: r, exactly: {deviceClassName: gpu, count: 2}}], constraints: [{matchAttribute: gpu.x/numa}]}`, "r=b r=c"},
		"both":                         {`{requests: [{name: r, exactly: {deviceClassName: gpu, count: 2}}], constraints: [{matchAttribute: gpu.x/numa}, {matchAttribute: gpu.x/model}]}`, "none"},
		"different nodes":              {`{requests: [{name: r, exactly: {deviceClassName: gpu, count: 2}}], constraints: [{distinctAttribute: gpu.x/model}]}`, "r=a r=c"},
		"an attribute that is missing": {`{requests: [{name: r, exactly: {deviceClassName: gpu, count: 3}}], constraints: [{distinctAttribute: gpu.x/v}]}`, "none"},
		"constraint of some requests": {`{requests: [{name: r, exactly: {deviceClassName: gpu}}, {name: s, exactly: {deviceClassName: gpu}}, {name: t, exactly: {deviceClassName: gpu}}], constraints: [{requests: [r, t], matchAttribute: gpu.x/model}]}`,
			"r=a s=c t=b"},
		"the first alternative": {`{requests: [{name: r, firstAvailable: [{name: x, deviceClassName: big}, {name: z, deviceClassName: gpu}]}]}`, "r/x=a"},
		"the second": {`{requests: [{name: r, firstAvailable: [{name: x, deviceClassName: big, count: 3}, {name: z, deviceClassName: gpu, count: 3}]}]}`,
			"r/z=a r/z=b r/z=c"},
		"no class":          {`{requests: [{name: r, exactly: {deviceClassName: nix}}]}`, "error: claim c, request r: device class nix does not exist"},
		"no such attribute": {`{requests: [{name: r, exactly: {deviceClassName: gpu, selectors: [{cel: {expression: "device.attributes['gpu.x'].bad"}}]}}]}`, "error: claim c, request r: selector #0: device gpu.x/n1/a: runtime error: no such key: bad"},
		"no expression":     {`{requests: [{name: r, exactly: {deviceClassName: gpu, selectors: [{cel: {expression: "device.bad"}}]}}]}`, "error: claim c, request r: selector #0: CEL compile error"},
		"admin access":      {`{requests: [{name: r, exactly: {deviceClassName: gpu, adminAccess: true}}]}`, "error: claim c, request r: admin access is not supported"},
		"an unknown mode":   {`{requests: [{name: r, exactly: {deviceClassName: gpu, allocationMode: Half}}]}`, "error: claim c, request r: unsupported count mode Half"},
	} {
		t.Run(name, func(t *testing.T) {
			got := said(ledger(t, fourGPUs).Allocate(node("n1"), []*resourcev1.ResourceClaim{claim(t, "c", tt.spec)}, nil))
			if got != tt.want && (!strings.HasPrefix(tt.want, "error") || !strings.HasPrefix(got, tt.want)) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestDevicesAreWhereTheirSliceSays(t *testing.T) {
	one := `{requests: [{name: r, exactly: {deviceClassName: any}}]}`
	pool := func(where, devices string) string {
		return `{driver: d.x, pool: {name: p, generation: 1, resourceSliceCount: 1}, ` + where + `, devices: [` + devices + `]}`
	}
	zone := `nodeSelector: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]}`
	for name, tt := range map[string]struct{ slice, node, want, selector string }{
		"that node":    {pool(`nodeName: n1`, `{name: a}`), "n1", "r=a", `{"nodeSelectorTerms":[{"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]}]}`},
		"another node": {pool(`nodeName: n2`, `{name: a}`), "n1", "none", ""},
		"everywhere":   {pool(`allNodes: true`, `{name: a}`), "n1", "r=a", "null"},
		"its zone":     {pool(zone, `{name: a}`), "n1", "r=a", `{"nodeSelectorTerms":[{"matchExpressions":[{"key":"zone","operator":"In","values":["a"]}]}]}`},
		"not its zone": {pool(zone, `{name: a}`), "n2", "none", ""},
		"by device":    {pool(`perDeviceNodeSelection: true`, `{name: a, nodeName: n2}, {name: b, allNodes: true}`), "n1", "r=b", "null"},
		"bound": {pool(`allNodes: true`, `{name: a, bindsToNode: true}`), "n1", "r=a",
			`{"nodeSelectorTerms":[{"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(tt.node)
			if tt.node == "n1" {
				n = node("n1", "zone=a")
			}
			results, err := ledger(t, tt.slice).Allocate(n, []*resourcev1.ResourceClaim{claim(t, "c", one)}, nil)
			if got := said(results, err); got != tt.want {
				t.Fatalf("got %s, want %s", got, tt.want)
			}
			if len(results) > 0 {
				if got, _ := json.Marshal(results[0].NodeSelector); string(got) != tt.selector {
					t.Errorf("available on %s, want %s", got, tt.selector)
				}
			}
		})
	}
}

func TestOnlyTheNewestGenerationOfAPoolCounts(t *testing.T) {
	slice := func(generation, count int, devices string) string {
		return fmt.Sprintf(`{driver: d.x, nodeName: n1, pool: {name: p, generation: %d, resourceSliceCount: %d}, devices: [%s]}`, generation, count, devices)
	}
	one, all := `{requests: [{name: r, exactly: {deviceClassName: any}}]}`, `{requests: [{name: r, exactly: {deviceClassName: any, allocationMode: All}}]}`
	for name, tt := range map[string]struct {
		slices []string
		spec   string
		want   string
	}{
		"old ones don't":        {[]string{slice(1, 1, "{name: a}"), slice(2, 1, "{name: b}")}, all, "r=b"},
		"two slices":            {[]string{slice(2, 2, "{name: a}"), slice(2, 2, "{name: b}")}, all, "r=a r=b"},
		"one is missing":        {[]string{slice(2, 2, "{name: a}"), slice(1, 1, "{name: b}")}, one, "r=a"},
		"all, one is missing":   {[]string{slice(2, 2, "{name: a}")}, all, "error: claim c, request r: asks for all devices, but resource pool d.x/p is currently being updated"},
		"a name in both slices": {[]string{slice(2, 2, "{name: a}"), slice(2, 2, "{name: a}")}, one, "error: claim c, request r: pool d.x/p is invalid: device a is published twice"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := said(ledger(t, tt.slices...).Allocate(node("n1"), []*resourcev1.ResourceClaim{claim(t, "c", tt.spec)}, nil)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// A GPU's partitions consume its memory slices: the documentation's example.
func TestPartitionsShareTheirCounters(t *testing.T) {
	slices := []string{`{driver: d.x, nodeName: n1, pool: {name: p, generation: 1, resourceSliceCount: 2}, sharedCounters: [{name: gpu-0, counters: {memory: {value: 80Gi}}}]}`,
		`{driver: d.x, nodeName: n1, pool: {name: p, generation: 1, resourceSliceCount: 2}, devices: [
		{name: half-0, consumesCounters: [{counterSet: gpu-0, counters: {memory: {value: 40Gi}}}]}, {name: half-1, consumesCounters: [{counterSet: gpu-0, counters: {memory: {value: 40Gi}}}]},
		{name: whole, attributes: {whole: {bool: true}}, consumesCounters: [{counterSet: gpu-0, counters: {memory: {value: 80Gi}}}]},
		{name: nowhere, consumesCounters: [{counterSet: gpu-1, counters: {memory: {value: 1}}}]}]}`}
	l := ledger(t, slices...)
	two := claim(t, "two", `{requests: [{name: r, exactly: {deviceClassName: any, count: 2}}]}`)
	if got := said(l.Allocate(node("n1"), []*resourcev1.ResourceClaim{two}, nil)); got != "r=half-0 r=half-1" {
		t.Error(got)
	}
	three := claim(t, "three", `{requests: [{name: r, exactly: {deviceClassName: any, count: 3}}]}`)
	if got := said(l.Allocate(node("n1"), []*resourcev1.ResourceClaim{three}, nil)); got != "none" {
		t.Error(got)
	}
	half := claim(t, "half", `{requests: []}`)
	half.Status.Allocation = object[resourcev1.AllocationResult](t, `{devices: {results: [{request: r, driver: d.x, pool: p, device: half-0}]}}`)
	l.SetClaim(half)
	whole := claim(t, "whole", `{requests: [{name: r, exactly: {deviceClassName: any, selectors: [{cel: {expression: "has(device.attributes['d.x'].whole)"}}]}}]}`)
	if got := said(l.Allocate(node("n1"), []*resourcev1.ResourceClaim{whole}, nil)); got != "none" {
		t.Error(got)
	}
	l.RemoveClaim("default", "half")
	if got := said(l.Allocate(node("n1"), []*resourcev1.ResourceClaim{whole}, nil)); got != "r=whole" {
		t.Error(got)
	}
}

func TestConfigurationPassesThrough(t *testing.T) {
	c := claim(t, "c", `{requests: [{name: r, exactly: {deviceClassName: gpu}}, {name: s, firstAvailable: [{name: x, deviceClassName: big, count: 9}, {name: z, deviceClassName: any}]}],
		config: [{opaque: {driver: gpu.x, parameters: {all: 1}}}, {requests: [s], opaque: {driver: gpu.x, parameters: {s: 1}}}, {requests: [s/x], opaque: {driver: gpu.x, parameters: {x: 1}}}, {requests: [s/z], opaque: {driver: gpu.x, parameters: {z: 1}}}]}`)
	results, err := ledger(t, fourGPUs).Allocate(node("n1"), []*resourcev1.ResourceClaim{c}, nil)
	if err != nil || results == nil {
		t.Fatal(results, err)
	}
	var got []string
	for _, c := range results[0].Devices.Config {
		got = append(got, fmt.Sprint(c.Source, c.Requests, string(c.Opaque.Parameters.Raw)))
	}
	want := `FromClass[r]{"a":1} FromClaim[]{"all":1} FromClaim[s]{"s":1} FromClaim[s/z]{"z":1}`
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
}

func TestASearchThatTakesTooLongIsGivenUp(t *testing.T) {
	var devices []string
	for i := range 64 {
		devices = append(devices, fmt.Sprintf(`{name: d%d, attributes: {n: {int: %d}, same: {int: %d}}}`, i, i, i%13))
	}
	l := ledger(t, `{driver: d.x, nodeName: n1, pool: {name: p, generation: 1, resourceSliceCount: 1}, devices: [`+strings.Join(devices, ",")+`]}`)
	// 14 devices, all with different remainders of 13: there are none.
	c := claim(t, "c", `{requests: [{name: r, exactly: {deviceClassName: any, count: 14}}], constraints: [{distinctAttribute: d.x/same}]}`)
	if got := said(l.Allocate(node("n1"), []*resourcev1.ResourceClaim{c}, nil)); got != "error: "+ErrSearch.Error() {
		t.Error(got)
	}
}
