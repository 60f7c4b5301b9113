package kubewarden

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// conversation is what a waPC instance and its host say to each other in one call. Its slices are used again.
type conversation struct {
	host *hostCalls

	operation string
	payload   []byte

	response  []byte // the guest's
	failure   []byte // the guest's
	answered  bool
	failed    bool
	hostReply []byte // of the last host call
	hostError string
}

// guestError is a policy's own word for why it can't answer.
type guestError struct{ message string }

func (e *guestError) Error() string { return "the module failed: " + e.message }

// startWapc runs what a module has to start with: _start or _initialize of a WASI module, then wapc_init.
func (e *evaluator) startWapc(ctx context.Context, in *guest.Instance) error {
	in.State = &conversation{host: &e.host}
	_ = in.GrowMemory(startMemory) // a module may have a maximum of its own
	start := "_start"
	if !in.Exports(start) {
		start = "_initialize"
	}
	for _, name := range []string{start, "wapc_init"} {
		if !in.Exports(name) {
			continue
		}
		if err := ended(call(ctx, in, name)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func call(ctx context.Context, in *guest.Instance, name string) error {
	_, err := in.Call(ctx, name)
	return err
}

// callWapc runs one operation.
func (e *evaluator) callWapc(ctx context.Context, operation string, payload []byte, read func([]byte) error) (abi.Spent, error) {
	return e.pool.Do(ctx, func(ctx context.Context, in *guest.Instance) error {
		c := in.State.(*conversation)
		c.operation, c.payload = operation, payload
		c.response, c.failure, c.answered, c.failed = c.response[:0], c.failure[:0], false, false
		c.hostReply, c.hostError = nil, ""
		ok, err := in.Call(ctx, "__guest_call", uint64(len(operation)), uint64(len(payload)))
		c.payload = nil
		switch {
		case err != nil:
			return err
		case uint32(ok) == 1 && c.answered:
			return read(c.response)
		case c.failed:
			return &guestError{string(c.failure)}
		}
		return &guestError{"it says neither an answer nor a reason"}
	})
}

// Hosts is what Kubewarden's modules import.
func (a *Adapter) Hosts(*guest.Info) []guest.HostModule {
	i32 := guest.I32
	wapc := guest.HostModule{Name: "wapc"}
	add := func(name string, params, results int, f func(ctx context.Context, in *guest.Instance, c *conversation, s []uint64) error) {
		types := []guest.ValueType{i32, i32, i32, i32, i32, i32, i32, i32}
		wapc.Funcs = append(wapc.Funcs, guest.HostFunc{
			Name: name, Params: types[:params], Results: types[:results],
			Call: func(ctx context.Context, in *guest.Instance, s []uint64) error {
				c, ok := in.State.(*conversation)
				if !ok {
					return fmt.Errorf("%s is called before the module is set up", name)
				}
				return f(ctx, in, c, s)
			},
		})
	}
	add("__guest_request", 2, 0, func(_ context.Context, in *guest.Instance, c *conversation, s []uint64) error {
		if err := in.Write(uint32(s[1]), c.payload); err != nil {
			return err
		}
		return in.Write(uint32(s[0]), []byte(c.operation))
	})
	add("__guest_response", 2, 0, func(_ context.Context, in *guest.Instance, c *conversation, s []uint64) error {
		return c.take(in, &c.response, &c.answered, s)
	})
	add("__guest_error", 2, 0, func(_ context.Context, in *guest.Instance, c *conversation, s []uint64) error {
		return c.take(in, &c.failure, &c.failed, s)
	})
	add("__host_call", 8, 1, func(ctx context.Context, in *guest.Instance, c *conversation, s []uint64) error {
		reply, err := c.host.fromGuest(ctx, in, s)
		if err != nil {
			return err
		}
		c.hostReply, c.hostError, s[0] = reply.payload, reply.refusal, 1
		if reply.refusal != "" {
			s[0] = 0
		}
		return nil
	})
	add("__host_response_len", 0, 1, func(_ context.Context, _ *guest.Instance, c *conversation, s []uint64) error {
		s[0] = uint64(len(c.hostReply))
		return nil
	})
	add("__host_response", 1, 0, func(_ context.Context, in *guest.Instance, c *conversation, s []uint64) error {
		return in.Write(uint32(s[0]), c.hostReply)
	})
	add("__host_error_len", 0, 1, func(_ context.Context, _ *guest.Instance, c *conversation, s []uint64) error {
		s[0] = uint64(len(c.hostError))
		return nil
	})
	add("__host_error", 1, 0, func(_ context.Context, in *guest.Instance, c *conversation, s []uint64) error {
		return in.Write(uint32(s[0]), []byte(c.hostError))
	})
	add("__console_log", 2, 0, func(ctx context.Context, in *guest.Instance, c *conversation, s []uint64) error {
		line, err := in.Read(uint32(s[0]), uint32(s[1]))
		if err != nil {
			return err
		}
		return c.host.console(ctx, in, line)
	})
	command := guest.HostFunc{Name: "call", Params: []guest.ValueType{i32, i32, i32, i32, i32, i32, i32, i32},
		Results: []guest.ValueType{i32}, Call: commandCall}
	return []guest.HostModule{
		wapc,
		{Name: "host", Funcs: []guest.HostFunc{command}},
		{Name: "kubewarden:javy/host", Funcs: []guest.HostFunc{command}},
		{Name: "env", Funcs: assemblyScript()},
		{Name: "wasi_unstable", Funcs: []guest.HostFunc{{ // of old TinyGo
			Name: "fd_write", Params: []guest.ValueType{i32, i32, i32, i32}, Results: []guest.ValueType{i32}, Call: oldWrite,
		}}},
	}
}

// take copies what the guest says: it may say it in memory that it uses again.
func (c *conversation) take(in *guest.Instance, to *[]byte, said *bool, s []uint64) error {
	b, err := in.ReadAnswer(uint32(s[0]), uint32(s[1]))
	if err != nil {
		return err
	}
	*to, *said = append((*to)[:0], b...), true
	return nil
}

// oldWrite takes what a guest writes to its terminal, and drops it.
func oldWrite(_ context.Context, in *guest.Instance, s []uint64) error {
	const bad, fault = 8, 21 // errors of WASI's
	if fd := uint32(s[0]); fd != 1 && fd != 2 {
		s[0] = bad
		return nil
	}
	list, err := in.Read(uint32(s[1]), min(uint32(s[2]), 1024)*8)
	if err != nil {
		s[0] = fault
		return nil
	}
	n := uint32(0)
	for ; len(list) > 0; list = list[8:] {
		n += binary.LittleEndian.Uint32(list[4:])
	}
	if s[0] = 0; in.Write(uint32(s[3]), binary.LittleEndian.AppendUint32(nil, n)) != nil {
		s[0] = fault
	}
	return nil
}
