package policies

import (
	"context"
	"errors"
	"fmt"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// admission is an admission policy of ABI pintle/v1.
type admission struct{ *guest.Pool }

// Admission makes a policy, and one instance of it.
func (n *native) Admission(ctx context.Context, m *guest.Module, spec abi.Policy) (guest.Admitter, error) {
	if _, ok := m.Export(exportAdmit); !ok {
		return nil, errors.New("the module is of no admission policy: it doesn't export pintle_admit")
	}
	grants, err := parseGrants(spec.Capabilities)
	if err != nil {
		return nil, err
	}
	pool, err := m.NewPool(guest.PoolConfig{Limits: spec.Limits, Logger: n.log.With("policy", spec.Name),
		Init: func(ctx context.Context, in *guest.Instance) error {
			s := &instance{n: n, policy: &spec, grants: grants, budget: newBudget()}
			_, err := s.prepare(ctx, in)
			return err
		}})
	if err != nil {
		return nil, err
	}
	if err := pool.Warm(ctx); err != nil {
		return nil, errors.Join(err, pool.Close(context.WithoutCancel(ctx)))
	}
	return admission{pool}, nil
}

// Admit asks an instance.
func (a admission) Admit(ctx context.Context, q *abi.AdmissionRequest) (*abi.AdmissionResponse, abi.Spent, error) {
	var response *abi.AdmissionResponse
	spent, err := a.Do(ctx, func(ctx context.Context, in *guest.Instance) (err error) {
		s := in.State.(*instance)
		s.begin()
		if s.message, err = q.Append(s.message[:0], s.wants); err != nil {
			return fmt.Errorf("encode the object: %w", err)
		}
		answer, err := s.send(ctx, in, exportAdmit)
		if err != nil {
			return err
		}
		response = &abi.AdmissionResponse{}
		if err := response.Decode(answer); err != nil {
			return fmt.Errorf("%s: %w", exportAdmit, err)
		}
		return nil
	})
	if err != nil {
		return nil, spent, err
	}
	return response, spent, nil
}
