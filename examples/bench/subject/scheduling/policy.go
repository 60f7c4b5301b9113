package main

import (
	"context"
	"errors"
	"os"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/abi"
)

// placing is a policy that takes part in placing alone.
type placing struct {
	place func(ctx context.Context, p *abi.Placement) error
}

func (placing) Has(profile, hook string) bool {
	return profile == corev1.DefaultSchedulerName && (hook == "" || hook == "Place")
}
func (placing) Changed() <-chan struct{}                             { return nil }
func (placing) QueueKey(context.Context, *abi.Pod) int64             { return 0 }
func (p placing) Place(ctx context.Context, at *abi.Placement) error { return p.place(ctx, at) }
func (placing) Permitters(string) []string                           { return nil }
func (placing) PostFilter(context.Context, *abi.PostFilterRequest) *abi.PostFilterResponse {
	return &abi.PostFilterResponse{}
}
func (placing) Permit(context.Context, string, *abi.PermitRequest) (*abi.PermitResponse, error) {
	return nil, errors.ErrUnsupported
}

// newPolicy is GPU bin packing over the nodes' records, in Go or, with a file, as that module.
func newPolicy(ctx context.Context, file string) (placing, func() error, error) {
	if file == "" {
		return placing{func(_ context.Context, p *abi.Placement) error {
			p.Reset()
			records := p.Nodes.Records()
			for i, row := range p.Rows {
				if records[row].GPUAllocatable == 0 {
					p.Scores[i] = 100
				}
			}
			return nil
		}}, func() error { return nil }, nil
	}
	wasm, err := os.ReadFile(file)
	if err != nil {
		return placing{}, nil, err
	}
	h, err := policies.New(policies.Config{})
	if err != nil {
		return placing{}, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	stop := func() error { cancel(); return <-ended }
	_, err = h.Load(ctx, "binpack", wasm)
	if err == nil {
		err = h.Set(ctx, abi.Policy{Name: "binpack", Kind: abi.Scheduling, Module: "binpack"})
	}
	if err != nil {
		return placing{}, nil, errors.Join(err, stop())
	}
	return placing{func(ctx context.Context, p *abi.Placement) error {
		_, err := h.Place(ctx, "binpack", p)
		return err
	}}, stop, nil
}
