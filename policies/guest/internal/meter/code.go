package meter

import (
	"math"
	"slices"
)

// Fuel is taken in one of two ways. A function without loops works on the global. In one with loops the fuel is in a local,
// which wazero's compiler keeps in a register where the global would be loaded and stored in each turn; the global is
// brought up to date before everything that may look at it: calls, and the function's end.
type emitter struct {
	m      *Module
	p      *plan
	out    []byte
	leaves []uint64
	local  bool   // fuel is in a local
	fuel   uint32 // the local
	length uint32 // a local i32
	result uint32 // a local i32
	stack  int64  // that a call takes, in stack units; 0: the function can't recurse
}

// emit returns the code of a function, rewritten.
func (m *Module) emit(fn int, p *plan, recursive bool, leaves []uint64) []byte {
	body := m.bodies[fn]
	if leaves[fn] > 0 {
		return body
	}
	e := &emitter{m: m, p: p, leaves: leaves, local: p.loops, out: make([]byte, 0, len(body)+len(body)/4+64)}
	if recursive {
		e.stack = frameUnits(p.locals)
	}
	t := m.types[m.funcTypes[m.imported.funcs+fn]]
	e.declare(body)
	// The original stands in two blocks. The inner one takes the place of the function's label, so that branches
	// need not be renumbered, and whoever leaves passes its end. The outer one is left when something is
	// exhausted: one place for all checks, at the end, so that wazero's compiler keeps it out of the way.
	blocks := e.local || recursive || p.lengths || p.points[0].check // loops, which check too, have the fuel in a local
	if blocks {
		e.ops(opBlock, typeVoid)
	}
	e.enter()
	if blocks {
		e.ops(opBlock)
		e.ops(m.blockType(t.results)...)
	}
	slices.SortStableFunc(p.edits, func(a, b edit) int {
		if a.at != b.at {
			return a.at - b.at
		}
		return int(a.kind.rank()) - int(b.kind.rank())
	})
	at := p.code
	for _, d := range p.edits {
		e.out = append(e.out, body[at:d.at]...)
		at = d.at
		e.apply(d)
	}
	e.out = append(e.out, body[at:]...)
	if blocks {
		e.leave()
		e.ops(opReturn, opEnd)
		e.i64(OutOfFuel)
		e.op(opGlobalSet, e.fuelGlobal())
		e.ops(opUnreachable, opEnd)
	}
	return e.out
}

// rank orders edits at one place: what belongs to the instruction before it, the point, what belongs to the next.
func (k editKind) rank() int {
	switch k {
	case editBack, editGrown:
		return 0
	case editPoint:
		return 1
	}
	return 2
}

// frameUnits is about what a call takes from wazero's stack.
func frameUnits(locals int) int64 { return int64(64+8*locals) / StackUnit }

// declare copies the declarations of locals and adds those that are needed, behind all others.
func (e *emitter) declare(body []byte) {
	r := &reader{b: body}
	groups := r.u32()
	declared := body[r.pos:e.p.code]
	next := uint32(e.p.locals)
	var added []byte
	if e.local {
		groups++
		added = append(added, 1, typeI64)
		e.fuel = next
		next++
	}
	if e.p.lengths {
		groups++
		added = append(added, 2, typeI32)
		e.length, e.result = next, next+1
	}
	e.out = appendU32(e.out, groups)
	e.out = append(e.out, declared...)
	e.out = append(e.out, added...)
}

func (e *emitter) op(op byte, index int) { e.out = appendU32(append(e.out, op), uint32(index)) }

func (e *emitter) ops(ops ...byte) { e.out = append(e.out, ops...) }

func (e *emitter) i32(v int32) { e.out = appendS64(append(e.out, opI32Const), int64(v)) }

func (e *emitter) i64(v int64) { e.out = appendS64(append(e.out, opI64Const), v) }

func (e *emitter) fuelGlobal() int { return e.m.globals }

func (e *emitter) load() {
	if e.local {
		e.op(opLocalGet, int(e.fuel))
	} else {
		e.op(opGlobalGet, e.fuelGlobal())
	}
}

func (e *emitter) store() {
	if e.local {
		e.op(opLocalSet, int(e.fuel))
	} else {
		e.op(opGlobalSet, e.fuelGlobal())
	}
}

