package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/policytest"
)

// try loads the module, prints each decision, and then times calls.
func try(ctx context.Context, out io.Writer, log *slog.Logger, o options, wasm []byte, spec abi.Policy, cluster objects, requests []policytest.Request) (err error) {
	adapters, err := adaptersFor(o, cluster, log)
	if err != nil {
		return err
	}
	h, err := policies.New(policies.Config{Adapters: adapters, Lookup: cluster.lookup, Logger: log})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- h.Run(running) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()

	m, err := h.Load(ctx, "module", wasm)
	if err != nil {
		return fmt.Errorf("%s: %w", o.module, err)
	}
	if o.abi != "" && m.ABI != o.abi {
		return fmt.Errorf("%s: the module speaks %s, not %s", o.module, m.ABI, o.abi)
	}
	fmt.Fprintf(out, "%s: ABI %s, %d bytes, compiled in %s", o.module, m.ABI, m.Size, round(m.Compile))
	if m.Toolchain != "" {
		fmt.Fprintf(out, ", made by %s", m.Toolchain)
	}
	fmt.Fprintf(out, "\n%s\n", m.Digest)

	spec.Module = "module"
	if spec.Kind, err = set(ctx, h, spec, requests); err != nil {
		return err
	}
	if len(requests) == 0 {
		if requests, err = samples(spec.Kind); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s policy, on a built-in sample\n\n", spec.Kind)
	} else {
		if requests, err = ofKind(spec.Kind, requests); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s policy\n\n", spec.Kind)
	}
	var failed error
	var worked []policytest.Request
	for _, q := range requests {
		d := policytest.Decide(ctx, h, spec.Name, q)
		fmt.Fprint(out, d)
		if d.Err != nil {
			failed = fmt.Errorf("%s: %w", q.Name, d.Err)
			// So that one input's failures don't keep the next from being tried.
			if err := h.Set(ctx, spec); err != nil {
				return err
			}
			continue
		}
		worked = append(worked, q)
	}
	if len(worked) == 0 {
		return failed
	}
	fmt.Fprintln(out)
	return errors.Join(failed, measure(ctx, out, h, spec.Name, worked, o.calls))
}

// set makes the policy, as the kind that the module is.
func set(ctx context.Context, h *policies.Host, spec abi.Policy, requests []policytest.Request) (abi.Kind, error) {
	kinds := []abi.Kind{spec.Kind}
	if spec.Kind == "" {
		kinds = []abi.Kind{abi.Admission, abi.Scheduling}
		if len(requests) > 0 && requests[0].Placement != nil {
			kinds = []abi.Kind{abi.Scheduling, abi.Admission}
		}
	}
	var errs []error
	for _, kind := range kinds {
		spec.Kind = kind
		err := h.Set(ctx, spec)
		if err == nil {
			return kind, nil
		}
		if errors.Is(err, policies.ErrSettings) {
			return kind, err // it is of this kind
		}
		errs = append(errs, fmt.Errorf("as %s policy: %w", kind, err))
	}
	return "", errors.Join(errs...)
}

// ofKind gives a scheduling policy the sample's nodes for a pod that came alone, and refuses what can't be asked.
func ofKind(kind abi.Kind, requests []policytest.Request) ([]policytest.Request, error) {
	out := make([]policytest.Request, 0, len(requests))
	for _, q := range requests {
		switch {
		case kind == abi.Admission && q.Admission == nil:
			return nil, fmt.Errorf("%s: an admission policy isn't asked about nodes", q.Name)
		case kind == abi.Scheduling && q.Placement == nil:
			placed, err := placeOnSample(q)
			if err != nil {
				return nil, err
			}
			q = placed
		}
		out = append(out, q)
	}
	return out, nil
}

// measure asks about each request in turn, n times in all.
func measure(ctx context.Context, out io.Writer, h *policies.Host, name string, requests []policytest.Request, n int) error {
	took := make([]time.Duration, 0, n)
	fuels := make([]uint64, 0, n)
	var memory uint64
	for i := range n {
		q := requests[i%len(requests)]
		start := time.Now()
		var spent abi.Spent
		var err error
		if q.Admission != nil {
			_, spent, err = h.Admit(ctx, name, q.Admission)
		} else {
			spent, err = h.Place(ctx, name, q.Placement)
		}
		took = append(took, time.Since(start))
		if err != nil {
			return fmt.Errorf("call %d of %d, %s: %w", i+1, n, q.Name, err)
		}
		fuels = append(fuels, spent.Fuel)
		memory = max(memory, spent.Memory)
	}
	slices.Sort(took)
	slices.Sort(fuels)
	fmt.Fprintf(out, "%d calls: p50 %s, p99 %s\n", n, round(at(took, 50)), round(at(took, 99)))
	fmt.Fprintf(out, "fuel: %d a call (at most %d); memory: %d KiB\n", at(fuels, 50), fuels[len(fuels)-1], memory>>10)
	return nil
}

// at is a percentile of what is sorted.
func at[T any](sorted []T, percent int) T { return sorted[(len(sorted)-1)*percent/100] }

// round leaves three figures or so.
func round(d time.Duration) time.Duration {
	for unit := time.Second; unit > 1; unit /= 10 {
		if d >= unit {
			return d.Round(unit / 100)
		}
	}
	return d
}
