package opa

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/compat/internal/cluster"
	"github.com/pintle/pintle/policies/guest"
)

// Resource is a resource of the API with its kind.
type Resource = cluster.Resource

// Builtin is a function of Rego's: its arguments and its result are Rego terms as text (JSON, and sets as {1, 2}).
// No result is undefined; an error makes the expression undefined.
type Builtin = func(ctx context.Context, args [][]byte) ([]byte, error)

// Config says what modules may reach. The zero value reaches nothing.
type Config struct {
	// Builtins gives the functions that the adapter doesn't have itself, by OPA's names; nil where there is none.
	// The module policies/compat/opa/builtins has all of OPA's.
	Builtins func(name string) Builtin

	// Lookup reads cluster objects for policies that are granted them: policies.Config's.
	Lookup func(ctx context.Context, name string) ([]byte, error)

	Clock  func() time.Time // for time.now_ns, which needs the capability "clock"; nil: time.Now
	Logger *slog.Logger     // print and trace; nil discards
}

// Adapter runs modules that "opa build -t wasm" made.
type Adapter struct {
	cfg   Config
	table map[string]builtin
}

// New makes an adapter.
func New(cfg Config) *Adapter {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Adapter{cfg: cfg, table: tables()}
}

// Name is what a module's status shows as its ABI.
func (a *Adapter) Name() string { return "opa" }

// Detect knows OPA's modules by their exports.
func (a *Adapter) Detect(m *guest.Info) bool {
	for _, name := range []string{"builtins", "entrypoints", "opa_malloc", "opa_json_dump"} {
		if e, ok := m.Export(name); !ok || e.Kind != "func" {
			return false
		}
	}
	return true
}

// Mode is how a module is asked, and how its answer is read.
type Mode string

const (
	// Review: the input is {"request": …}, the settings are data, and the answer is an AdmissionReview's
	// {"response": …}; an answer that is a boolean, or a list of reasons to refuse, is taken too.
	Review Mode = "opa"
	// Gatekeeper: the input is {"parameters": settings, "review": request}, and the answer is a list of violations.
	Gatekeeper Mode = "gatekeeper"
)

const metadataSection = "io.kubewarden.metadata"

// modeOf reads Kubewarden's metadata; "" says that there is none.
func modeOf(m *guest.Info) (Mode, error) {
	section, ok := m.CustomSection(metadataSection)
	if !ok {
		return "", nil
	}
	var meta struct {
		ExecutionMode Mode `json:"executionMode"`
	}
	if err := json.Unmarshal(section, &meta); err != nil {
		return "", fmt.Errorf("section %s: %w", metadataSection, err)
	}
	if meta.ExecutionMode != Review && meta.ExecutionMode != Gatekeeper {
		return "", fmt.Errorf("section %s: executionMode is %q, and the module is one of OPA's: it must be opa or gatekeeper",
			metadataSection, meta.ExecutionMode)
	}
	return meta.ExecutionMode, nil
}

// Admission prepares a policy: it loads the settings into an instance and finds what the module needs of its host.
func (a *Adapter) Admission(ctx context.Context, m *guest.Module, p abi.Policy) (guest.Admitter, error) {
	mode, err := modeOf(m.Info)
	if err != nil {
		return nil, err
	}
	settings, err := objectSettings(p.Settings)
	if err != nil {
		return nil, err
	}
	_, oneCall := m.Export("opa_eval")
	e := &evaluator{
		adapter: a, policy: p.Name, mode: mode, settings: settings, oneCall: oneCall,
		clock:  slices.Contains(p.Capabilities, "clock"),
		reader: cluster.Reader{Lookup: a.cfg.Lookup, Capabilities: p.Capabilities},
	}
	e.granted = e.reader.Granted()
	if e.pool, err = m.NewPool(guest.PoolConfig{Limits: p.Limits, Init: e.init}); err != nil {
		return nil, err
	}
	if err := e.pool.Warm(ctx); err != nil {
		return nil, errors.Join(err, e.pool.Close(ctx))
	}
	return e, nil
}

// Scheduling is nothing that Rego modules have an ABI for.
func (a *Adapter) Scheduling(context.Context, *guest.Module, abi.Policy) (guest.Placer, error) {
	return nil, fmt.Errorf("a module of OPA's takes part in admission only")
}

// objectSettings is a JSON object: {} where there are none.
func objectSettings(settings []byte) ([]byte, error) {
	s := strings.TrimSpace(string(settings))
	if s == "" || s == "null" {
		return []byte("{}"), nil
	}
	if s[0] != '{' || !json.Valid([]byte(s)) {
		return nil, fmt.Errorf("settings must be a JSON object")
	}
	return []byte(s), nil
}
