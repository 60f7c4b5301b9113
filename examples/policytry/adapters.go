package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/compat/kubescheduler"
	"github.com/pintle/pintle/policies/compat/kubewarden"
	"github.com/pintle/pintle/policies/compat/opa"
	"github.com/pintle/pintle/policies/guest"
)

// adapters are those of other ABIs.
func adapters(o options, cluster objects, log *slog.Logger) []policies.Adapter {
	canI := func(context.Context, []byte) ([]byte, error) {
		return fmt.Appendf(nil, `{"allowed":%t,"reason":"-can-i=%s"}`, o.canI == "allow", o.canI), nil
	}
	return []policies.Adapter{
		kubewarden.New(kubewarden.Config{Lookup: cluster.lookup, CanI: canI, Logger: log}),
		kubescheduler.New(kubescheduler.Config{Logger: log}),
		opa.New(opa.Config{Lookup: cluster.lookup, Logger: log}),
	}
}

// otherNames are what people call ABIs, beside their adapters' names.
var otherNames = map[string]string{
	"pintle": nativeABI, "wapc": "kubewarden", "kubescheduler": "kube-scheduler",
	"kube-scheduler-wasm-extension": "kube-scheduler", "gatekeeper": "opa", "rego": "opa",
}

// nativeABI needs no adapter.
const nativeABI = "pintle/v1"

// adaptersFor are the adapters that may be asked: all of them, or the one that was named, which then takes any module.
func adaptersFor(o options, cluster objects, log *slog.Logger) ([]policies.Adapter, error) {
	name, all := o.abi, adapters(o, cluster, log)
	if name == "" {
		return all, nil
	}
	names := []string{nativeABI}
	for _, a := range all {
		if a.Name() == name {
			return []policies.Adapter{chosen{a}}, nil
		}
		names = append(names, a.Name())
	}
	if name == nativeABI {
		return nil, nil
	}
	return nil, fmt.Errorf("-abi=%s isn't known: there are %q", name, names)
}

// chosen is an adapter that isn't asked whether it is the right one.
type chosen struct{ policies.Adapter }

func (chosen) Detect(*guest.Info) bool { return true }
