package api

import (
	"fmt"
	"strings"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// sliceWith is a slice of one device that has more.
func sliceWith(device string) string {
	return `{metadata: {name: x}, spec: {driver: d.x, nodeName: n1, pool: {name: n1, resourceSliceCount: 1}, devices: [{name: d, ` + device + `}]}}`
}

func claimWith(devices string) string {
	return `{metadata: {name: x}, spec: {devices: {` + devices + `}}}`
}

func TestClaimsAndSlicesAreChecked(t *testing.T) {
	request := func(more string) string {
		return claimWith(`requests: [{name: r, exactly: {deviceClassName: c, ` + more + `}}]`)
	}
	counters := `sharedCounters: [{name: s, counters: {m: {value: 1}}}]`
	tests := []struct{ kind, object, want string }{
		{"ResourceClaim", claimWith(``), ""},
		{"ResourceClaim", request(`count: 3`), ""},
		{"ResourceClaim", request(`allocationMode: All`), ""},
		{"ResourceClaim", request(`allocationMode: All, count: 1`), "spec.devices.requests[0].exactly.count"},
		{"ResourceClaim", request(`count: -1`), "spec.devices.requests[0].exactly.count"},
		{"ResourceClaim", request(`allocationMode: Half`), "spec.devices.requests[0].exactly.allocationMode"},
		{"ResourceClaim", claimWith(`requests: [{name: r, exactly: {deviceClassName: ""}}]`), "spec.devices.requests[0].exactly.deviceClassName"},
		{"ResourceClaim", claimWith(`requests: [{name: r}]`), "spec.devices.requests[0]"},
		{"ResourceClaim", claimWith(`requests: [{name: r, exactly: {deviceClassName: c}, firstAvailable: [{name: a, deviceClassName: c}]}]`), "spec.devices.requests[0]"},
		{"ResourceClaim", claimWith(`requests: [{name: r, exactly: {deviceClassName: c}}, {name: r, exactly: {deviceClassName: c}}]`), "spec.devices.requests[1].name"},
		{"ResourceClaim", claimWith(`requests: [{name: r, firstAvailable: [{name: a, deviceClassName: c}, {name: b, deviceClassName: c, count: 2}]}]`), ""},
		{"ResourceClaim", claimWith(`requests: [{name: r, firstAvailable: [{name: a, deviceClassName: c}, {name: a, deviceClassName: c}]}]`), "spec.devices.requests[0].firstAvailable[1].name"},
		{"ResourceClaim", request(`selectors: [{cel: {expression: "device.driver == 'x'"}}]`), ""},
		{"ResourceClaim", request(`selectors: [{cel: {expression: "device.driver"}}]`), "spec.devices.requests[0].exactly.selectors[0].cel.expression"},
		{"ResourceClaim", request(`selectors: [{cel: {expression: ""}}]`), "spec.devices.requests[0].exactly.selectors[0].cel.expression"},
		{"ResourceClaim", request(`selectors: [{}]`), "spec.devices.requests[0].exactly.selectors[0].cel"},
		{"ResourceClaim", request(`tolerations: [{operator: Exists}, {key: k, value: v}]`), ""},
		{"ResourceClaim", request(`tolerations: [{value: v}]`), "spec.devices.requests[0].exactly.tolerations[0].key"},
		{"ResourceClaim", request(`tolerations: [{operator: Exists, value: v}]`), "spec.devices.requests[0].exactly.tolerations[0].value"},
		{"ResourceClaim", request(`tolerations: [{operator: Exists, effect: PreferNoSchedule}]`), "spec.devices.requests[0].exactly.tolerations[0].effect"},
		{"ResourceClaim", request(`capacity: {requests: {memory: 10Gi, d.x/cores: 2}}`), ""},
		{"ResourceClaim", request(`capacity: {requests: {me-mory: 10Gi}}`), "spec.devices.requests[0].exactly.capacity.requests[me-mory]"},
		{"ResourceClaim", claimWith(`requests: [{name: r, firstAvailable: [{name: a, deviceClassName: c}]}], constraints: [{requests: [r], matchAttribute: d.x/a}, {requests: [r/a], distinctAttribute: d.x/b}]`), ""},
		{"ResourceClaim", claimWith(`constraints: [{requests: [r], matchAttribute: d.x/a}]`), "spec.devices.constraints[0].requests[0]"},
		{"ResourceClaim", claimWith(`constraints: [{matchAttribute: a}]`), "spec.devices.constraints[0].matchAttribute"},
		{"ResourceClaim", claimWith(`constraints: [{}]`), "spec.devices.constraints[0]"},
		{"ResourceClaim", claimWith(`constraints: [{matchAttribute: d.x/a, distinctAttribute: d.x/a}]`), "spec.devices.constraints[0]"},
		{"ResourceClaim", claimWith(`config: [{opaque: {driver: d.x, parameters: {kind: K, apiVersion: v1}}}]`), ""},
		{"ResourceClaim", claimWith(`config: [{opaque: {driver: d.x, parameters: "text"}}]`), "spec.devices.config[0].opaque.parameters"},
		{"ResourceClaim", claimWith(`config: [{opaque: {driver: "", parameters: {}}}]`), "spec.devices.config[0].opaque.driver"},
		{"ResourceClaim", claimWith(`config: [{}]`), "spec.devices.config[0].opaque"},
		{"ResourceClaimTemplate", `{metadata: {name: x}, spec: {metadata: {labels: {a: b}}, spec: {devices: {}}}}`, ""},
		{"ResourceClaimTemplate", `{metadata: {name: x}, spec: {metadata: {name: y}, spec: {devices: {}}}}`, "spec.metadata"},
		{"ResourceClaimTemplate", `{metadata: {name: x}, spec: {spec: {devices: {requests: [{name: r}]}}}}`, "spec.spec.devices.requests[0]"},
		{"DeviceClass", `{metadata: {name: x}, spec: {}}`, ""},
		{"DeviceClass", `{metadata: {name: x}, spec: {selectors: [{cel: {expression: "1 +"}}]}}`, "spec.selectors[0].cel.expression"},
		{"DeviceClass", `{metadata: {name: x}, spec: {config: [{opaque: {driver: d.x, parameters: {}}}]}}`, ""},
		{"ResourceSlice", sliceWith(`attributes: {a: {int: 1}, d.y/b: {version: 1.2.3}}, capacity: {memory: {value: 10Gi}}`), ""},
		{"ResourceSlice", sliceWith(`attributes: {a: {version: 1.2}}`), "spec.devices[0].attributes[a].version"},
		{"ResourceSlice", sliceWith(`attributes: {a: {}}`), "spec.devices[0].attributes[a]"},
		{"ResourceSlice", sliceWith(`attributes: {a: {int: 1, bool: true}}`), "spec.devices[0].attributes[a]"},
		{"ResourceSlice", sliceWith(`attributes: {a: {string: "` + strings.Repeat("x", 65) + `"}}`), "spec.devices[0].attributes[a].string"},
		{"ResourceSlice", sliceWith(`attributes: {1a: {int: 1}}`), "spec.devices[0].attributes[1a]"},
		{"ResourceSlice", sliceWith(`taints: [{key: k, effect: NoSchedule}, {key: k, effect: None}]`), ""},
		{"ResourceSlice", sliceWith(`taints: [{key: k, effect: PreferNoSchedule}]`), "spec.devices[0].taints[0].effect"},
		{"ResourceSlice", sliceWith(`allNodes: true`), "spec.devices[0]"},
		{"ResourceSlice", sliceWith(`consumesCounters: [{counterSet: s, counters: {m: {value: 1}}}]`), ""},
		{"ResourceSlice", sliceWith(`consumesCounters: [{counterSet: s, counters: {}}]`), "spec.devices[0].consumesCounters[0].counters"},
		{"ResourceSlice", strings.Replace(sliceWith(``), "nodeName: n1", "nodeName: n1, allNodes: true", 1), "spec"},
		{"ResourceSlice", strings.Replace(sliceWith(``), "nodeName: n1,", "", 1), "spec"},
		{"ResourceSlice", strings.Replace(sliceWith(``), "nodeName: n1", "allNodes: false", 1), "spec.allNodes"},
		{"ResourceSlice", strings.Replace(sliceWith(``), "resourceSliceCount: 1", "resourceSliceCount: 0", 1), "spec.pool.resourceSliceCount"},
		{"ResourceSlice", strings.Replace(sliceWith(``), "{name: d, }", "{name: d}, {name: d}", 1), "spec.devices[1].name"},
		{"ResourceSlice", strings.Replace(sliceWith(``), "driver: d.x", "driver: d.x, "+counters, 1), "spec"},
		{"ResourceSlice", `{metadata: {name: x}, spec: {driver: d.x, allNodes: true, pool: {name: a/b, resourceSliceCount: 1}, ` + counters + `}}`, ""},
		{"Pod", podWith(`, resources: {claims: [{name: a}, {name: b, request: r}]}`, `, resourceClaims: [{name: a, resourceClaimName: x}, {name: b, resourceClaimTemplateName: y}]`), ""},
		{"Pod", podWith(``, `, resourceClaims: [{name: a}]`), "spec.resourceClaims[0]"},
		{"Pod", podWith(``, `, resourceClaims: [{name: a, resourceClaimName: x, resourceClaimTemplateName: y}]`), "spec.resourceClaims[0]"},
		{"Pod", podWith(``, `, resourceClaims: [{name: a, resourceClaimName: x}, {name: a, resourceClaimName: y}]`), "spec.resourceClaims[1].name"},
		{"Pod", podWith(`, resources: {claims: [{name: a}]}`, ``), "spec.containers[0].resources.claims[0].name"},
		{"Pod", podWith(`, resources: {claims: [{name: a}, {name: a, request: r}]}`, `, resourceClaims: [{name: a, resourceClaimName: x}]`), "spec.containers[0].resources.claims[1]"},
		{"Pod", podWith(`, resources: {claims: [{name: a, request: r}, {name: a}]}`, `, resourceClaims: [{name: a, resourceClaimName: x}]`), "spec.containers[0].resources.claims[1]"},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprint(tt.kind, i), func(t *testing.T) {
			k := kindOf(t, tt.kind)
			errs := problems(k, made(k, decode(t, k, tt.object)))
			switch {
			case tt.want == "" && len(errs) > 0:
				t.Errorf("%s\n%v", tt.object, errs.ToAggregate())
			case tt.want != "" && (len(errs) == 0 || errs[0].Field != tt.want):
				t.Errorf("%s\n%v, want %s", tt.object, errs.ToAggregate(), tt.want)
			}
		})
	}
}

