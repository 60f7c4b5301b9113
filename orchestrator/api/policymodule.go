package api

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// How large a module may be, in bytes: inline, and otherwise.
const (
	MaxInlineModule = 1 << 20
	MaxPolicyModule = 32 << 20
)

// PolicyModule is a WebAssembly module that policies decide with.
type PolicyModule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   PolicyModuleSpec   `json:"spec,omitempty"`
	Status PolicyModuleStatus `json:"status,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (PolicyModule) SwaggerDoc() map[string]string {
	return map[string]string{
		"":       "PolicyModule is a WebAssembly module that AdmissionPolicies and SchedulingPolicies decide with.",
		"spec":   "Where the module comes from.",
		"status": "What it is, and whether it can be used.",
	}
}

// PolicyModuleSpec says where a module comes from.
type PolicyModuleSpec struct {
	Source PolicyModuleSource `json:"source,omitempty"`
	Digest string             `json:"digest,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (PolicyModuleSpec) SwaggerDoc() map[string]string {
	return map[string]string{
		"":       "PolicyModuleSpec says where a module comes from.",
		"source": "One of inline, image and embedded; none of them: the module is uploaded.",
		"digest": "sha256: and 64 hexadecimal digits. Bytes with another digest are refused; uploads are, too.",
	}
}

