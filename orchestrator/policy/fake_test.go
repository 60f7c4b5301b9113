package policy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/pintle/pintle/policies/abi"
)

// fakeHost runs modules that are text: what a policy does is said by its module's bytes, after the magic, and by its
// settings. It keeps to the contract of Host.
type fakeHost struct {
	mu       sync.Mutex // guards what follows
	modules  map[string]string
	policies map[policyKey]*fakePolicy
	loads    int
	gate     chan struct{} // Load waits for it; nil: doesn't

	admit func(policy string, module string, settings string, req *abi.AdmissionRequest) (*abi.AdmissionResponse, error)
	place func(policy string, p *abi.Placement) error
}

type fakePolicy struct {
	spec   abi.Policy
	module string
	status abi.Status
}

func newFakeHost() *fakeHost {
	return &fakeHost{modules: map[string]string{}, policies: map[policyKey]*fakePolicy{}}
}

// wasm is a module that says text.
func wasm(text string) []byte { return []byte("\x00asm" + text) }

func (h *fakeHost) Load(ctx context.Context, name string, bytes []byte) (abi.Module, error) {
	h.mu.Lock()
	gate := h.gate
	h.loads++
	h.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return abi.Module{}, context.Cause(ctx)
		}
	}
	text := strings.TrimPrefix(string(bytes), "\x00asm")
	if strings.Contains(text, "broken") {
		return abi.Module{}, errors.New("it does not compile")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.policies {
		if p.spec.Module == name && refuses(text, p.spec) {
			return abi.Module{}, errors.New("its settings are refused")
		}
	}
	for _, p := range h.policies {
		if p.spec.Module == name {
			p.module = text
		}
	}
	h.modules[name] = text
	sum := sha256.Sum256(bytes)
	return abi.Module{Name: name, Digest: "sha256:" + hex.EncodeToString(sum[:]), ABI: "fake", Size: len(bytes), Toolchain: "pen"}, nil
}

// refuses: a module that says "strict" takes no settings with "odd" in them.
func refuses(module string, p abi.Policy) bool {
	return strings.Contains(module, "strict") && strings.Contains(string(p.Settings), "odd")
}

func (h *fakeHost) Unload(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.modules, name)
}

func (h *fakeHost) Set(_ context.Context, p abi.Policy) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	module, ok := h.modules[p.Module]
	if !ok {
		return errors.New("there is no such module")
	}
	if refuses(module, p) {
		return errors.New("its settings are refused")
	}
	key := policyKey{p.Kind, p.Name}
	if h.policies[key] == nil {
		h.policies[key] = &fakePolicy{}
	}
	h.policies[key].spec, h.policies[key].module = p, module
	return nil
}

func (h *fakeHost) Remove(kind abi.Kind, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.policies, policyKey{kind, name})
}

func (h *fakeHost) find(kind abi.Kind, name string) (*fakePolicy, fakePolicy, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.policies[policyKey{kind, name}]
	if p == nil {
		return nil, fakePolicy{}, fmt.Errorf("no such policy: %s", name)
	}
	p.status.Calls++
	return p, *p, nil
}

func (h *fakeHost) Admit(_ context.Context, name string, req *abi.AdmissionRequest) (*abi.AdmissionResponse, abi.Spent, error) {
	p, seen, err := h.find(abi.Admission, name)
	if err != nil {
		return nil, abi.Spent{}, err
	}
	resp, err := h.admit(name, seen.module, string(seen.spec.Settings), req)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		p.status.Errors++
	} else if !resp.Allowed {
		p.status.Rejections++
	}
	return resp, abi.Spent{}, err
}

func (h *fakeHost) Place(_ context.Context, name string, p *abi.Placement) (abi.Spent, error) {
	if _, _, err := h.find(abi.Scheduling, name); err != nil {
		return abi.Spent{}, err
	}
	p.Reset()
	return abi.Spent{}, h.place(name, p)
}

func (h *fakeHost) QueueKey(_ context.Context, name string, pod *abi.Pod) (int64, abi.Spent, error) {
	_, _, err := h.find(abi.Scheduling, name)
	return int64(len(pod.Name)), abi.Spent{}, err
}

func (h *fakeHost) Permit(_ context.Context, name string, _ *abi.PermitRequest) (*abi.PermitResponse, abi.Spent, error) {
	_, seen, err := h.find(abi.Scheduling, name)
	if strings.Contains(seen.module, "deny") {
		return &abi.PermitResponse{Decision: abi.Deny, Reason: "no"}, abi.Spent{}, nil
	}
	return &abi.PermitResponse{}, abi.Spent{}, err
}

func (h *fakeHost) PostFilter(_ context.Context, name string, _ *abi.PostFilterRequest) (*abi.PostFilterResponse, abi.Spent, error) {
	_, _, err := h.find(abi.Scheduling, name)
	return &abi.PostFilterResponse{Message: "buy a node", Nominate: "n1"}, abi.Spent{}, err
}

func (h *fakeHost) Status(kind abi.Kind, name string) abi.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.policies[policyKey{kind, name}]
	if p == nil {
		return abi.Status{}
	}
	s := p.status
	sum := sha256.Sum256(wasm(p.module))
	s.Ready, s.Digest = true, "sha256:"+hex.EncodeToString(sum[:])
	if kind == abi.Scheduling {
		if s.Hooks = p.spec.Hooks; s.Hooks == nil {
			s.Hooks = []string{hookPlace, hookQueueSort, hookPermit, hookPostFilter}
		}
	}
	return s
}

func (h *fakeHost) empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.modules) == 0 && len(h.policies) == 0
}
