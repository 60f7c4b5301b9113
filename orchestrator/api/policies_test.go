package api

import (
	"bytes"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validated is what is wrong with an object of a kind, as one text.
func validated(t *testing.T, kind, text string) string {
	t.Helper()
	k := kindOf(t, kind)
	var out []string
	for _, e := range problems(k, made(k, decode(t, k, text))) {
		out = append(out, e.Error())
	}
	return strings.Join(out, "\n")
}

func TestAModuleHasOneSource(t *testing.T) {
	for text, want := range map[string]string{
		`{spec: {source: {inline: AGFzbQEAAAA=}}}`:                                            "",
		`{spec: {source: {embedded: policies/a.wasm}}}`:                                       "",
		`{spec: {source: {image: "example.com/p@sha256:00"}}}`:                                "",
		`{spec: {source: {inline: AGFzbQEAAAA=, image: a}}}`:                                  "spec.source.image: Forbidden",
		`{spec: {source: {image: a, embedded: b}}}`:                                           "spec.source.embedded: Forbidden",
		`{spec: {source: {inline: aGVsbG8=}}}`:                                                "is no WebAssembly module in base64",
		`{spec: {source: {embedded: ../etc/passwd}}}`:                                         "spec.source.embedded: Invalid",
		`{spec: {source: {embedded: /a}}}`:                                                    "spec.source.embedded: Invalid",
		`{spec: {source: {image: "a b"}}}`:                                                    "spec.source.image: Invalid",
		`{spec: {digest: md5:0}}`:                                                             "spec.digest: Invalid",
		`{spec: {digest: "sha256:` + strings.Repeat("A", 64) + `"}}`:                          "spec.digest: Invalid",
		`{spec: {digest: "sha256:` + strings.Repeat("a", 64) + `", source: {embedded: "a"}}}`: "",
	} {
		if got := validated(t, "PolicyModule", text); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	k := kindOf(t, "PolicyModule")
	large := &PolicyModule{}
	large.Spec.Source.Inline = append([]byte(wasmMagic), make([]byte, MaxInlineModule)...)
	if errs := problems(k, large); len(errs) != 1 || errs[0].Type != field.ErrorTypeTooLong {
		t.Errorf("1 MiB and some: %v", errs)
	}
	large.Spec.Source.Inline = large.Spec.Source.Inline[:MaxInlineModule]
	if errs := problems(k, large); len(errs) != 0 {
		t.Errorf("1 MiB: %v", errs)
	}
}

func TestAnUploadMustBeWanted(t *testing.T) {
	k := kindOf(t, "PolicyModule")
	wasm := []byte(wasmMagic + "\x01\x00\x00\x00")
	for name, tc := range map[string]struct {
		module string
		data   []byte
		want   string
	}{
		"as it should be":  {`{}`, wasm, ""},
		"another source":   {`{spec: {source: {image: a}}}`, wasm, "clear it before you upload"},
		"no module":        {`{}`, []byte("hello"), "is no WebAssembly module"},
		"another digest":   {`{spec: {digest: "sha256:00"}}`, wasm, "spec.digest asks for"},
		"the right digest": {`{spec: {digest: "sha256:1"}}`, wasm, ""},
	} {
		got := k.Bytes.Validate(decode(t, k, tc.module), tc.data, Stored{ID: "1", Digest: "sha256:1", Size: int64(len(tc.data))}).ToAggregate()
		if tc.want == "" && got != nil || tc.want != "" && (got == nil || !strings.Contains(got.Error(), tc.want)) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// An upload is a new generation, and only an upload changes what is said of it.
func TestAnUploadIsRecordedByTheUploadAlone(t *testing.T) {
	k := kindOf(t, "PolicyModule")
	old := made(k, decode(t, k, `{metadata: {name: m}}`)).(*PolicyModule)
	k.Bytes.Put(old, Stored{ID: "1", Digest: "sha256:1", Size: 8})
	if old.Generation != 2 || *old.Status.Upload != (PolicyModuleUpload{ID: "1", Digest: "sha256:1", Size: 8}) {
		t.Fatalf("%+v", old)
	}
	status := old.DeepCopyObject().(*PolicyModule)
	status.Status = PolicyModuleStatus{State: ModuleReady}
	k.Status.PrepareUpdate(status, old)
	if s, ok := k.Bytes.Stored(status); !ok || s.ID != "1" || status.Status.State != ModuleReady {
		t.Errorf("after a status update: %+v", status.Status)
	}
	spec := old.DeepCopyObject().(*PolicyModule)
	spec.Spec.Source.Image = "a"
	k.PrepareUpdate(spec, old)
	if _, ok := k.Bytes.Stored(spec); ok {
		t.Error("the upload is still named by a module that comes from an image")
	}
}

func TestPolicySpecsAreStrict(t *testing.T) {
	const rule = `operations: [CREATE], apiGroups: [""], apiVersions: [v1]`
	match := func(resources string) string {
		return `{spec: {module: m, matchConstraints: {resourceRules: [{` + rule + `, resources: [` + resources + `]}]}}}`
	}
	spec := func(more string) string {
		return `{spec: {module: m, matchConstraints: {resourceRules: [{` + rule + `, resources: [pods]}]}, ` + more + `}}`
	}
	for _, tc := range []struct{ kind, object, want string }{
		{"AdmissionPolicy", `{spec: {}}`, "spec.module: Required"},
		{"AdmissionPolicy", `{spec: {module: m}}`, "spec.matchConstraints: Required"},
		{"AdmissionPolicy", `{spec: {module: m, matchConstraints: {}}}`, "spec.matchConstraints.resourceRules: Required"},
		{"AdmissionPolicy", `{spec: {module: "M M", matchConstraints: {}}}`, "spec.module: Invalid"},
		{"AdmissionPolicy", match(`pods, pods/status, "*/scale"`), ""},
		{"AdmissionPolicy", match(`"*", "*/scale", pods/log`), ""},
		{"AdmissionPolicy", match(``), "resources: Required"},
		{"AdmissionPolicy", match(`"*/*", pods`), "if '*/*' is present"},
		{"AdmissionPolicy", match(`"*", pods`), "if '*' is present"},
		{"AdmissionPolicy", match(`pods/*, pods/log`), "if 'pods/*' is present"},
		{"AdmissionPolicy", match(`"*/log", pods/log`), "if '*/log' is present"},
		{"AdmissionPolicy", match(`pods/`), "must be RESOURCE or RESOURCE/SUBRESOURCE"},
		{"AdmissionPolicy", `{spec: {module: m, matchConstraints: {resourceRules: [{operations: [PATCH, "*"], apiGroups: ["*", a], apiVersions: [""], resources: [a], scope: Some, resourceNames: [a, a]}]}}}`,
			`operations[0]: Unsupported value: "PATCH"`},
		{"AdmissionPolicy", spec(`mode: Enforce`), `spec.mode: Unsupported value: "Enforce": supported values: "audit", "enforce", "warn"`},
		{"AdmissionPolicy", spec(`type: both`), "spec.type: Unsupported"},
		{"AdmissionPolicy", spec(`failurePolicy: Perhaps`), "spec.failurePolicy: Unsupported"},
		{"AdmissionPolicy", spec(`limits: {fuel: 1}`), "spec.limits.fuel: Invalid"},
		{"AdmissionPolicy", spec(`limits: {memory: 1Ki, output: 1Gi, hostCalls: 0, timeout: 1h}`), "spec.limits.timeout: Invalid"},
		{"AdmissionPolicy", spec(`limits: {fuel: 1000000, memory: 16Mi, output: 1Mi, hostCalls: 10, timeout: 200ms}`), ""},
		{"AdmissionPolicy", spec(`capabilities: [clock, "read:/pods", "read:apps/deployments", "kubewarden:can_i"]`), ""},
		{"AdmissionPolicy", spec(`capabilities: [net]`), "spec.capabilities[0]: Invalid"},
		{"AdmissionPolicy", spec(`capabilities: ["read:pods"]`), "spec.capabilities[0]: Invalid"},
		{"AdmissionPolicy", spec(`capabilities: [clock, clock]`), "spec.capabilities[1]: Duplicate"},
		{"AdmissionPolicy", spec(`settings: [1, {a: b}]`), ""},
		{"SchedulingPolicy", `{spec: {module: m, extensionPoints: [Filter, Score, QueueSort, Permit, PostFilter], weight: 100, profile: gpu}}`, ""},
		{"SchedulingPolicy", `{spec: {module: m, extensionPoints: [Reserve]}}`, "spec.extensionPoints[0]: Unsupported"},
		{"SchedulingPolicy", `{spec: {module: m, extensionPoints: [Score, Score]}}`, "spec.extensionPoints[1]: Duplicate"},
		{"SchedulingPolicy", `{spec: {module: m, weight: 101}}`, "spec.weight: Invalid"},
		{"SchedulingPolicy", `{spec: {module: m, weight: -1}}`, "spec.weight: Invalid"},
		{"SchedulingPolicy", `{spec: {module: m, profile: "a b"}}`, "spec.profile: Invalid"},
	} {
		if got := validated(t, tc.kind, tc.object); tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("%s %s\ngot  %q\nwant %q", tc.kind, tc.object, got, tc.want)
		}
	}
}

func TestCopiesOfPoliciesShareNothing(t *testing.T) {
	m := &PolicyModule{}
	m.Spec.Source.Inline = []byte("abc")
	m.Status.Upload = &PolicyModuleUpload{ID: "1"}
	list := &PolicyModuleList{Items: []PolicyModule{*m}}
	c := list.DeepCopyObject().(*PolicyModuleList)
	c.Items[0].Spec.Source.Inline[0] = 'x'
	c.Items[0].Status.Upload.ID = "2"
	if !bytes.Equal(m.Spec.Source.Inline, []byte("abc")) || m.Status.Upload.ID != "1" {
		t.Error("a copy changed its original")
	}
	for kind, text := range map[string]string{
		"AdmissionPolicy":  `{spec: {module: m, settings: {a: b}, capabilities: [clock], limits: {fuel: 5000}, matchConstraints: {resourceRules: [{resources: [pods]}]}}, status: {p50: 1s, conditions: [{type: Ready}]}}`,
		"SchedulingPolicy": `{spec: {module: m, settings: {a: b}, capabilities: [clock], limits: {fuel: 5000}, extensionPoints: [Filter]}, status: {p99: 1s, conditions: [{type: Ready}]}}`,
	} {
		k := kindOf(t, kind)
		o, same := decode(t, k, text), decode(t, k, text)
		switch p := o.DeepCopyObject().(type) {
		case *AdmissionPolicy:
			p.Spec.Settings.Raw[0], p.Spec.Capabilities[0], *p.Spec.Limits.Fuel = 'x', "x", 1
			p.Spec.MatchConstraints.ResourceRules[0].Resources[0], p.Status.P50.Duration, p.Status.Conditions[0].Type = "x", 1, "x"
		case *SchedulingPolicy:
			p.Spec.Settings.Raw[0], p.Spec.Capabilities[0], *p.Spec.Limits.Fuel = 'x', "x", 1
			p.Spec.ExtensionPoints[0], p.Status.P99.Duration, p.Status.Conditions[0].Type = "x", 1, "x"
		}
		if !equal(o, same) {
			t.Errorf("a copy of a %s changed its original", kind)
		}
	}
}