// PolicyModuleSource names one source at most. Without one the module is uploaded:
//
//	kubectl replace --raw /apis/policy.pintle.dev/v1alpha1/policymodules/NAME/wasm -f FILE.wasm
type PolicyModuleSource struct {
	Inline   []byte `json:"inline,omitempty"`
	Image    string `json:"image,omitempty"`
	Embedded string `json:"embedded,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (PolicyModuleSource) SwaggerDoc() map[string]string {
	return map[string]string{
		"": "PolicyModuleSource names one source at most. Without one the module is uploaded, up to 32 MiB: " +
			"kubectl replace --raw /apis/policy.pintle.dev/v1alpha1/policymodules/NAME/wasm -f FILE.wasm",
		"inline":   "The module itself, in base64, up to 1 MiB.",
		"image":    "An image in the store of each member's own node, which holds the module as a layer or as its first file with the ending .wasm. It is read once for each change of this object.",
		"embedded": "The name of a file that the program in which this control plane runs brings along.",
	}
}

// uploaded says that the module comes through the subresource.
func (s *PolicyModuleSource) uploaded() bool {
	return len(s.Inline) == 0 && s.Image == "" && s.Embedded == ""
}

// PolicyModuleState is how far a module is.
type PolicyModuleState string

// The states. A module that fails leaves the previous one in use.
const (
	ModulePending   PolicyModuleState = "Pending"
	ModuleCompiling PolicyModuleState = "Compiling"
	ModuleReady     PolicyModuleState = "Ready"
	ModuleFailed    PolicyModuleState = "Failed"
)

// PolicyModuleStatus is what a module is, as the member that leads has found.
type PolicyModuleStatus struct {
	ObservedGeneration int64               `json:"observedGeneration,omitempty"`
	State              PolicyModuleState   `json:"state,omitempty"`
	Message            string              `json:"message,omitempty"`
	Digest             string              `json:"digest,omitempty"`
	ABI                string              `json:"abi,omitempty"`
	Size               int64               `json:"size,omitempty"`
	Toolchain          string              `json:"toolchain,omitempty"`
	Upload             *PolicyModuleUpload `json:"upload,omitempty"`
	Conditions         []metav1.Condition  `json:"conditions,omitempty"`
}

// SwaggerDoc is what `kubectl explain` says.
func (PolicyModuleStatus) SwaggerDoc() map[string]string {
	return map[string]string{
		"":                   "PolicyModuleStatus is what a module is, as the member that leads has found.",
		"observedGeneration": "The generation of the module that this is about. An upload is a new generation.",
		"state":              "Pending (there are no bytes yet), Compiling, Ready or Failed. While it is Compiling or Failed, policies go on with the previous bytes.",
		"message":            "Why it is not Ready.",
		"digest":             "Of the bytes in use.",
		"abi":                "How the module is spoken to: pintle/v1, or the name of an adapter.",
		"size":               "Of the bytes in use.",
		"toolchain":          "What made it, as far as it says.",
		"upload":             "What was uploaded.",
		"conditions":         "Ready says whether the newest bytes are in use.",
	}
}

// PolicyModuleUpload is what lies beside the object. It changes with each upload, and only then.
type PolicyModuleUpload struct {
	ID     string `json:"id"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// SwaggerDoc is what `kubectl explain` says.
func (PolicyModuleUpload) SwaggerDoc() map[string]string {
	return map[string]string{
		"":       "PolicyModuleUpload is what was uploaded last.",
		"id":     "Of the upload, another one each time.",
		"digest": "Of its bytes.",
		"size":   "Of its bytes.",
	}
}

// PolicyModuleList is a list of PolicyModules.
type PolicyModuleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []PolicyModule `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (m *PolicyModule) DeepCopyObject() runtime.Object {
	if m == nil {
		return nil
	}
	out := *m
	m.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Source.Inline = bytes.Clone(m.Spec.Source.Inline)
	if m.Status.Upload != nil {
		out.Status.Upload = ptr(*m.Status.Upload)
	}
	out.Status.Conditions = copyConditions(m.Status.Conditions)
	return &out
}

// DeepCopyObject implements runtime.Object.
func (l *PolicyModuleList) DeepCopyObject() runtime.Object {
	if l == nil {
		return nil
	}
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	if l.Items != nil {
		out.Items = make([]PolicyModule, len(l.Items))
		for i := range l.Items {
			out.Items[i] = *l.Items[i].DeepCopyObject().(*PolicyModule)
		}
	}
	return &out
}

func policyModuleKind() *Kind {
	return &Kind{
		GroupVersionKind: PolicyGroupVersion().WithKind("PolicyModule"),
		Resource:         "policymodules", Singular: "policymodule", ShortNames: []string{"pmod"},
		New:     func() Object { return &PolicyModule{} },
		NewList: func() runtime.Object { return &PolicyModuleList{} },
		PrepareCreate: of(func(m *PolicyModule) {
			m.Generation, m.Status = 1, PolicyModuleStatus{}
		}),
		PrepareUpdate: pair(func(m, old *PolicyModule) {
			m.Status = old.Status
			if !m.Spec.Source.uploaded() {
				m.Status.Upload = nil // it is no longer wanted, and goes
			}
			bump(m, old, m.Spec, old.Spec)
		}),
		Validate: check(validatePolicyModule),
		Status: &Status{
			PrepareUpdate: pair(func(m, old *PolicyModule) {
				m.Spec, m.Generation, m.Status.Upload = old.Spec, old.Generation, old.Status.Upload
			}),
			ValidateUpdate: checkPair(func(m, _ *PolicyModule) (errs field.ErrorList) {
				if s := m.Status.State; s != "" {
					errs = oneOf(s, []PolicyModuleState{ModulePending, ModuleCompiling, ModuleReady, ModuleFailed}, field.NewPath("status", "state"))
				}
				return append(errs, nonNegative(m.Status.Size, field.NewPath("status", "size"))...)
			}),
		},
		Bytes: &Bytes{
			Subresource: "wasm", MediaType: "application/wasm", Max: MaxPolicyModule,
			Stored: func(o Object) (Stored, bool) {
				u := o.(*PolicyModule).Status.Upload
				if u == nil {
					return Stored{}, false
				}
				return Stored{ID: u.ID, Digest: u.Digest, Size: u.Size}, true
			},
			Put: func(o Object, s Stored) {
				m := o.(*PolicyModule)
				m.Status.Upload = &PolicyModuleUpload{ID: s.ID, Digest: s.Digest, Size: s.Size}
				m.Generation++
			},
			Validate: validateUpload,
		},
		Columns: []metav1.TableColumnDefinition{nameColumn(),
			column("Source", "Where it comes from", 0), column("State", "Whether it can be used", 0), column("ABI", "How it is spoken to", 0),
			column("Size", "Of the bytes in use", 0), ageColumn(),
			column("Digest", "Of the bytes in use", 1), column("Toolchain", "What made it", 1), column("Message", "Why it is not ready", 1)},
		Row: row(func(m *PolicyModule) []any {
			source, state, size := "Upload", string(m.Status.State), "<none>"
			switch s := &m.Spec.Source; {
			case len(s.Inline) > 0:
				source = "Inline"
			case s.Image != "":
				source = "Image"
			case s.Embedded != "":
				source = "Embedded"
			}
			if state == "" {
				state = string(ModulePending)
			}
			if m.Status.Size > 0 {
				size = byteCell(m.Status.Size)
			}
			return []any{m.Name, source, state, orNone(m.Status.ABI), size, m.CreationTimestamp,
				shortDigest(m.Status.Digest), orNone(m.Status.Toolchain), m.Status.Message}
		}),
	}
}

// wasmMagic begins every module.
const wasmMagic = "\x00asm"

func validatePolicyModule(m *PolicyModule) (errs field.ErrorList) {
	s, at := &m.Spec.Source, field.NewPath("spec", "source")
	var given []string
	for _, source := range []struct {
		name string
		set  bool
	}{{"inline", len(s.Inline) > 0}, {"image", s.Image != ""}, {"embedded", s.Embedded != ""}} {
		if source.set {
			given = append(given, source.name)
		}
	}
	if len(given) > 1 {
		errs = append(errs, field.Forbidden(at.Child(given[1]), "may not be set beside "+given[0]+": a module has one source"))
	}
	switch {
	case len(s.Inline) > MaxInlineModule:
		errs = append(errs, field.TooLong(at.Child("inline"), "", MaxInlineModule))
	case len(s.Inline) > 0 && !bytes.HasPrefix(s.Inline, []byte(wasmMagic)):
		errs = append(errs, field.Invalid(at.Child("inline"), fmt.Sprintf("%d bytes", len(s.Inline)), "is no WebAssembly module in base64"))
	}
	if s.Image != "" && (strings.ContainsAny(s.Image, " \t\r\n") || len(s.Image) > 512) {
		errs = append(errs, field.Invalid(at.Child("image"), s.Image, "must be the name of an image"))
	}
	if s.Embedded != "" && (!fs.ValidPath(s.Embedded) || s.Embedded == ".") {
		errs = append(errs, field.Invalid(at.Child("embedded"), s.Embedded, "must be a file's path with slashes, without a first one and without .."))
	}
	if d := m.Spec.Digest; d != "" && !isDigest(d) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "digest"), d, "must be sha256: and 64 hexadecimal digits in lower case"))
	}
	return errs
}

func isDigest(s string) bool {
	digits, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}

// validateUpload refuses bytes that the module's spec doesn't want.
func validateUpload(o Object, data []byte, s Stored) (errs field.ErrorList) {
	m := o.(*PolicyModule)
	if !m.Spec.Source.uploaded() {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "source"), "names where the module comes from: clear it before you upload"))
	}
	if !bytes.HasPrefix(data, []byte(wasmMagic)) {
		errs = append(errs, field.Invalid(field.NewPath("wasm"), fmt.Sprintf("%d bytes", s.Size), "is no WebAssembly module: send the file itself"))
	}
	if want := m.Spec.Digest; want != "" && want != s.Digest {
		errs = append(errs, field.Invalid(field.NewPath("wasm"), s.Digest, "spec.digest asks for "+want))
	}
	return errs
}

func byteCell(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1fMi", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1fKi", float64(n)/(1<<10))
	}
	return fmt.Sprint(n)
}
