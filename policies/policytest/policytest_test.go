package policytest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/abi"
)

const podJSON = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","uid":"u1","labels":{"b":"2","a":"1"},"ownerReferences":[{"kind":"Job","name":"j","controller":true}]},
 "spec":{"priority":7,"nodeSelector":{"disk":"ssd"},"initContainers":[{"name":"i","image":"busybox","resources":{"requests":{"cpu":"3"}}},{"name":"s","image":"proxy","restartPolicy":"Always","resources":{"requests":{"cpu":"100m"}}}],
 "containers":[{"name":"c","image":"nginx","resources":{"requests":{"cpu":"1500m","memory":"1Gi"},"limits":{"nvidia.com/gpu":"2","cpu":2}}}],"overhead":{"memory":"1Mi"}}}`

func TestEveryFormOfARequestIsRead(t *testing.T) {
	request := `{"uid":"x","kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},"name":"web","namespace":"shop",
	 "operation":"UPDATE","userInfo":{"username":"jane","groups":["dev"]},"object":` + podJSON + `,"oldObject":{"metadata":{"labels":{"old":"yes"}}},"dryRun":true}`
	for name, c := range map[string]struct{ in, says string }{
		"object":            {podJSON, "CREATE pods default/web"},
		"cluster-scoped":    {`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"r"}}`, "CREATE clusterroles r"},
		"plural":            {`{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"r","namespace":"n"}}`, "CREATE networkpolicies n/r"},
		"AdmissionRequest":  {request, "UPDATE pods shop/web"},
		"AdmissionReview":   {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":` + request + `}`, "UPDATE pods shop/web"},
		"deletion":          {`{"operation":"DELETE","object":null,"oldObject":{},"name":"x"}`, "DELETE  x"},
		"pod and nodes":     {`{"pod":` + podJSON + `,"nodes":[{"metadata":{"name":"n1"}}]}`, "pod /web, 1 nodes"},
		"no request":        {`{"a":1}`, ""},
		"review of nothing": {`{"kind":"AdmissionReview"}`, ""},
		"unknown operation": {`{"operation":"EAT"}`, ""},
		"no JSON":           {`apiVersion: v1`, ""},
		"no version":        {`{"kind":"Pod"}`, ""},
		"a node's name":     {`{"pod":` + podJSON + `,"nodes":[{}]}`, ""},
		"no quantity":       {`{"pod":` + podJSON + `,"nodes":[{"metadata":{"name":"n"},"status":{"allocatable":{"cpu":"lots"}}}]}`, ""},
	} {
		q, err := Parser{}.Parse([]byte(c.in))
		if (err != nil) != (c.says == "") || q.Name != c.says {
			t.Errorf("%s: %q, %v", name, q.Name, err)
		}
	}
	q, err := Parser{}.Parse([]byte(request))
	if err != nil {
		t.Fatal(err)
	}
	a := q.Admission
	if a.Operation != abi.Update || a.User.Username != "jane" || !a.DryRun || a.Meta.Labels[0] != (abi.Pair{Key: "a", Value: "1"}) || a.OldMeta.Labels[0].Key != "old" {
		t.Errorf("%+v", a)
	}
	if _, err := a.Object.Encoded(abi.Protobuf); err == nil {
		t.Error("JSON was passed for protobuf")
	}
}

