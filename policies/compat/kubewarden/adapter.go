package kubewarden

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/compat/internal/cluster"
	"github.com/pintle/pintle/policies/guest"
)

// Resource is a resource of the API with its kind.
type Resource = cluster.Resource

// Config says what modules may reach. The zero value reaches nothing.
type Config struct {
	// Lookup reads cluster objects for context-aware policies that are granted them: policies.Config's.
	Lookup func(ctx context.Context, name string) ([]byte, error)

	// Kinds finds the resource of a kind that isn't Kubernetes' own: policies ask by kind. nil, or false: its plural
	// is formed by rule, and it lives in a namespace.
	Kinds func(apiVersion, kind string) (Resource, bool)

	// CanI answers kubernetes/can_i: it takes a SubjectAccessReview's spec and returns its status, both as JSON.
	// Asked for policies with the capability "kubewarden:can_i". nil: refused.
	CanI func(ctx context.Context, spec []byte) ([]byte, error)

	// Host answers the other host capabilities, "oci", "net" and "crypto", by operation ("v1/manifest_digest").
	// Asked for policies with the capability "kubewarden:oci" and so on. nil: refused.
	Host func(ctx context.Context, namespace, operation string, payload []byte) ([]byte, error)

	Logger *slog.Logger // what policies log; nil discards
}

// Adapter runs Kubewarden's policies: waPC modules, and WASI commands.
type Adapter struct{ cfg Config }

// New makes an adapter.
func New(cfg Config) *Adapter {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Adapter{cfg}
}

// Name is what a module's status shows as its ABI.
func (a *Adapter) Name() string { return "kubewarden" }

// Detect knows waPC modules by their export, and WASI commands by Kubewarden's metadata or its host call. Modules of
// OPA's carry the metadata too; they are the adapter opa's.
func (a *Adapter) Detect(m *guest.Info) bool {
	return isWapc(m) || isCommand(m)
}

func isWapc(m *guest.Info) bool {
	e, ok := m.Export("__guest_call")
	return ok && e.Kind == "func"
}

func isCommand(m *guest.Info) bool {
	if e, ok := m.Export("_start"); !ok || e.Kind != "func" {
		return false
	}
	meta, err := ReadMetadata(m)
	return err == nil && meta != nil && meta.ExecutionMode == "wasi" || m.ImportsFrom("host") || m.ImportsFrom("kubewarden:javy/host")
}

// Metadata is what a policy's author wrote into the module with kwctl annotate.
type Metadata struct {
	ProtocolVersion       string            `json:"protocolVersion"`
	ExecutionMode         string            `json:"executionMode"` // "kubewarden-wapc", "wasi", "opa", "gatekeeper"; empty is the first
	Mutating              bool              `json:"mutating"`
	PolicyType            string            `json:"policyType"` // "kubernetes" or "raw"
	Rules                 []Rule            `json:"rules"`
	ContextAwareResources []Kind            `json:"contextAwareResources"`
	Annotations           map[string]string `json:"annotations"`
}

// Rule is what the policy is to be asked about.
type Rule struct {
	APIGroups   []string `json:"apiGroups"`
	APIVersions []string `json:"apiVersions"`
	Resources   []string `json:"resources"`
	Operations  []string `json:"operations"`
}

// Kind is a kind that the policy wants to read.
type Kind struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// ReadMetadata returns a module's metadata; nil if it has none.
func ReadMetadata(m *guest.Info) (*Metadata, error) {
	const section = "io.kubewarden.metadata"
	b, ok := m.CustomSection(section)
	if !ok {
		return nil, nil
	}
	meta := &Metadata{}
	if err := json.Unmarshal(b, meta); err != nil {
		return nil, fmt.Errorf("section %s: %w", section, err)
	}
	if meta.ExecutionMode == "" {
		meta.ExecutionMode = "kubewarden-wapc"
	}
	return meta, nil
}

// check refuses what a module's metadata rule out.
func (m *Metadata) check(wapc bool) error {
	switch {
	case m == nil:
		return nil
	case wapc && m.ExecutionMode != "kubewarden-wapc", !wapc && m.ExecutionMode != "wasi":
		return fmt.Errorf("the metadata say executionMode %q, which the module's exports don't fit", m.ExecutionMode)
	case wapc && m.ProtocolVersion != "" && !strings.EqualFold(m.ProtocolVersion, "v1"): // a WASI command's is "Unknown"
		return fmt.Errorf("the metadata say protocolVersion %q; v1 is understood", m.ProtocolVersion)
	case m.PolicyType == "raw":
		return errors.New("it is a raw policy: it judges documents of its own, not admission requests")
	}
	return nil
}

// defaultFuel is a policy's where its object says nothing: policies that parse with reflection, and collect garbage,
// spend up to 100 million instructions on a request.
const defaultFuel = 500_000_000

// startMemory is what a module begins with, in bytes: TinyGo takes all that there is for its heap, and a heap that
// begins small is collected over and over.
const startMemory = 1 << 20

// Admission prepares a policy: it checks protocol and metadata, and lets the module validate its settings.
func (a *Adapter) Admission(ctx context.Context, m *guest.Module, p abi.Policy) (guest.Admitter, error) {
	meta, err := ReadMetadata(m.Info)
	if err != nil {
		return nil, err
	}
	wapc := isWapc(m.Info)
	if err := meta.check(wapc); err != nil {
		return nil, err
	}
	settings, err := objectSettings(p.Settings)
	if err != nil {
		return nil, err
	}
	e := &evaluator{
		settings: settings,
		host: hostCalls{
			cfg: &a.cfg, policy: p.Name, capabilities: p.Capabilities,
			reader: cluster.Reader{Lookup: a.cfg.Lookup, Kinds: a.cfg.Kinds, Capabilities: p.Capabilities},
		},
	}
	if p.Limits.Fuel == 0 {
		p.Limits.Fuel = defaultFuel
	}
	cfg := guest.PoolConfig{Limits: p.Limits, Init: e.startWapc}
	e.ask = e.callWapc
	if !wapc {
		cfg.Init, cfg.SingleUse, e.ask = nil, true, e.runCommand
	}
	if e.pool, err = m.NewPool(cfg); err != nil {
		return nil, err
	}
	if err := e.validateSettings(ctx, wapc); err != nil {
		return nil, errors.Join(err, e.pool.Close(ctx))
	}
	return e, nil
}

// Scheduling is nothing that Kubewarden has an ABI for.
func (a *Adapter) Scheduling(context.Context, *guest.Module, abi.Policy) (guest.Placer, error) {
	return nil, errors.New("a module of Kubewarden's takes part in admission only")
}

// objectSettings is a JSON object: {} where there are none.
func objectSettings(settings []byte) ([]byte, error) {
	s := strings.TrimSpace(string(settings))
	if s == "" || s == "null" {
		return []byte("{}"), nil
	}
	if s[0] != '{' || !json.Valid([]byte(s)) {
		return nil, errors.New("settings must be a JSON object")
	}
	return []byte(s), nil
}

func (h *hostCalls) grants(capability string) bool {
	return slices.Contains(h.capabilities, capability)
}