// flush and reload do nothing where the fuel is in the global anyway.
func (e *emitter) flush() {
	if e.local {
		e.load()
		e.op(opGlobalSet, e.fuelGlobal())
	}
}

func (e *emitter) reload() {
	if e.local {
		e.op(opGlobalGet, e.fuelGlobal())
		e.store()
	}
}

// check leaves when the fuel is below zero. exhausted is the label of the outer block. This form, and neither br_if nor an if
// without an else, makes wazero's compiler compare and jump in one step, and only when there is something to leave for:
// an else is laid out late, and a conditional branch to a block with several ways in isn't merged with its comparison.
func (e *emitter) check(exhausted int) {
	e.load()
	e.i64(0)
	e.ops(opI64GeS, opIf, typeVoid, opElse)
	e.op(opBr, exhausted+1)
	e.ops(opEnd)
}

func (e *emitter) take(p point, exhausted int) {
	e.add(-int64(p.cost) << FuelShift)
	if p.check {
		e.check(exhausted)
	}
}

func (e *emitter) add(v int64) {
	if v == 0 {
		return
	}
	e.load()
	if v < 0 { // the shorter constant, for the machine too
		e.i64(-v)
		e.ops(opI64Sub)
	} else {
		e.i64(v)
		e.ops(opI64Add)
	}
	e.store()
}

func (e *emitter) enter() {
	e.reload()
	p := e.p.points[0]
	if e.stack == 0 {
		e.take(p, 0)
		return
	}
	e.add(-int64(p.cost)<<FuelShift - e.stack)
	e.load()
	e.i64(math.MinInt64 | StackSign)
	e.ops(opI64And, opI64Eqz, opIf, typeVoid, opElse)
	e.load()
	e.i64(0)
	e.ops(opI64LtS)
	e.op(opBrIf, 1)
	e.i64(OutOfStack)
	e.op(opGlobalSet, e.fuelGlobal())
	e.ops(opUnreachable, opEnd)
}

// leave gives the stack back.
func (e *emitter) leave() {
	e.add(e.stack)
	e.flush()
}

func (e *emitter) apply(d edit) {
	exhausted := d.depth + 1
	switch d.kind {
	case editPoint:
		e.take(e.p.points[d.arg], exhausted)
	case editCall:
		if !e.leaf(d.arg) {
			e.flush()
		}
	case editBack:
		if !e.leaf(d.arg) {
			e.reload()
		}
	case editReturn:
		e.leave()
	case editLength:
		e.op(opLocalTee, int(e.length))
		e.charge(d.arg, exhausted)
	case editGrow:
		e.op(opLocalTee, int(e.length))
	case editGrown: // nothing is charged when it was refused
		e.op(opLocalTee, int(e.result))
		e.i32(-1)
		e.ops(opI32Ne, opIf, typeVoid)
		e.charge(d.arg, exhausted+1)
		e.ops(opEnd)
		e.op(opLocalGet, int(e.result))
	}
}

// leaf says whether a callee doesn't look at the fuel.
func (e *emitter) leaf(i int) bool {
	c := e.p.callees[i]
	own := int(c.of) - e.m.imported.funcs
	return c.of != anyone && own >= 0 && e.leaves[own] > 0
}

// charge takes length >> shift.
func (e *emitter) charge(shift, exhausted int) {
	e.load()
	e.op(opLocalGet, int(e.length))
	e.ops(opI64ExtendI32U)
	if shift > 0 {
		e.i64(int64(shift))
		e.ops(opI64ShrU)
	}
	e.i64(int64(FuelShift - min(shift, 0)))
	e.ops(opI64Shl, opI64Sub)
	e.store()
	e.check(exhausted)
}

// blockType encodes () → results, with a type of the module's or a new one.
func (m *Module) blockType(results []byte) []byte {
	switch len(results) {
	case 0:
		return []byte{typeVoid}
	case 1:
		return results
	}
	i := slices.IndexFunc(m.types, func(t funcType) bool { return len(t.params) == 0 && slices.Equal(t.results, results) })
	if i < 0 {
		i = len(m.types)
		m.types = append(m.types, funcType{results: results})
	}
	return appendS64(nil, int64(i))
}