func TestUnsetFieldsOfRequestsGetTheirDocumentedValues(t *testing.T) {
	k := kindOf(t, "ResourceClaim")
	c := made(k, decode(t, k, claimWith(`requests: [{name: r, exactly: {deviceClassName: c, tolerations: [{key: k}]}}, {name: s, firstAvailable: [{name: a, deviceClassName: c}, {name: b, deviceClassName: c, allocationMode: All}]}]`))).(*resourcev1.ResourceClaim)
	r, s := c.Spec.Devices.Requests[0].Exactly, c.Spec.Devices.Requests[1].FirstAvailable
	if r.AllocationMode != "ExactCount" || r.Count != 1 || r.Tolerations[0].Operator != "Equal" || s[0].Count != 1 || s[1].Count != 0 {
		t.Errorf("%+v %+v", r, s)
	}
}

func TestAClaimsStatusFollowsItsAllocation(t *testing.T) {
	k := kindOf(t, "ResourceClaim")
	spec := `spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}, {name: s, firstAvailable: [{name: a, deviceClassName: c}]}]}}`
	with := func(status string) Object {
		return decode(t, k, `{metadata: {name: x}, `+spec+`, status: {`+status+`}}`)
	}
	allocated := func(request string) string {
		return `allocation: {devices: {results: [{request: ` + request + `, driver: d.x, pool: p, device: d}]}}`
	}
	pod := `reservedFor: [{resource: pods, name: p, uid: u}]`
	for _, tt := range []struct{ name, old, now, want string }{
		{"allocated and reserved", ``, allocated("r") + ", " + pod, ""},
		{"an alternative", ``, allocated("s/a"), ""},
		{"no request of the claim", ``, allocated("q"), "status.allocation.devices.results[0].request"},
		{"the main request of alternatives", ``, allocated("s"), "status.allocation.devices.results[0].request"},
		{"reserved before it is allocated", ``, pod, "status.reservedFor[0]"},
		{"allocated anew", allocated("r"), allocated("s/a"), "status.allocation"},
		{"deallocated", allocated("r"), ``, ""},
		{"deallocated in use", allocated("r") + ", " + pod, pod, "status.reservedFor"},
		{"reserved twice", allocated("r"), allocated("r") + `, reservedFor: [{resource: pods, name: p, uid: u}, {resource: pods, name: q, uid: u}]`, "status.reservedFor[1].uid"},
		{"reserved for nobody", allocated("r"), allocated("r") + `, reservedFor: [{resource: pods, name: p}]`, "status.reservedFor[0].uid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now, old := with(tt.now), with(tt.old)
			k.Status.PrepareUpdate(now, old)
			errs := k.Status.ValidateUpdate(now, old)
			got := ""
			if len(errs) > 0 {
				got = errs[0].Field
			}
			if got != tt.want {
				t.Errorf("%v, want %q", errs.ToAggregate(), tt.want)
			}
		})
	}
	var many []string
	for i := range 257 {
		many = append(many, fmt.Sprintf("{resource: pods, name: p, uid: u%d}", i))
	}
	now := with(allocated("r") + ", reservedFor: [" + strings.Join(many, ",") + "]")
	if errs := k.Status.ValidateUpdate(now, with(allocated("r"))); len(errs) != 1 || errs[0].Type != field.ErrorTypeTooMany {
		t.Error(errs.ToAggregate())
	}
	// What a driver said of a device goes with the device.
	gone := with(`devices: [{driver: d.x, pool: p, device: d, conditions: []}]`)
	k.Status.PrepareUpdate(gone, with(allocated("r")))
	if n := len(gone.(*resourcev1.ResourceClaim).Status.Devices); n != 0 {
		t.Error("a device's status stays without its allocation")
	}
	// The spec of a claim never changes.
	if errs := k.ValidateUpdate(decode(t, k, claimWith(``)), with(``)); len(errs) != 1 {
		t.Error(errs.ToAggregate())
	}
}

