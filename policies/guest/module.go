package guest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/pintle/pintle/policies/guest/internal/meter"
)

// Info is what a module's bytes say about it. It is read-only.
type Info struct {
	Digest    string // "sha256:" and hex, of the bytes that were given
	Size      int    // bytes
	Exports   []Extern
	Imports   []Extern
	Toolchain string // what made it, as its producers section says; "" where it says nothing
	MinMemory uint64 // bytes that an instance begins with

	sections map[string][]byte
	starts   bool // has a start function
}

// Extern is something that a module exports or imports.
type Extern struct {
	Module  string // of an import
	Name    string
	Kind    string      // "func", "memory", "table" or "global"
	Params  []ValueType // of a function
	Results []ValueType
}

// Inspect reads what a module is, without compiling it. An error is a *Refused.
func Inspect(wasm []byte) (*Info, error) {
	_, info, err := inspect(wasm, false)
	return info, err
}

// CustomSection returns the content of the first custom section of that name. It must not be changed.
func (i *Info) CustomSection(name string) ([]byte, bool) {
	b, ok := i.sections[name]
	return b, ok
}

// Export returns what the module exports under a name.
func (i *Info) Export(name string) (Extern, bool) {
	for _, e := range i.Exports {
		if e.Name == name {
			return e, true
		}
	}
	return Extern{}, false
}

// ImportsFrom says whether the module imports anything from a host module.
func (i *Info) ImportsFrom(module string) bool {
	for _, e := range i.Imports {
		if e.Module == module {
			return true
		}
	}
	return false
}

func newInfo(wasm []byte, p *meter.Module) *Info {
	sum := sha256.Sum256(wasm)
	i := &Info{
		Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: len(wasm),
		MinMemory: uint64(p.MinPages) << 16, starts: p.Starts, sections: map[string][]byte{},
	}
	extern := func(e meter.Extern) Extern {
		return Extern{Module: e.Module, Name: e.Name, Kind: e.Kind.String(), Params: e.Params, Results: e.Results}
	}
	for _, e := range p.Imports {
		i.Imports = append(i.Imports, extern(e))
	}
	for _, e := range p.Exports {
		i.Exports = append(i.Exports, extern(e))
	}
	for _, c := range p.Customs {
		if _, ok := i.sections[c.Name]; !ok {
			i.sections[c.Name] = append([]byte(nil), c.Data...)
		}
	}
	i.Toolchain = strings.Join(meter.Producers(i.sections["producers"]), ", ")
	return i
}

// Module is a compiled module.
type Module struct {
	*Info
	CompileTime time.Duration // with the disk cache, the time that it took to read it

	runtime *Runtime
	wazero  wazero.Runtime
	code    []wazero.CompiledModule // of the host functions, and last the guest's

	mu     sync.Mutex
	closed bool
	pools  map[*Pool]struct{}
}

// Close closes the module's pools and frees its code. It waits until its calls have ended, or ctx has: then the code
// is freed by whoever calls Close again.
func (m *Module) Close(ctx context.Context) error {
	m.mu.Lock()
	m.closed = true
	var open []*Pool
	for p := range m.pools {
		open = append(open, p)
	}
	m.mu.Unlock()
	var errs []error
	for _, p := range open {
		errs = append(errs, p.Close(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	m.runtime.mu.Lock()
	_, first := m.runtime.modules[m]
	delete(m.runtime.modules, m)
	m.runtime.mu.Unlock()
	if first {
		m.release(ctx)
	}
	return nil
}

// release gives back what build made.
func (m *Module) release(ctx context.Context) {
	if m.wazero != nil {
		_ = m.wazero.Close(ctx)
	}
	for _, c := range m.code {
		_ = c.Close(ctx)
	}
	m.wazero, m.code = nil, nil
}
