package policies

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// module is one version of a module. It is closed when nobody holds it: the name that it was loaded under, and the
// policies that run it.
type module struct {
	*guest.Module
	info    abi.Module
	adapter Adapter
	holders atomic.Int32
}

func (m *module) hold() *module { m.holders.Add(1); return m }

func (m *module) release(ctx context.Context) error {
	if m.holders.Add(-1) > 0 {
		return nil
	}
	return m.Close(ctx)
}

// Load gives the host a module under a name, or a new version of it. It compiles while calls go on, then swaps every
// policy that uses the name to the new version, between calls. If one of them can't run it, because the module is no
// good or refuses its settings, an error says so and all of them keep the version that they have.
func (h *Host) Load(ctx context.Context, name string, wasm []byte) (abi.Module, error) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return abi.Module{}, ErrClosed
	}
	h.tickets[name]++
	ticket := h.tickets[name]
	h.mu.Unlock()

	next, err := h.compile(ctx, name, wasm)
	if err != nil {
		return abi.Module{}, fmt.Errorf("module %s: %w", name, err)
	}
	next.hold()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.install(ctx, name, ticket, next); err != nil {
		return abi.Module{}, errors.Join(fmt.Errorf("module %s: %w", name, err), next.release(context.WithoutCancel(ctx)))
	}
	h.log.Info("module loaded", "module", name, "digest", next.info.Digest, "abi", next.info.ABI, "compile", next.info.Compile)
	return next.info, nil
}

func (h *Host) compile(ctx context.Context, name string, wasm []byte) (*module, error) {
	info, err := guest.Inspect(wasm)
	if err != nil {
		return nil, err
	}
	for _, a := range h.adapters {
		if !a.Detect(info) {
			continue
		}
		compiled, err := h.runtime.Compile(ctx, wasm, a.Hosts(info))
		if err != nil {
			return nil, fmt.Errorf("(ABI %s): %w", a.Name(), err)
		}
		if c, ok := a.(checker); ok {
			if err := c.Check(ctx, compiled); err != nil {
				return nil, errors.Join(err, compiled.Close(context.WithoutCancel(ctx)))
			}
		}
		return &module{Module: compiled, adapter: a, info: abi.Module{Name: name, Digest: info.Digest, ABI: a.Name(),
			Size: info.Size, Toolchain: info.Toolchain, Compile: compiled.CompileTime}}, nil
	}
	return nil, ErrUnknownABI
}

// install makes the policies that use the name run next: all of those that run now, or none. h.mu is held.
func (h *Host) install(ctx context.Context, name string, ticket uint64, next *module) error {
	if h.closed {
		return ErrClosed
	}
	if h.settled[name] > ticket {
		return ErrSuperseded
	}
	made := map[*policy]*running{}
	for _, p := range *h.policies.Load() {
		r, err := h.startOn(ctx, p, name, next)
		if err != nil {
			for _, r := range made {
				h.retire(r)
			}
			p.blame("ModuleRefused", fmt.Sprintf("module %s: %v", next.info.Digest, err))
			return fmt.Errorf("policy %s: %w", p.spec.Name, err)
		}
		if r != nil {
			made[p] = r
		}
	}
	for p, r := range made {
		h.swap(p, r)
	}
	old := h.modules[name]
	h.modules[name], h.settled[name] = next, ticket
	if old != nil {
		h.log.Info("module replaced", "module", name, "before", old.info.Digest, "policies", len(made))
		h.retiring.Go(func() { h.closing(old.release(context.Background())) })
	}
	return nil
}

// startOn makes a policy that uses the name run next: as it was set last, or else as it runs now. Nil and no error if it
// doesn't use the name, or doesn't run yet and can't.
func (h *Host) startOn(ctx context.Context, p *policy, name string, next *module) (*running, error) {
	now := p.current.Load()
	var refused error
	if p.spec.Module == name {
		r, err := h.start(ctx, p.spec, next)
		if err == nil {
			return r, nil
		}
		refused = err
	}
	switch {
	case now != nil && now.spec.Module == name && now.spec == p.spec:
		return nil, refused
	case now != nil && now.spec.Module == name:
		return h.start(ctx, now.spec, next)
	case refused != nil:
		p.blame("Refused", refused.Error())
	}
	return nil, nil
}

// Unload forgets a module. Policies that use it go on with it until they are removed or given another.
func (h *Host) Unload(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tickets[name]++ // a Load that runs now is overtaken
	h.settled[name] = h.tickets[name]
	if m := h.modules[name]; m != nil {
		delete(h.modules, name)
		h.retiring.Go(func() { h.closing(m.release(context.Background())) })
	}
}

// Module says what is loaded under a name.
func (h *Host) Module(name string) (abi.Module, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.modules[name]
	if m == nil {
		return abi.Module{}, false
	}
	return m.info, true
}

func (h *Host) closing(err error) {
	if err != nil {
		h.log.Error("a module that is no longer used wasn't freed", "error", err)
	}
}
