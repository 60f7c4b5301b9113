package appliance

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/containerd"
	"github.com/pintle/pintle/runtime/wasm"
)

// engines are what runs this appliance's containers, the default first.
type engines struct {
	all        []runtime.Engine
	containerd *containerd.Engine // nil without
	choice     string             // one line: what was chosen and why
}

func chooseEngines(cfg Config) (*engines, error) {
	wasmEngine, err := wasm.New(wasm.Config{DataDir: filepath.Join(cfg.DataDir, "wasm"), Logger: cfg.Logger.With("part", "wasm")})
	if err != nil {
		return nil, fmt.Errorf("appliance: %w", err)
	}
	if cfg.Engine == Wasm {
		return &engines{all: []runtime.Engine{wasmEngine}, choice: "WASI pods in process and a user-space proxy, because Config.Engine says wasm"}, nil
	}
	containerdEngine, err := containerd.New(containerd.Config{
		Name: cfg.host, DataDir: filepath.Join(cfg.DataDir, "containerd"), Address: cfg.ContainerdAddress,
		PodCIDR: cfg.PodCIDR, ClusterCIDR: clusterPods(cfg.PodCIDR), Logger: cfg.Logger.With("part", "containerd"),
	})
	switch {
	case err == nil:
		why := "a private containerd"
		if cfg.ContainerdAddress != "" {
			why = "the containerd at " + cfg.ContainerdAddress
		}
		return &engines{all: []runtime.Engine{containerdEngine, wasmEngine}, containerd: containerdEngine,
			choice: "real containers on " + why + ", and nftables"}, nil
	case cfg.Engine == Containerd:
		return nil, fmt.Errorf("appliance: %w", err)
	}
	return &engines{all: []runtime.Engine{wasmEngine}, choice: fmt.Sprintf("WASI pods in process and a user-space proxy, because containers can't run here: %v", err)}, nil
}

func (e *engines) wasmOnly() bool { return e.containerd == nil }

// named returns the engine of that name.
func (e *engines) named(name string) (runtime.Engine, error) {
	for _, engine := range e.all {
		if engine.Name() == name {
			return engine, nil
		}
	}
	return nil, fmt.Errorf("appliance: there is no engine %q here", name)
}

func (e *engines) teardown(ctx context.Context) error {
	if e.containerd == nil {
		return nil
	}
	return e.containerd.Teardown(ctx)
}
