// Package opa tests the adapter policies/compat/opa with modules that OPA's own compiler makes of Rego, and holds its
// answers against OPA's evaluation.
package opa

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/compile"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/compat/opa"
	"github.com/pintle/pintle/policies/compat/opa/builtins"
)

// build compiles Rego to WebAssembly.
func build(t testing.TB, source string, entrypoints ...string) []byte {
	t.Helper()
	c := compile.New().WithTarget(compile.TargetWasm).WithEntrypoints(entrypoints...).WithPaths(".").
		WithFS(fstest.MapFS{"policy.rego": {Data: []byte(source)}})
	if err := c.Build(context.Background()); err != nil {
		t.Fatal(err)
	}
	var b *bundle.Bundle = c.Bundle()
	if len(b.WasmModules) != 1 {
		t.Fatalf("%d modules", len(b.WasmModules))
	}
	return b.WasmModules[0].Raw
}

type host struct {
	*policies.Host
	loaded int
}

func newHost(t testing.TB, cfg opa.Config) *host {
	t.Helper()
	h, err := policies.New(policies.Config{Adapters: []policies.Adapter{opa.New(cfg)}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- h.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	<-h.Ready()
	return &host{Host: h}
}

// policy loads a module and sets a policy of it up.
func (h *host) policy(t testing.TB, wasm []byte, p abi.Policy) (name string, err error) {
	t.Helper()
	h.loaded++
	p.Name, p.Kind, p.Module = fmt.Sprintf("p%d", h.loaded), abi.Admission, fmt.Sprintf("m%d", h.loaded)
	if _, err := h.Load(context.Background(), p.Module, wasm); err != nil {
		return "", err
	}
	return p.Name, h.Set(context.Background(), p)
}

func (h *host) admit(t testing.TB, wasm []byte, p abi.Policy, object string) (*abi.AdmissionResponse, error) {
	t.Helper()
	name, err := h.policy(t, wasm, p)
	if err != nil {
		t.Fatal(err)
	}
	resp, _, err := h.Admit(context.Background(), name, request(object))
	return resp, err
}

func request(object string) *abi.AdmissionRequest {
	return &abi.AdmissionRequest{
		UID: "u1", Operation: abi.Create, Name: "p1", Namespace: "default",
		Kind: abi.GroupVersionKind{Version: "v1", Kind: "Pod"}, Resource: abi.GroupVersionResource{Version: "v1", Resource: "pods"},
		User: abi.UserInfo{Username: "eve"}, Object: abi.JSONObject(object),
	}
}

const gatekeeper = `package policy
import rego.v1
violation contains {"msg": msg} if {
	some required in input.parameters.labels
	not input.review.object.metadata.labels[required]
	msg := sprintf("label %v is missing from %s (%d required: %v)", [required, input.review.name, count(input.parameters.labels), {x | some x in input.parameters.labels}])
}`

const review = `package kubernetes.admission
import rego.v1
main := {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
default response := {"allowed": true}
response := {"allowed": false, "status": {"message": sprintf("not in %s, %v", [input.request.namespace, data.why]), "code": 422}} if {
	input.request.namespace in data.forbidden
}`

func TestGatekeeperPolicies(t *testing.T) {
	h := newHost(t, opa.Config{})
	wasm := build(t, gatekeeper, "policy/violation")
	p := abi.Policy{Settings: []byte(`{"labels":["team","stage"]}`)}
	for object, want := range map[string]string{
		`{"metadata":{"labels":{"team":"a","stage":"b"}}}`: "",
		`{"metadata":{"labels":{"team":"a"}}}`:             `label stage is missing from p1 (2 required: {"stage", "team"})`,
		`{}`:                                               `label stage is missing from p1 (2 required: {"stage", "team"}), label team is missing from p1 (2 required: {"stage", "team"})`,
	} {
		got, err := h.admit(t, wasm, p, object)
		if err != nil || got.Allowed != (want == "") || got.Message != want {
			t.Errorf("%s: %+v, %v", object, got, err)
		}
	}
}

func TestReviewPolicies(t *testing.T) {
	h := newHost(t, opa.Config{})
	wasm := build(t, review, "kubernetes/admission/main")
	got, err := h.admit(t, wasm, abi.Policy{Settings: []byte(`{"forbidden":["default"],"why":{"because":1}}`)}, `{}`)
	if err != nil || got.Allowed || got.Code != 422 || got.Message != `not in default, {"because": 1}` {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = h.admit(t, wasm, abi.Policy{Settings: []byte(`{"forbidden":[]}`)}, `{}`)
	if err != nil || !got.Allowed {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestOtherAnswers(t *testing.T) {
	h := newHost(t, opa.Config{})
	for source, want := range map[string]string{
		`allow if input.request.name == "p1"`: "allowed",
		`default allow := false
		 allow if input.request.name == "p2"`: "refused: ",
		`allow contains sprintf("no %s", [input.request.name]) if true`: "refused: no p1",
		`allow contains "x" if input.request.name == "p2"`:              "allowed",
		`allow if input.request.name == "p2"`:                           "error: the module's answer is undefined",
		`allow := 7`:                                                    "error: the module's answer is \"7\"",
		`allow := {"response": {"status": {}}}`:                         "error: the module's review has no response.allowed",
	} {
		got, err := h.admit(t, build(t, "package x\nimport rego.v1\n"+source, "x/allow"), abi.Policy{}, `{}`)
		said := ""
		switch {
		case err != nil:
			said = "error: " + err.Error()[strings.Index(err.Error(), ": ")+2:]
		case got.Allowed:
			said = "allowed"
		default:
			said = "refused: " + got.Message
		}
		if !strings.HasPrefix(said, want) {
			t.Errorf("%s: %s, want %s", source, said, want)
		}
	}
}

func TestClusterObjects(t *testing.T) {
	lookup := func(_ context.Context, name string) ([]byte, error) {
		switch name {
		case "/v1/namespaces//":
			return []byte(`{"items":[{"metadata":{"name":"default"}}]}`), nil
		case "apps/v1/deployments//":
			return []byte(`{"items":[{"metadata":{"name":"web","namespace":"shop"}}]}`), nil
		}
		return nil, fmt.Errorf("asked for %s", name)
	}
	h := newHost(t, opa.Config{Lookup: lookup})
	p := abi.Policy{Capabilities: []string{"read:/namespaces", "read:apps/deployments"}, Settings: []byte(`{"own":1}`)}
	for name, wasm := range map[string][]byte{
		"Gatekeeper": build(t, `package policy
import rego.v1
violation contains {"msg": m} if { m := json.marshal(data.inventory) }`, "policy/violation"),
		"Review": build(t, `package policy
import rego.v1
deny contains m if { m := json.marshal({"kubernetes": data.kubernetes, "own": data.own}) }`, "policy/deny"),
	} {
		got, err := h.admit(t, wasm, p, `{}`)
		if err != nil {
			t.Fatal(err)
		}
		want := `{"cluster":{"v1":{"Namespace":{"default":{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"default"}}}}},` +
			`"namespace":{"shop":{"apps/v1":{"Deployment":{"web":{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop"}}}}}}}`
		if name == "Review" {
			want = `{"kubernetes":{"deployments":{"shop":{"web":{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop"}}}},` +
				`"namespaces":{"default":{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"default"}}}},"own":1}`
		}
		if canonical(t, []byte(got.Message)) != canonical(t, []byte(want)) {
			t.Errorf("%s: %s", name, got.Message)
		}
	}
}

// expressions are put to OPA's evaluation and to a module of ours; both must say the same. x is a string of the input.
var expressions = strings.Split(strings.TrimSpace(`
sprintf("%d %v %s %5.2f %q %x %t|%08.3f|%-5d|%+d", [1, "a", "b", 1.5, "q\"", 255, true, 3.14159, 7, 7])
sprintf("%v %v %v %v", [{"a": [1, null]}, {3, 1, 2}, set(), null])
sprintf("%d %s %v", [123456789012345678901234567890, 1, 1e3])
sprintf("%s %d", ["too few"])
sprintf("%[2]s %[1]s %%", ["a", "b"])
sprintf("%v", ["é\u0001\"\\"])
sprintf("%v", [["é\u0001\"\\\u2028"]])
sprintf("%v", [-0.1])
sprintf(input.review.object.n, [1])
json.patch({"a": {"b": [1, 2]}}, [{"op": "add", "path": "/a/b/1", "value": 9}, {"op": "remove", "path": "a/b/0"}])
json.patch({"a": [1, 2]}, [{"op": "add", "path": "/a/-", "value": {"x": 1}}, {"op": "replace", "path": ["a", 0], "value": 5}])
json.patch({"a": 1, "b/c": 2}, [{"op": "move", "from": "/a", "path": "/d"}, {"op": "copy", "from": "/b~1c", "path": "/e"}, {"op": "test", "path": "/e", "value": 2}])
json.patch({"a": 1}, [{"op": "test", "path": "/a", "value": 2}])
json.patch({"a": 1}, [{"op": "remove", "path": "/b"}])
json.patch({"a": 1}, [{"op": "replace", "path": "", "value": [1]}])
json.patch({"a": [1]}, [{"op": "add", "path": "/a/01", "value": 2}])
json.patch({"a": [1]}, [{"op": "add", "path": "/a/2", "value": 2}])
json.patch({"s": {1, 2}}, [{"op": "add", "path": ["s", 3], "value": 3}, {"op": "remove", "path": ["s", 1]}])
json.is_valid("{\"a\":1}")
json.is_valid("{a:1}")
json.marshal_with_options({"b": [1, {"c": 2}], "a": {1}}, {"pretty": true, "indent": "  "})
json.marshal_with_options({"b": 1}, {"prefix": "> ", "indent": " "})
json.marshal_with_options({"b": "<>"}, {})
base64url.encode_no_pad("a?>~")
hex.encode("hi")
hex.decode("6869")
hex.decode("6g")
urlquery.encode("a b&c=/é")
urlquery.decode("a+b%26c%3D%2F")
urlquery.encode_object({"a": "1", "b": ["x", "y"], "c": {"z"}})
urlquery.decode_object("a=1&b=x&b=y")
regex.split("[,;] *", "a, b;c")
regex.find_n("[a-z]+", "ab1cd2ef", 2)
regex.find_n("[a-z]+", "ab1cd2ef", -1)
regex.replace("foo bar foo", "fo+", "x")
regex.replace("2024-01-02", "(\\d+)-(\\d+)", "${2}/$1")
regex.template_match("urn:foo:{.*}", "urn:foo:bar:baz", "{", "}")
regex.template_match("urn:{[a-z]+}:x", "urn:abc:y", "{", "}")
glob.quote_meta("*.github.com[a]{b}?\\")
semver.is_valid("1.2.3-rc.1+build")
semver.is_valid("v1.2.3")
semver.is_valid("1.2")
semver.is_valid(7)
[semver.compare(a, b) | some [a, b] in [["1.2.3", "1.2.4"], ["1.2.3-a", "1.2.3"], ["1.0.0-rc.2", "1.0.0-rc.10"], ["1.0.0-1", "1.0.0-a"], ["1.0.0-a.1", "1.0.0-a"], ["1.0.0+x", "1.0.0+y"]]]
semver.compare("1", "2.0.0")
[units.parse(u) | some u in ["10", "100m", "1.5Ki", "2M", "3MI", "4g", "1e3", "1e3k", "0.1", "5E", "5ei", "\"7\"", "-2k"]]
units.parse("5 k")
units.parse("5q")
units.parse("k")
units.parse("1e9999999")
[units.parse_bytes(u) | some u in ["10", "1kb", "1KiB", "1.5mb", "2Gi", "3TB", "1e3", "4EiB", "0.5k"]]
units.parse_bytes("1x")
sort(object.keys({"b": 1, "a": 2, 3: 4}))
object.subset({"a": {"b": [1, 2, 3]}, "c": 1}, {"a": {"b": [2, 3]}})
object.subset({1, 2, 3}, {2, 3})
object.subset([1, 2, 3], [2, 3])
object.subset([1, 2, 3], {3, 1})
object.subset({"a": 1}, {"a": 2})
object.union_n([{"a": {"b": 1}, "x": 1}, {"a": {"c": 2}}, {"a": {"b": 3}, "x": {"y": 1}}])
object.union_n([{"a": {"b": 2}}, {"a": 4}, {"a": {"c": 3}}])
strings.any_prefix_match(["abc", "xyz"], ["x", "q"])
strings.any_suffix_match("image:latest", {":latest", ":dev"})
strings.any_prefix_match("abc", [])
strings.count("cheese", "e")
strings.reverse("héllo")
indexof_n("sad éad sad", "ad")
net.cidr_is_valid("10.0.0.0/8")
net.cidr_is_valid("10.0.0.0/33")
sort(net.cidr_expand("192.168.0.0/30"))
sort(net.cidr_expand("2001:db8::/127"))
sort(net.cidr_contains_matches(["10.0.0.0/8", ["11.0.0.0/8", "x"]], ["10.1.0.0/16", "11.0.0.1"]))
net.cidr_contains_matches({"a": "1.1.1.0/24"}, "1.1.1.128")
numbers.range_step(1, 10, 3)
numbers.range_step(10, 1, 4)
numbers.range_step(1, 10, 0)
array.reverse([1, {2}, "3"])
crypto.md5("a")
crypto.sha1("a")
crypto.sha256("a")
crypto.hmac.md5("a", "k")
crypto.hmac.sha1("a", "k")
crypto.hmac.sha256("a", "k")
crypto.hmac.sha512("a", "k")
crypto.hmac.equal("a", "a")
time.parse_rfc3339_ns("2024-02-29T12:30:45.5Z")
time.parse_ns("2006-01-02", "2024-02-29")
time.parse_ns("RFC1123", "Thu, 29 Feb 2024 12:30:45 UTC")
time.parse_rfc3339_ns("9999-01-01T00:00:00Z")
time.parse_duration_ns("1h2m3.5s")
time.date(1709209845000000000)
time.date([1709209845000000000, "America/New_York"])
time.clock([1709209845000000000, "Asia/Tokyo"])
time.weekday(1709209845000000000)
time.format(1709209845123456789)
time.format([1709209845123456789, "Europe/Berlin", "RFC850"])
time.format([1709209845123456789, "UTC", "2006/01"])
time.add_date(1709209845000000000, 1, -2, 3)
time.diff(1709209845000000000, 1577836800000000000)
time.diff([1609459199000000000, "UTC"], 1583020800000000000)
time.date(x)
upper(x)
split(x, ",")
concat("-", ["b", "a"])
to_number("1.50")
regex.match("^[a-z,]+$", x)
glob.match("*.{a,b}", [], "x.a")
{"x": x} == {"x": x}
trace("note")
`), "\n")

// TestBuiltinsAnswerAsOPA asks the adapter's own functions, without Config.Builtins.
func TestBuiltinsAnswerAsOPA(t *testing.T) { agree(t, opa.Config{}, expressions) }

func TestTheWholeSetAnswersAsOPA(t *testing.T) {
	agree(t, opa.Config{Builtins: builtins.Lookup}, strings.Split(strings.TrimSpace(`
yaml.unmarshal("a: [1, null]\nb: {c: x}")
yaml.marshal({"a": [1, {"b": null}]})
graph.reachable_paths({"a": ["b"], "b": []}, {"a"})
net.cidr_merge(["10.0.0.0/9", "10.128.0.0/9"])
io.jwt.decode("eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2ln")
regex.globs_match("a.a.[0-9]+z", "a.a.1z")
uuid.parse("f47ac10b-58cc-0372-8567-0e02b2c3d479")
json.match_schema({"a": 1}, {"type": "object"})
crypto.x509.parse_certificates("x")
`), "\n"))
}

func agree(t *testing.T, cfg opa.Config, expressions []string) {
	var source strings.Builder
	source.WriteString("package policy\nimport rego.v1\nx := input.review.object.x\nviolation contains {\"msg\": m} if { m := json.marshal(answers) }\n")
	for i, e := range expressions {
		fmt.Fprintf(&source, "answers[%q] := [v | v := %s]\n", fmt.Sprintf("%03d", i), e)
	}
	const object = `{"x":"a,b","n":7}`
	wasm, err := newHost(t, cfg).admit(t, build(t, source.String(), "policy/violation"), abi.Policy{}, object)
	if err != nil {
		t.Fatal(err)
	}
	var input any
	if err := json.Unmarshal([]byte(`{"review":{"object":`+object+`}}`), &input); err != nil {
		t.Fatal(err)
	}
	native, err := rego.New(rego.Module("policy.rego", source.String()), rego.Query("data.policy.answers"), rego.Input(input)).Eval(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(native[0].Expressions[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	var got, expected map[string]json.RawMessage
	if json.Unmarshal([]byte(wasm.Message), &got) != nil || json.Unmarshal(want, &expected) != nil {
		t.Fatalf("%s\n%s", wasm.Message, want)
	}
	for i, e := range expressions {
		key := fmt.Sprintf("%03d", i)
		if a, b := canonical(t, got[key]), canonical(t, expected[key]); a != b {
			t.Errorf("%s\n  ours %s\n  OPA  %s", e, a, b)
		}
	}
}

func canonical(t *testing.T, b []byte) string {
	t.Helper()
	var v any
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	out, _ := json.Marshal(v)
	return string(out)
}

func TestWhatIsMissingRefusesThePolicy(t *testing.T) {
	wasm := build(t, `package policy
import rego.v1
violation contains {"msg": m} if { m := yaml.marshal(http.send({"method": "get", "url": "http://127.0.0.1:1/"})) }`, "policy/violation")
	_, err := newHost(t, opa.Config{}).policy(t, wasm, abi.Policy{})
	if err == nil || !strings.Contains(err.Error(), "doesn't offer: http.send, yaml.marshal") {
		t.Errorf("%v", err)
	}
	_, err = newHost(t, opa.Config{Builtins: builtins.Lookup}).policy(t, wasm, abi.Policy{})
	if err == nil || !strings.Contains(err.Error(), `http.send (needs the capability "builtin:http.send")`) {
		t.Errorf("%v", err)
	}
}

// A policy that spends too much, by itself or through the host's functions, fails and hurts nobody.
func TestHostilePoliciesAreContained(t *testing.T) {
	h := newHost(t, opa.Config{})
	for name, body := range map[string]string{
		"spins":            `x := [1 | numbers.range(1, 100000)[_] > 0; numbers.range(1, 100000)[_] < 0]; m := sprintf("%v", [count(x)])`,
		"grows":            `x := [y | some i in numbers.range(1, 1000000); y := [i, i, i, i]]; m := sprintf("%v", [count(x)])`,
		"prints by width":  `m := concat("", [sprintf("%999999d", [1]) | some i in numbers.range(1, 100)])`,
		"answers too much": `m := sprintf("%v", [concat("", [s | some i in numbers.range(1, 30000); s := sprintf("%0300d", [i])])])`,
	} {
		wasm := build(t, "package policy\nimport rego.v1\nviolation contains {\"msg\": m} if { "+body+" }", "policy/violation")
		resp, err := h.admit(t, wasm, abi.Policy{Limits: abi.Limits{Fuel: 50_000_000, MemoryBytes: 32 << 20}}, `{}`)
		if err == nil && len(resp.Message) > 4<<20 {
			t.Errorf("%s: %d bytes", name, len(resp.Message))
		}
		t.Logf("%s: %.100v", name, err)
	}
	sound := build(t, gatekeeper, "policy/violation")
	if got, err := h.admit(t, sound, abi.Policy{Settings: []byte(`{"labels":[]}`)}, `{}`); err != nil || !got.Allowed {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
}
