package appliance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/compat/kubescheduler"
	"github.com/pintle/pintle/policies/compat/kubewarden"
	"github.com/pintle/pintle/policies/compat/opa"
	"github.com/pintle/pintle/runtime"
)

// newPolicies makes the host that runs the control plane's policies. It outlives restarts of the control plane.
func (a *Appliance) newPolicies() (err error) {
	log := a.cfg.Logger.With("part", "policies")
	lookup := func(ctx context.Context, name string) ([]byte, error) { return a.current().Lookup(ctx, name) }
	adapters := a.cfg.PolicyAdapters
	if adapters == nil {
		adapters = []policies.Adapter{
			kubewarden.New(kubewarden.Config{Lookup: lookup, Logger: log}),
			kubescheduler.New(kubescheduler.Config{Logger: log}),
			opa.New(opa.Config{Lookup: lookup, Logger: log}),
		}
	}
	a.policies, err = policies.New(policies.Config{
		CacheDir: filepath.Join(a.cfg.DataDir, "policies"), Adapters: adapters, Lookup: lookup, Logger: log, Metrics: a.metrics.Registerer(),
	})
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	return nil
}

// runPolicies runs it until the function that is returned has been called, which is after the control plane's end.
func (a *Appliance) runPolicies() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.policies.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			a.cfg.Logger.Error("the policies' host ended with an error", "error", err)
		}
	}
}

// module reads the module of an image from the store of whichever engine has it.
func (e *engines) module(ctx context.Context, image string) ([]byte, error) {
	var errs []error
	for _, engine := range e.all {
		modules, ok := engine.(interface {
			Module(ctx context.Context, ref string) ([]byte, error)
		})
		if !ok {
			continue
		}
		module, err := modules.Module(ctx, image)
		if err == nil {
			return module, nil
		}
		if !errors.Is(err, runtime.ErrImageNotFound) {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("image %s is not in this machine's store: import it: %w", image, runtime.ErrImageNotFound)
	}
	return nil, errors.Join(errs...)
}
