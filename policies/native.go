package policies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// native runs the modules of ABI pintle/v1; policies/abi/README.md is what it keeps to.
type native struct {
	lookup func(ctx context.Context, name string) ([]byte, error)
	clock  Clock
	log    *slog.Logger
}

// Functions that modules export.
const (
	exportABI        = "pintle_abi"
	exportAlloc      = "pintle_alloc"
	exportConfigure  = "pintle_configure"
	exportRegion     = "pintle_region"
	exportAdmit      = "pintle_admit"
	exportPlace      = "pintle_place"
	exportQueueKey   = "pintle_queue_key"
	exportPermit     = "pintle_permit"
	exportPostFilter = "pintle_post_filter"
	exportInitialize = "_initialize"
)

var exportOf = map[string]string{HookPlace: exportPlace, HookQueueSort: exportQueueKey, HookPermit: exportPermit, HookPostFilter: exportPostFilter}

// Name is "pintle/v1".
func (*native) Name() string { return fmt.Sprintf("pintle/v%d", abi.Version) }

// Detect looks for the version that a module exports.
func (*native) Detect(i *guest.Info) bool { _, ok := i.Export(exportABI); return ok }

// Check tells whether the module exports what it must, and speaks a version that we do.
func (n *native) Check(ctx context.Context, m *guest.Module) error {
	message := []guest.ValueType{guest.I32, guest.I32}
	one := []guest.ValueType{guest.I32}
	types := map[string][2][]guest.ValueType{
		exportABI: {nil, one}, exportAlloc: {one, one}, exportRegion: {message, one}, exportInitialize: {nil, nil},
	}
	for _, name := range []string{exportConfigure, exportAdmit, exportPlace, exportQueueKey, exportPermit, exportPostFilter} {
		types[name] = [2][]guest.ValueType{message, {guest.I64}}
	}
	has := map[string]bool{}
	for _, e := range m.Exports {
		t, known := types[e.Name]
		if !known {
			continue
		}
		if e.Kind != "func" || !slices.Equal(e.Params, t[0]) || !slices.Equal(e.Results, t[1]) {
			return fmt.Errorf("export %s has another type than the ABI's", e.Name)
		}
		has[e.Name] = true
	}
	if _, ok := m.Export("memory"); !ok {
		return errors.New("the module exports no memory")
	}
	needed := []string{exportAlloc, exportConfigure}
	if has[exportPlace] {
		needed = append(needed, exportRegion)
	}
	for _, name := range needed {
		if !has[name] {
			return fmt.Errorf("the module doesn't export %s", name)
		}
	}
	if !has[exportAdmit] && len(n.hooks(m.Info)) == 0 {
		return errors.New("the module takes part in nothing: it exports neither pintle_admit nor any hook of scheduling")
	}
	pool, err := m.NewPool(guest.PoolConfig{Limits: abi.Limits{}, Init: func(ctx context.Context, in *guest.Instance) error {
		_, err := initialize(ctx, in)
		return err
	}})
	if err != nil {
		return err
	}
	return errors.Join(pool.Warm(ctx), pool.Close(context.WithoutCancel(ctx)))
}

func (*native) hooks(i *guest.Info) (hooks []string) {
	for _, hook := range []string{HookPlace, HookQueueSort, HookPermit, HookPostFilter} {
		if _, ok := i.Export(exportOf[hook]); ok {
			hooks = append(hooks, hook)
		}
	}
	return hooks
}

// initialize starts a module's instance, and settles the version that both sides speak.
func initialize(ctx context.Context, in *guest.Instance) (uint32, error) {
	if in.Exports(exportInitialize) {
		if _, err := in.Call(ctx, exportInitialize); err != nil {
			return 0, fmt.Errorf("_initialize: %w", err)
		}
	}
	v, err := in.Call(ctx, exportABI)
	if err != nil {
		return 0, fmt.Errorf("pintle_abi: %w", err)
	}
	return negotiate(uint32(v))
}

