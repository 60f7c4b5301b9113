package kubescheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// Config says what modules may reach. The zero value reaches nothing.
type Config struct {
	// Events takes the events that guests record, if set. One event of one pod's placing may be recorded several
	// times by a guest and is given once.
	Events func(ctx context.Context, e Event)

	LogSeverity int          // what guests log at all, klog's: 0 info, 1 warning, 2 error, 3 fatal
	Logger      *slog.Logger // nil discards
}

// Event is what a guest hands to its event recorder.
type Event struct {
	Regarding Reference `json:"RegardingReference"`
	Related   Reference `json:"RelatedReference"`
	Type      string    `json:"Eventtype"`
	Reason    string
	Action    string
	Note      string
}

// Reference names an object.
type Reference struct{ Kind, APIVersion, Name, Namespace, UID, ResourceVersion string }

// Adapter runs guests of kube-scheduler-wasm-extension.
type Adapter struct{ cfg Config }

// New makes an adapter.
func New(cfg Config) *Adapter {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Adapter{cfg}
}

// Name is what a module's status shows as its ABI.
func (a *Adapter) Name() string { return "kube-scheduler" }

// points are the extension points, by export, with the type of their result; 0: none.
var points = map[string]guest.ValueType{
	"enqueue": 0, "prefilter": guest.I32, "addpod": guest.I32, "removepod": guest.I32, "filter": guest.I32,
	"postfilter": guest.I64, "prescore": guest.I32, "score": guest.I64, "normalizescore": guest.I32,
	"reserve": guest.I32, "unreserve": 0, "permit": guest.I64, "prebind": guest.I32, "bind": guest.I32, "postbind": 0,
}

// Detect knows the guests by their imports, or by an extension point that they export.
func (a *Adapter) Detect(m *guest.Info) bool {
	if m.ImportsFrom(moduleAPI) || m.ImportsFrom(moduleScheduler) || m.ImportsFrom(moduleKlog) {
		return true
	}
	for name, result := range points {
		if e, ok := m.Export(name); ok && fits(e, result) {
			return true
		}
	}
	return false
}

func fits(e guest.Extern, result guest.ValueType) bool {
	if e.Kind != "func" || len(e.Params) != 0 {
		return false
	}
	if result == 0 {
		return len(e.Results) == 0
	}
	return slices.Equal(e.Results, []guest.ValueType{result})
}

// exported is the set of extension points that a module has.
func exported(m *guest.Info) (map[string]bool, error) {
	has := map[string]bool{}
	for name, result := range points {
		e, ok := m.Export(name)
		if !ok || e.Kind != "func" {
			continue
		}
		if !fits(e, result) {
			return nil, fmt.Errorf("the module exports %s with another type than the extension point's", name)
		}
		has[name] = true
	}
	switch {
	case len(has) == 0:
		return nil, errors.New("the module exports no extension point")
	case (has["prescore"] || has["normalizescore"]) && !has["score"]:
		return nil, errors.New("the module exports prescore or normalizescore, but no score")
	}
	return has, nil
}

// Admission is nothing that these guests have an ABI for.
func (a *Adapter) Admission(context.Context, *guest.Module, abi.Policy) (guest.Admitter, error) {
	return nil, errors.New("a guest of kube-scheduler's takes part in scheduling only")
}

// Scheduling prepares a policy. The settings are the guest's configuration: as they are, or the content of a JSON
// string.
func (a *Adapter) Scheduling(ctx context.Context, m *guest.Module, p abi.Policy) (guest.Placer, error) {
	has, err := exported(m.Info)
	if err != nil {
		return nil, err
	}
	e := &evaluator{adapter: a, policy: p.Name, has: has, config: p.Settings, single: single}
	e.later = len(e.Hooks()) > 1
	if s := ""; json.Unmarshal(p.Settings, &s) == nil {
		e.config = []byte(s)
	}
	if string(e.config) == "null" {
		e.config = nil
	}
	if p.Limits.Fuel == 0 {
		p.Limits.Fuel = defaultFuel
	}
	if p.Limits.Timeout == 0 {
		p.Limits.Timeout = defaultTimeout
	}
	if e.pool, err = m.NewPool(guest.PoolConfig{Limits: p.Limits, Init: e.start}); err != nil {
		return nil, err
	}
	if err := e.pool.Warm(ctx); err != nil {
		return nil, errors.Join(err, e.pool.Close(ctx))
	}
	return e, nil
}

// Limits where the policy object says nothing. These guests spend 10 to 100 thousand instructions on a node, and the
// SDK spends 100 times the square of their number when prescore reads the list of filtered nodes: this is enough for
// 5,000.
const (
	defaultFuel    = 4_000_000_000
	defaultTimeout = 5 * time.Second
)

// startMemory is what a guest begins with, in bytes: TinyGo takes all that there is for its heap, and a heap that
// begins small is collected over and over.
const startMemory = 1 << 20

// start runs the guest's main. Some exit from it, and are called afterwards all the same.
func (e *evaluator) start(ctx context.Context, in *guest.Instance) error {
	in.State = &cycle{e: e}
	_ = in.GrowMemory(startMemory) // a module may have a maximum of its own
	for _, name := range []string{"_start", "_initialize"} {
		if !in.Exports(name) {
			continue
		}
		_, err := in.Call(ctx, name)
		if exit := new(guest.Exit); err != nil && (!errors.As(err, &exit) || exit.Code != 0) {
			return fmt.Errorf("%s: %w", name, err)
		}
		break
	}
	if e.has["enqueue"] { // what makes pods worth another try is the scheduler's to know; the guest may set up here
		if _, err := in.Call(ctx, "enqueue"); err != nil {
			return fmt.Errorf("enqueue: %w", err)
		}
	}
	return nil
}
