package opa

import (
	"context"
	"errors"
	"fmt"

	"github.com/pintle/pintle/policies/guest"
)

// Abort is a module that gave up: it met data that contradict each other, or a bug of its compiler.
type Abort struct{ Message string }

func (e *Abort) Error() string { return "the module aborted: " + e.Message }

// Hosts is what OPA's modules import. Their memory is given by package guest.
func (a *Adapter) Hosts(*guest.Info) []guest.HostModule {
	env := guest.HostModule{Name: "env", Funcs: []guest.HostFunc{
		{Name: "opa_abort", Params: []guest.ValueType{guest.I32}, Call: abort},
		{Name: "opa_println", Params: []guest.ValueType{guest.I32}, Call: println},
	}}
	for n := range 5 {
		params := make([]guest.ValueType, n+2)
		for i := range params {
			params[i] = guest.I32
		}
		env.Funcs = append(env.Funcs, guest.HostFunc{
			Name: fmt.Sprintf("opa_builtin%d", n), Params: params, Results: []guest.ValueType{guest.I32},
			Call: func(ctx context.Context, in *guest.Instance, stack []uint64) error {
				return dispatch(ctx, in, stack, n)
			},
		})
	}
	return []guest.HostModule{env}
}

func abort(_ context.Context, in *guest.Instance, stack []uint64) error {
	message, err := terminated(in, uint32(stack[0]))
	if err != nil {
		return err
	}
	return &Abort{string(message)}
}

func println(_ context.Context, in *guest.Instance, stack []uint64) error {
	line, err := terminated(in, uint32(stack[0]))
	if err != nil {
		return err
	}
	if vm, ok := in.State.(*machine); ok {
		vm.current.log(string(line))
	}
	return nil
}

// dispatch calls a built-in: id, a context that is reserved, then the arguments' addresses. 0 is undefined.
func dispatch(ctx context.Context, in *guest.Instance, stack []uint64, n int) error {
	vm, ok := in.State.(*machine)
	if !ok {
		return errors.New("the module calls a built-in function before it is set up")
	}
	id := int32(uint32(stack[0]))
	f := vm.builtins[id]
	if f == nil {
		return fmt.Errorf("the module calls built-in function %d, which it doesn't list", id)
	}
	args := make([]term, n)
	size := 0
	for i := range args {
		addr, err := in.Call(ctx, "opa_value_dump", stack[2+i])
		if err != nil {
			return err
		}
		b, err := terminated(in, uint32(addr))
		if err != nil {
			return err
		}
		if size += len(b); size > maxResult {
			return fmt.Errorf("arguments of a built-in function: %w", guest.ErrOutput)
		}
		if args[i], err = decode(b); err != nil {
			return err
		}
	}
	if err := in.Charge(uint64(16*size + 100)); err != nil {
		return err
	}
	vm.current.ctx = ctx
	result, err := f(vm.current, args)
	if halt := new(haltError); errors.As(err, &halt) {
		return halt.err
	}
	if err != nil || result == nil {
		stack[0] = 0
		return nil
	}
	out := encode(nil, result)
	if len(out) > maxResult {
		return fmt.Errorf("result of a built-in function: %w", guest.ErrOutput)
	}
	if err := in.Charge(uint64(4 * len(out))); err != nil {
		return err
	}
	text, err := put(ctx, in, out)
	if err != nil {
		return err
	}
	stack[0], err = in.Call(ctx, "opa_value_parse", text, uint64(len(out)))
	return err
}

// haltError ends the evaluation, where another error only makes an expression undefined.
type haltError struct{ err error }

func (e *haltError) Error() string { return e.err.Error() }

// effects are built-ins of the whole set that reach out of the module, or differ from replica to replica. Each needs
// the capability "builtin:NAME".
func effect(name string) bool {
	switch name {
	case "http.send", "net.lookup_ip_addr", "opa.runtime", "rand.intn", "uuid.rfc4122", "rego.parse_module", "providers.aws.sign_req":
		return true
	}
	return false
}

// builtin finds a function by OPA's name; where there is none it says why, if more than that it isn't there.
func (e *evaluator) builtin(name string) (builtin, string) {
	if b := e.adapter.table[name]; b != nil {
		return b, ""
	}
	if e.adapter.cfg.Builtins == nil {
		return nil, ""
	}
	f := e.adapter.cfg.Builtins(name)
	if f == nil {
		return nil, ""
	}
	if effect(name) && !e.grants("builtin:"+name) {
		return nil, fmt.Sprintf(" (needs the capability %q)", "builtin:"+name)
	}
	return func(c *evaluation, args []term) (term, error) {
		texts := make([][]byte, len(args))
		for i, t := range args {
			texts[i] = encode(nil, t)
		}
		out, err := f(c.ctx, texts)
		if err != nil || out == nil {
			if c.ctx.Err() != nil {
				return nil, &haltError{context.Cause(c.ctx)}
			}
			return nil, err
		}
		return decode(out)
	}, ""
}
