package guest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero/api"
)

// ValueType is the type of a parameter or a result, encoded as WebAssembly does.
type ValueType = byte

const (
	I32       ValueType = 0x7f
	I64       ValueType = 0x7e
	F32       ValueType = 0x7d // in a stack slot: math.Float32bits
	F64       ValueType = 0x7c // math.Float64bits
	V128      ValueType = 0x7b // takes two slots
	FuncRef   ValueType = 0x70
	ExternRef ValueType = 0x6f
)

// HostModule is a set of functions that guests may import.
type HostModule struct {
	Name  string
	Funcs []HostFunc
}

// HostFunc is one of them.
type HostFunc struct {
	Name    string
	Params  []ValueType
	Results []ValueType

	// Call finds the parameters in stack and puts the results there, from index 0; an i32 is the low half of
	// a slot. It must return soon after ctx has ended. An error ends the guest's call with just that error, and its
	// instance with it. Each call counts against Limits.HostCalls before it is made; work that depends on what
	// the guest asks for should be charged with Instance.Charge. It must not keep memory of the guest.
	Call func(ctx context.Context, in *Instance, stack []uint64) error
}

// hostError carries the error of a host function through wazero.
type hostError struct{ err error }

func (e *hostError) Error() string { return e.err.Error() }
func (e *hostError) Unwrap() error { return e.err }

// wrap counts, and ends the guest's call with the error. A panic is how a function of wazero's host traps.
func (f HostFunc) wrap() api.GoModuleFunc {
	return func(ctx context.Context, _ api.Module, stack []uint64) {
		in := instanceOf(ctx)
		if err := in.enterHost(); err != nil {
			panic(&hostError{err})
		}
		if err := f.Call(ctx, in, stack); err != nil {
			panic(&hostError{err})
		}
	}
}

// link picks the host functions that a module imports. It refuses what nobody offers, all of it at once.
func link(info *Info, hosts []HostModule) ([]HostModule, error) {
	offered := map[string]map[string]HostFunc{}
	for _, h := range append([]HostModule{wasi()}, hosts...) {
		if offered[h.Name] == nil {
			offered[h.Name] = map[string]HostFunc{}
		}
		for _, f := range h.Funcs {
			offered[h.Name][f.Name] = f // the later wins: a caller may replace functions of WASI
		}
	}
	var linked []HostModule
	var unknown []string
	seen := map[string]bool{}
	for _, e := range info.Imports {
		name := e.Module + "." + e.Name
		if e.Kind == "memory" {
			continue // it gets one of its own
		}
		f, ok := offered[e.Module][e.Name]
		switch {
		case e.Kind != "func":
			unknown = append(unknown, e.Kind+" "+name)
		case !ok:
			unknown = append(unknown, name)
		case !slices.Equal(f.Params, e.Params) || !slices.Equal(f.Results, e.Results):
			unknown = append(unknown, fmt.Sprintf("%s with type %s (the host's is %s)", name, signature(e.Params, e.Results), signature(f.Params, f.Results)))
		case !seen[name]:
			seen[name] = true
			i := slices.IndexFunc(linked, func(h HostModule) bool { return h.Name == e.Module })
			if i < 0 {
				i = len(linked)
				linked = append(linked, HostModule{Name: e.Module})
			}
			linked[i].Funcs = append(linked[i].Funcs, f)
		}
	}
	if len(unknown) > 0 {
		return nil, &Refused{fmt.Errorf("it imports what this host doesn't offer: %s", strings.Join(unknown, ", "))}
	}
	return linked, nil
}

func signature(params, results []ValueType) string {
	names := func(types []ValueType) string {
		var s []string
		for _, t := range types {
			s = append(s, typeName(t))
		}
		return strings.Join(s, ", ")
	}
	return "(" + names(params) + ") → (" + names(results) + ")"
}

func typeName(t ValueType) string {
	switch t {
	case I32:
		return "i32"
	case I64:
		return "i64"
	case F32:
		return "f32"
	case F64:
		return "f64"
	case V128:
		return "v128"
	case FuncRef:
		return "funcref"
	case ExternRef:
		return "externref"
	}
	return fmt.Sprintf("%#x", t)
}
