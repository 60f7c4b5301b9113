package appliance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/containerd"
)

// engines are what runs this appliance's containers, the default first.
type engines struct {
	all        []runtime.Engine
	containerd *containerd.Engine // nil without
	choice     string             // one line: what was chosen and why
}

func chooseEngines(cfg Config) (*engines, error) {
	if cfg.Engine == Wasm {
		return nil, errors.New("appliance: Config.Engine: this version has no wasm engine: leave it empty and run as root on Linux with containerd")
	}
	containerdEngine, err := containerd.New(containerd.Config{
		Name: cfg.Name, DataDir: filepath.Join(cfg.DataDir, "containerd"), Address: cfg.ContainerdAddress,
		PodCIDR: cfg.PodCIDR, Logger: cfg.Logger.With("part", "containerd"),
	})
	switch {
	case err == nil:
		why := "a private containerd"
		if cfg.ContainerdAddress != "" {
			why = "the containerd at " + cfg.ContainerdAddress
		}
		return &engines{all: []runtime.Engine{containerdEngine}, containerd: containerdEngine,
			choice: "real containers on " + why + ", and nftables"}, nil
	default:
		return nil, fmt.Errorf("appliance: containers can't run here: %w", err)
	}
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