func TestPodsRequestWhatSchedulingCounts(t *testing.T) {
	q, err := Parser{}.Parse([]byte(`{"pod":` + podJSON + `,"nodes":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []abi.Quantity{{Name: "cpu", Milli: 3000}, {Name: "memory", Milli: 1000 * (1<<30 + 1<<20)}, {Name: "nvidia.com/gpu", Milli: 2000}}
	p := q.Placement.Pod
	if !reflect.DeepEqual(p.Requests, want) || p.OwnerKind != "Job" || p.Priority != 7 || !reflect.DeepEqual(p.Images, []string{"busybox", "proxy", "nginx"}) {
		t.Errorf("%+v", p)
	}
}

func TestQuantities(t *testing.T) {
	for text, want := range map[string]int64{"1": 1000, "1500m": 1500, "0.5": 500, "1Ki": 1024000, "2k": 2000000, "1e3": 1000000, "1E2": 100000, "100n": 1, "-1": -1000, "1E": 0, "": -1 << 62, "x": -1 << 62,
		"1e99": -1 << 62, "1/2": -1 << 62, "9Ei": -1 << 62, "1_0": -1 << 62} {
		got, err := parseQuantity(text)
		if text == "1E" {
			continue // more than can be counted in thousandths of it
		}
		if (err != nil) != (want == -1<<62) || err == nil && got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

// TestWhatIsRecordedIsReadAgain: a recording of what was read from a recording is the same.
func TestWhatIsRecordedIsReadAgain(t *testing.T) {
	first := podJSON + `{"pod":` + podJSON + `,"nodes":[{"metadata":{"name":"n1","labels":{"z":"1"},"creationTimestamp":"2026-01-02T03:04:05Z"},
	 "spec":{"unschedulable":true,"taints":[{"key":"k","effect":"NoSchedule"}]},"status":{"allocatable":{"cpu":"4","memory":"8Gi","example.com/x":"3","pods":"110"},"conditions":[{"type":"Ready","status":"False"}]},
	 "requested":{"cpu":"1500m"},"pods":3},{"metadata":{"name":"n2"}}]}`
	record := func(in string) string {
		requests, err := Parser{}.Read(strings.NewReader(in))
		if err != nil || len(requests) != 2 {
			t.Fatal(err, len(requests))
		}
		var out bytes.Buffer
		r := &Recorder{W: &out}
		if err := r.Admission(requests[0].Admission); err != nil {
			t.Fatal(err)
		}
		if err := r.Placement(requests[1].Placement); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	second := record(first)
	if third := record(second); third != second || strings.Count(second, "\n") != 2 {
		t.Errorf("%s\nbecame\n%s", second, third)
	}
	for _, part := range []string{`"requested":{"cpu":"1500m"}`, `"pods":3`, `"unschedulable":true`, `"example.com/x":"3"`, `"status":"False"`, `"operation":"CREATE"`} {
		if !strings.Contains(second, part) {
			t.Errorf("%s isn't in %s", part, second)
		}
	}
}

func TestTwoVersionsAreCompared(t *testing.T) {
	module := func(name string) []byte {
		b, err := os.ReadFile("../testdata/" + name + ".wasm")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	requests, err := Parser{}.Read(strings.NewReader(podJSON + `{"pod":` + podJSON + `,"nodes":[{"metadata":{"name":"n1"}},{"metadata":{"name":"n2"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	replay := func(wasm []byte, kind abi.Kind) []Decision {
		d, err := Replay(context.Background(), policies.Config{}, wasm, abi.Policy{Kind: kind}, requests)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	frozen, odd := replay(module("freeze"), abi.Admission), replay(module("oddrows"), abi.Scheduling)
	if got := frozen[0].String(); got != "CREATE pods default/web: refused (403): nothing is created before Monday\n" {
		t.Error(got)
	}
	if got := odd[0].String(); got != "pod /web, 2 nodes: 1 of 2 nodes pass\n  n1: 0\n  n2: refused: the row is odd\n" {
		t.Error(got)
	}
	if diff := Diff(frozen, replay(module("freeze"), abi.Admission)); diff != "" {
		t.Errorf("a module differs from itself: %s", diff)
	}
	open := []Decision{{Request: requests[0], Admit: &abi.AdmissionResponse{Allowed: true, Patch: []byte("[]")}}}
	want := "@@ request 1\n-CREATE pods default/web: refused (403): nothing is created before Monday\n+CREATE pods default/web: allowed\n+  JSON patch: []\n"
	if diff := Diff(frozen, open); diff != want {
		t.Error(diff)
	}
	failed := []Decision{{Request: requests[0], Err: errors.New("a trap")}}
	if diff := Diff(open, failed); !strings.Contains(diff, "+CREATE pods default/web: FAILED: a trap") {
		t.Error(diff)
	}
	if _, err := Replay(context.Background(), policies.Config{}, []byte("garbage"), abi.Policy{Kind: abi.Admission}, requests); err == nil {
		t.Error("garbage was run")
	}
}