// A taint says since when it's there: as the driver has it, as it was, or now.
func TestDeviceTaintsAreStamped(t *testing.T) {
	slice := func(taints ...resourcev1.DeviceTaint) *resourcev1.ResourceSlice {
		return &resourcev1.ResourceSlice{Spec: resourcev1.ResourceSliceSpec{Devices: []resourcev1.Device{{Name: "d", Taints: taints}}}}
	}
	said, now, later := metav1.Unix(1, 0), metav1.Unix(2, 0), metav1.Unix(3, 0)
	first := slice(resourcev1.DeviceTaint{Key: "a", Effect: "NoExecute"}, resourcev1.DeviceTaint{Key: "b", Effect: "NoExecute", TimeAdded: &said})
	StampDeviceTaints(first, nil, now)
	second := slice(resourcev1.DeviceTaint{Key: "a", Effect: "NoExecute"}, resourcev1.DeviceTaint{Key: "a", Effect: "NoSchedule"})
	StampDeviceTaints(second, first, later)
	StampDeviceTaints(&resourcev1.ResourceClaim{}, nil, now)
	for name, tc := range map[string]struct {
		got  *metav1.Time
		want metav1.Time
	}{
		"new": {first.Spec.Devices[0].Taints[0].TimeAdded, now}, "said": {first.Spec.Devices[0].Taints[1].TimeAdded, said},
		"as it was": {second.Spec.Devices[0].Taints[0].TimeAdded, now}, "another effect": {second.Spec.Devices[0].Taints[1].TimeAdded, later},
	} {
		if tc.got == nil || !tc.got.Equal(&tc.want) {
			t.Errorf("%s: %v, want %v", name, tc.got, tc.want)
		}
	}
}