// negotiate chooses the highest version that both sides speak: the module's lowest is in the low half.
func negotiate(module uint32) (uint32, error) {
	lowest, highest := module&0xffff, module>>16
	if lowest > highest || lowest > abi.Version || highest < abi.Version {
		return 0, fmt.Errorf("the module speaks versions %d to %d of the ABI, this host version %d: build it with another SDK", lowest, highest, abi.Version)
	}
	return abi.Version, nil
}

// instance is what an instance of a native module knows of its policy.
type instance struct {
	n        *native
	policy   *abi.Policy
	grants   grants
	strings  *abi.NodeTable // interns
	budget   *budget        // of new strings
	wants    abi.Wants
	resident *abi.Resident // of a scheduling policy
	message  []byte        // the message of the call
	now      int64         // Unix milliseconds, once the call has asked
	logged   int           // lines of the call
}

// prepare starts an instance and gives it the policy's settings.
func (s *instance) prepare(ctx context.Context, in *guest.Instance) (*abi.Configured, error) {
	in.State = s
	version, err := initialize(ctx, in)
	if err != nil {
		return nil, err
	}
	settings := abi.Settings{Version: version, JSON: s.policy.Settings, Policy: s.policy.Name, Capabilities: s.policy.Capabilities}
	s.message = settings.Append(s.message[:0])
	answer, err := s.send(ctx, in, exportConfigure)
	if err != nil {
		return nil, err
	}
	var c abi.Configured
	if err := c.Decode(answer); err != nil {
		return nil, fmt.Errorf("%s: %w", exportConfigure, err)
	}
	switch {
	case c.Error != "":
		return nil, fmt.Errorf("%w: %s", ErrSettings, c.Error)
	case c.Wants < abi.JSON || c.Wants > abi.Protobuf:
		return nil, fmt.Errorf("%s: objects can't be had in encoding %d", exportConfigure, c.Wants)
	case len(c.Columns) > abi.MaxColumns:
		return nil, fmt.Errorf("%s: %d columns are asked for, %d can be had", exportConfigure, len(c.Columns), abi.MaxColumns)
	}
	s.wants = c.Wants
	return &c, nil
}

// begin forgets what the call before left.
func (s *instance) begin() { s.now, s.logged = 0, 0 }

// keptMessage is how large a buffer an idle instance keeps.
const keptMessage = 64 << 10

// send hands s.message to an export and returns what it answers: a view of the guest's memory.
func (s *instance) send(ctx context.Context, in *guest.Instance, export string) ([]byte, error) {
	result, err := s.deliver(ctx, in, export)
	if err != nil || result == 0 {
		return nil, err
	}
	answer, err := in.ReadAnswer(uint32(result>>32), uint32(result))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", export, err)
	}
	return answer, nil
}

// deliver hands s.message to an export and returns the number that it answers.
func (s *instance) deliver(ctx context.Context, in *guest.Instance, export string) (uint64, error) {
	size := len(s.message)
	at, err := place(ctx, in, s.message)
	if err != nil {
		return 0, err
	}
	if cap(s.message) > keptMessage {
		s.message = nil
	}
	result, err := in.Call(ctx, export, uint64(at), uint64(size))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", export, err)
	}
	return result, nil
}

// place copies bytes to where the guest wants them. No bytes lie nowhere: at 0.
func place(ctx context.Context, in *guest.Instance, b []byte) (uint32, error) {
	if len(b) == 0 {
		return 0, nil
	}
	at, err := in.Call(ctx, exportAlloc, uint64(len(b)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", exportAlloc, err)
	}
	if at == 0 {
		return 0, fmt.Errorf("%s: %w: no room for %d bytes", exportAlloc, guest.ErrMemory, len(b))
	}
	if err := in.Write(uint32(at), b); err != nil {
		return 0, fmt.Errorf("%s: %w", exportAlloc, err)
	}
	return uint32(at), nil
}
