package opa

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pintle/pintle/policies/guest"
)

// machine is one instance of a module, as OPA's ABI drives it. The heap is a stack of marks: what lies below base is
// the module's, up to mark lies the data, and above it each evaluation starts anew.
type machine struct {
	builtins   map[int32]builtin
	mode       Mode
	entrypoint int32
	base, mark uint32
	data       uint32
	dataFrom   []byte // what data was parsed of
	current    *evaluation
}

// evaluation is one call.
type evaluation struct {
	ctx context.Context
	e   *evaluator
	ns  int64 // 0: not asked yet
}

// now is the same throughout a call, and 0 without the capability.
func (c *evaluation) now() int64 {
	if c.ns == 0 && c.e.clock {
		c.ns = c.e.adapter.cfg.Clock().UnixNano()
	}
	return c.ns
}

func (c *evaluation) log(line string) {
	c.e.adapter.cfg.Logger.DebugContext(c.ctx, "a policy printed", "policy", c.e.policy, "line", line)
}

// init prepares a fresh instance: what it calls, what it can be asked, and its data.
func (e *evaluator) init(ctx context.Context, in *guest.Instance) error {
	if _, err := in.Call(ctx, "opa_malloc", 0); err != nil { // sets the heap up
		return err
	}
	vm := &machine{builtins: map[int32]builtin{}, mode: e.mode}
	in.State = vm
	vm.current = &evaluation{ctx: ctx, e: e}
	wanted, err := vm.numbers(ctx, in, "builtins")
	if err != nil {
		return err
	}
	var missing []string
	for name, id := range wanted {
		b, why := e.builtin(name)
		if b == nil {
			missing = append(missing, name+why)
		}
		vm.builtins[id] = b
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("the module calls built-in functions that this host doesn't offer: %s", strings.Join(missing, ", "))
	}
	entrypoints, err := vm.numbers(ctx, in, "entrypoints")
	if err != nil {
		return err
	}
	vm.choose(entrypoints)
	base, err := in.Call(ctx, "opa_heap_ptr_get")
	if err != nil {
		return err
	}
	vm.base = uint32(base)
	data := []byte("{}")
	if vm.mode == Review {
		data = e.settings
	}
	if len(e.granted) > 0 {
		return nil // the first call brings the cluster's
	}
	return vm.load(ctx, in, data)
}

// choose takes Gatekeeper's entry point if there is one, and else the first, as Kubewarden does.
func (vm *machine) choose(entrypoints map[string]int32) {
	if vm.mode != "" {
		return // Kubewarden asks number 0
	}
	vm.mode = Review
	for name, id := range entrypoints {
		if name == "violation" || strings.HasSuffix(name, "/violation") {
			vm.mode, vm.entrypoint = Gatekeeper, id
		}
	}
}

// numbers reads a function that returns an object of names and numbers.
func (vm *machine) numbers(ctx context.Context, in *guest.Instance, export string) (map[string]int32, error) {
	addr, err := in.Call(ctx, export)
	if err != nil {
		return nil, err
	}
	if addr, err = in.Call(ctx, "opa_json_dump", addr); err != nil {
		return nil, err
	}
	b, err := terminated(in, uint32(addr))
	if err != nil {
		return nil, err
	}
	out := map[string]int32{}
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("the module's %s: %w", export, err)
	}
	return out, nil
}

// terminated reads a string that ends with a zero. It is the guest's memory: use it before the next call.
func terminated(in *guest.Instance, addr uint32) ([]byte, error) {
	size := in.MemoryBytes()
	if uint64(addr) >= size {
		return nil, guest.ErrBounds
	}
	b, err := in.Read(addr, uint32(size-uint64(addr)))
	if err != nil {
		return nil, err
	}
	n := bytes.IndexByte(b, 0)
	if n < 0 {
		return nil, guest.ErrBounds
	}
	return b[:n], nil
}

// put copies b into memory that the guest allocates.
func put(ctx context.Context, in *guest.Instance, b []byte) (uint64, error) {
	addr, err := in.Call(ctx, "opa_malloc", uint64(len(b)))
	if err != nil {
		return 0, err
	}
	return addr, in.Write(uint32(addr), b)
}

var errNotParsed = errors.New("the module can't parse what it was given as JSON")

// load makes data the module's, in place of what it had.
func (vm *machine) load(ctx context.Context, in *guest.Instance, data []byte) error {
	if vm.dataFrom != nil && bytes.Equal(vm.dataFrom, data) {
		return nil
	}
	vm.dataFrom = nil
	if _, err := in.Call(ctx, "opa_heap_ptr_set", uint64(vm.base)); err != nil {
		return err
	}
	text, err := put(ctx, in, data)
	if err != nil {
		return err
	}
	addr, err := in.Call(ctx, "opa_json_parse", text, uint64(len(data)))
	if err != nil {
		return err
	}
	if uint32(addr) == 0 {
		return errNotParsed
	}
	mark, err := in.Call(ctx, "opa_heap_ptr_get")
	if err != nil {
		return err
	}
	vm.data, vm.mark, vm.dataFrom = uint32(addr), uint32(mark), data
	return nil
}

// eval asks the entry point and returns the result set as JSON. It is the guest's memory.
func (vm *machine) eval(ctx context.Context, in *guest.Instance, input []byte, oneCall bool) ([]byte, error) {
	if _, err := in.Call(ctx, "opa_heap_ptr_set", uint64(vm.mark)); err != nil {
		return nil, err
	}
	text, err := put(ctx, in, input)
	if err != nil {
		return nil, err
	}
	var addr uint64
	if oneCall {
		heap, err := in.Call(ctx, "opa_heap_ptr_get")
		if err != nil {
			return nil, err
		}
		addr, err = in.Call(ctx, "opa_eval", 0, uint64(uint32(vm.entrypoint)), uint64(vm.data), text, uint64(len(input)), heap, 0)
		if err != nil {
			return nil, err
		}
	} else if addr, err = vm.evalInSteps(ctx, in, text, len(input)); err != nil {
		return nil, err
	}
	return terminated(in, uint32(addr))
}

// evalInSteps is for modules of ABI 1.0 and 1.1, which have no opa_eval.
func (vm *machine) evalInSteps(ctx context.Context, in *guest.Instance, text uint64, n int) (uint64, error) {
	input, err := in.Call(ctx, "opa_json_parse", text, uint64(n))
	if err != nil {
		return 0, err
	}
	if uint32(input) == 0 {
		return 0, errNotParsed
	}
	c, err := in.Call(ctx, "opa_eval_ctx_new")
	if err != nil {
		return 0, err
	}
	set := func(name string, v uint64) {
		if err == nil {
			_, err = in.Call(ctx, name, c, v)
		}
	}
	set("opa_eval_ctx_set_input", input)
	set("opa_eval_ctx_set_data", uint64(vm.data))
	if vm.entrypoint != 0 {
		set("opa_eval_ctx_set_entrypoint", uint64(uint32(vm.entrypoint)))
	}
	if err == nil {
		_, err = in.Call(ctx, "eval", c)
	}
	if err != nil {
		return 0, err
	}
	result, err := in.Call(ctx, "opa_eval_ctx_get_result", c)
	if err != nil {
		return 0, err
	}
	return in.Call(ctx, "opa_json_dump", result)
}
