package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/pintle/pintle/policies/abi"
)

// bare is a module in wazero as it came: not metered, not bounded, one instance, functions looked up once.
type bare struct {
	runtime    wazero.Runtime
	module     api.Module
	functions  map[string]api.Function
	table      *abi.NodeTable
	configured abi.Configured
	resident   *abi.Resident
	message    []byte
}

func newBare(ctx context.Context, wasm []byte, settings string, table *abi.NodeTable) (*bare, error) {
	b := &bare{runtime: wazero.NewRuntime(ctx), functions: map[string]api.Function{}, table: table}
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, b.runtime); err != nil {
		return nil, err
	}
	_, err := b.runtime.NewHostModuleBuilder("pintle").
		NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module, at, size uint32) uint32 {
		name, _ := m.Memory().Read(at, size)
		return table.Intern(string(name))
	}).Export("intern").
		NewFunctionBuilder().WithFunc(func(context.Context, uint32, uint32, uint32) {}).Export("log").
		NewFunctionBuilder().WithFunc(func(context.Context) uint64 { return 0 }).Export("now_ms").
		NewFunctionBuilder().WithFunc(func(context.Context, uint32, uint32) uint64 { return 0 }).Export("lookup").
		Instantiate(ctx)
	if err != nil {
		return nil, err
	}
	if b.module, err = b.runtime.InstantiateWithConfig(ctx, wasm, wazero.NewModuleConfig().WithStartFunctions("_initialize")); err != nil {
		return nil, err
	}
	for name := range b.module.ExportedFunctionDefinitions() {
		b.functions[name] = b.module.ExportedFunction(name)
	}
	answer, err := b.send(ctx, "pintle_configure", (&abi.Settings{Version: abi.Version, JSON: []byte(settings)}).Append(nil))
	if err != nil {
		return nil, err
	}
	if err := b.configured.Decode(answer); err != nil {
		return nil, err
	}
	b.resident = abi.NewResident(table.View(b.configured.Columns))
	return b, nil
}

func (b *bare) close(ctx context.Context) { _ = b.runtime.Close(ctx) }

func (b *bare) send(ctx context.Context, export string, message []byte) ([]byte, error) {
	at, err := b.functions["pintle_alloc"].Call(ctx, uint64(len(message)))
	if err != nil {
		return nil, err
	}
	if !b.module.Memory().Write(uint32(at[0]), message) {
		return nil, errors.New("no room")
	}
	result, err := b.functions[export].Call(ctx, at[0], uint64(len(message)))
	if err != nil {
		return nil, err
	}
	answer, ok := b.module.Memory().Read(uint32(result[0]>>32), uint32(result[0]))
	if !ok {
		return nil, fmt.Errorf("%s lies", export)
	}
	return answer, nil
}

// Region and View are abi.Memory's.
func (b *bare) Region(ctx context.Context, kind int, size uint32) (uint32, error) {
	at, err := b.functions["pintle_region"].Call(ctx, uint64(kind), uint64(size))
	if err != nil {
		return 0, err
	}
	return uint32(at[0]), nil
}

func (b *bare) View(at, size uint32) ([]byte, error) {
	if v, ok := b.module.Memory().Read(at, size); ok {
		return v, nil
	}
	return nil, errors.New("out of bounds")
}

func (b *bare) place(ctx context.Context, p *abi.Placement) error {
	if err := b.resident.Sync(ctx, p, b); err != nil {
		return err
	}
	b.message = p.Pod.Append(b.message[:0])
	answer, err := b.send(ctx, "pintle_place", b.message)
	if err != nil {
		return err
	}
	var reasons abi.Reasons
	if err := reasons.Decode(answer); err != nil {
		return err
	}
	p.Reasons = reasons.Reasons
	return b.resident.Take(p, b)
}
