package main

import (
	"fmt"
	"log/slog"

	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/compat/kubescheduler"
	"github.com/pintle/pintle/policies/compat/kubewarden"
	"github.com/pintle/pintle/policies/compat/opa"
	"github.com/pintle/pintle/policies/guest"
)

// adapters are those of other ABIs.
func adapters(log *slog.Logger) []policies.Adapter {
	return []policies.Adapter{
		kubewarden.New(kubewarden.Config{Logger: log}),
		kubescheduler.New(kubescheduler.Config{Logger: log}),
		opa.New(opa.Config{Logger: log}),
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
func adaptersFor(name string, log *slog.Logger) ([]policies.Adapter, error) {
	all := adapters(log)
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
