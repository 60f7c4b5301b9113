package policies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// scheduling is a scheduling policy of ABI pintle/v1. Its instances hold the node table, and the ids of its strings:
// they are good for one generation of one table. When another comes they are replaced.
type scheduling struct {
	n      *native
	module *guest.Module
	spec   abi.Policy
	grants grants

	mu     sync.Mutex // held while instances are replaced
	closed bool
	pool   atomic.Pointer[tablePool]
	ending sync.WaitGroup
}

// tablePool are the instances for one generation of one table.
type tablePool struct {
	*guest.Pool
	table      *abi.NodeTable
	generation uint64
	budget     *budget
}

// Scheduling makes a policy, and one instance of it. The instance for the node table is made when that is first seen.
func (n *native) Scheduling(ctx context.Context, m *guest.Module, spec abi.Policy) (guest.Placer, error) {
	if len(n.hooks(m.Info)) == 0 {
		return nil, errors.New("the module is of no scheduling policy: it exports no hook of scheduling")
	}
	if !abi.LittleEndian() {
		return nil, errors.New("scheduling policies need a little-endian machine")
	}
	grants, err := parseGrants(spec.Capabilities)
	if err != nil {
		return nil, err
	}
	s := &scheduling{n: n, module: m, spec: spec, grants: grants}
	if err := s.replace(ctx, abi.NewNodeTable()); err != nil {
		return nil, err
	}
	return s, nil
}

// Hooks are those that the module exports.
func (s *scheduling) Hooks() []string { return s.n.hooks(s.module.Info) }

// Close ends the policy, once its calls have ended.
func (s *scheduling) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.ending.Wait()
	return s.pool.Load().Close(ctx)
}

// replace makes instances for a table's present generation, and has those for another ended.
func (s *scheduling) replace(ctx context.Context, table *abi.NodeTable) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return guest.ErrClosed
	}
	old := s.pool.Load()
	next := &tablePool{table: table, generation: table.Generation(), budget: newBudget()}
	if old != nil && old.table == table && old.generation == next.generation {
		return nil // another call has been here
	}
	var err error
	next.Pool, err = s.module.NewPool(guest.PoolConfig{Limits: s.spec.Limits, Logger: s.n.log.With("policy", s.spec.Name),
		Init: func(ctx context.Context, in *guest.Instance) error {
			i := &instance{n: s.n, policy: &s.spec, grants: s.grants, strings: table, budget: next.budget}
			c, err := i.prepare(ctx, in)
			if err == nil {
				i.resident = abi.NewResident(table.View(c.Columns))
			}
			return err
		}})
	if err != nil {
		return err
	}
	if err := next.Warm(ctx); err != nil {
		return errors.Join(err, next.Close(context.WithoutCancel(ctx)))
	}
	s.pool.Store(next)
	if old != nil {
		s.ending.Go(func() { _ = old.Close(context.Background()) })
	}
	return nil
}

// do lends an instance to fn; table is the one that it must hold, nil: any.
func (s *scheduling) do(ctx context.Context, table *abi.NodeTable, fn func(context.Context, *guest.Instance, *instance) error) (spent abi.Spent, err error) {
	for range 4 { // the table may begin a generation, or another may come, while we look
		p := s.pool.Load()
		if table != nil && (p.table != table || p.generation != table.Generation()) {
			if err := s.replace(ctx, table); err != nil {
				return spent, err
			}
			p = s.pool.Load()
		}
		spent, err = p.Do(ctx, func(ctx context.Context, in *guest.Instance) error {
			i := in.State.(*instance)
			i.begin()
			return fn(ctx, in, i)
		})
		if !errors.Is(err, abi.ErrStale) && !errors.Is(err, guest.ErrClosed) {
			break
		}
	}
	return spent, err
}

// memory is a guest's memory as abi.Resident sees it.
type memory struct{ in *guest.Instance }

func (m memory) Region(ctx context.Context, kind int, size uint32) (uint32, error) {
	at, err := m.in.Call(ctx, exportRegion, uint64(kind), uint64(size))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", exportRegion, err)
	}
	if at == 0 {
		return 0, fmt.Errorf("%s: %w: no room for region %d of %d bytes", exportRegion, guest.ErrMemory, kind, size)
	}
	return uint32(at), nil
}

func (m memory) View(address, size uint32) ([]byte, error) { return m.in.Read(address, size) }

// Place brings the instance's node table up to date and calls it once for all candidates.
func (s *scheduling) Place(ctx context.Context, p *abi.Placement) (abi.Spent, error) {
	return s.do(ctx, p.Nodes, func(ctx context.Context, in *guest.Instance, i *instance) error {
		if err := i.resident.Sync(ctx, p, memory{in}); err != nil {
			return err
		}
		in.Renew() // a fresh instance, which is asked for regions, decides with no less than a warm one
		i.message = p.Pod.Append(i.message[:0])
		answer, err := i.send(ctx, in, exportPlace)
		if err != nil {
			return err
		}
		var reasons abi.Reasons
		if err := reasons.Decode(answer); err != nil {
			return fmt.Errorf("%s: %w", exportPlace, err)
		}
		p.Reasons = reasons.Reasons
		return i.resident.Take(p, memory{in})
	})
}

// QueueKey asks for a pod's place in the queue.
func (s *scheduling) QueueKey(ctx context.Context, pod *abi.Pod) (key int64, spent abi.Spent, err error) {
	spent, err = s.do(ctx, nil, func(ctx context.Context, in *guest.Instance, i *instance) error {
		i.message = pod.Append(i.message[:0])
		result, err := i.deliver(ctx, in, exportQueueKey)
		key = int64(result)
		return err
	})
	return key, spent, err
}

// Permit asks whether a pod may be bound.
func (s *scheduling) Permit(ctx context.Context, q *abi.PermitRequest) (*abi.PermitResponse, abi.Spent, error) {
	var response abi.PermitResponse
	spent, err := s.ask(ctx, exportPermit, q, func(answer []byte) error {
		response = abi.PermitResponse{}
		if err := response.Decode(answer); err != nil {
			return err
		}
		if response.Decision < abi.Allow || response.Decision > abi.Deny {
			return fmt.Errorf("%w: decision %d", abi.ErrMalformed, response.Decision)
		}
		return nil
	})
	return &response, spent, err
}

// PostFilter tells that no node is left.
func (s *scheduling) PostFilter(ctx context.Context, q *abi.PostFilterRequest) (*abi.PostFilterResponse, abi.Spent, error) {
	var response abi.PostFilterResponse
	spent, err := s.ask(ctx, exportPostFilter, q, func(answer []byte) error {
		response = abi.PostFilterResponse{}
		return response.Decode(answer)
	})
	return &response, spent, err
}

func (s *scheduling) ask(ctx context.Context, export string, q interface{ Append([]byte) []byte }, decode func([]byte) error) (abi.Spent, error) {
	return s.do(ctx, nil, func(ctx context.Context, in *guest.Instance, i *instance) error {
		i.message = q.Append(i.message[:0])
		answer, err := i.send(ctx, in, export)
		if err != nil {
			return err
		}
		if err := decode(answer); err != nil {
			return fmt.Errorf("%s: %w", export, err)
		}
		return nil
	})
}
