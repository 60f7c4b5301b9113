package meter

import (
	"fmt"
	"math"
)

// A plan says where a function's code is to be charged for, and how much.
//
// A point is a place where fuel is taken. Straight code is charged at its beginning, and so is what follows a block that is
// only left at its end. Code behind a branch is charged with the point before the branch while that stays cheap (at most
// spare for each point, over what is certain to be executed; of two arms the dearer one), because a point costs more than
// the few instructions that a branch usually skips; beyond that it gets a point of its own. A loop's header always has a point, and looks whether fuel is left; so does the entry of
// a function that calls. The others only subtract: at most the length of the function goes by until somebody looks.
//
// A short function that neither calls nor loops (a leaf) isn't charged at all: whoever calls it pays for it, and the
// fuel needn't leave its register.
type plan struct {
	points []point
	edits  []edit // by place
	code   int    // where the code begins, behind the declarations of locals
	locals int    // parameters and locals
	jumps  uint64 // blocks, branches and their labels

	loops   bool
	callees []callee
	calls   bool // anything, outside of loops: what calls in a loop passes its header first
	lengths bool // has instructions that are charged by length
}

type point struct {
	at    int
	depth int // blocks that are open, the function itself not among them
	cost  uint64
	spare uint64
	check bool
}

// callee is a call: who pays for it, and to whom. of is anyone for a call through a table.
type callee struct {
	point int
	of    uint32
}

// effort estimates how long wazero takes to compile the function, above what any function of its length takes: it
// grows with the square of the jumps, and with jumps times locals. 10⁸ is about a second.
func (p *plan) effort() uint64 { return p.jumps * (p.jumps + 200*uint64(p.locals)) }

const anyone = 1<<32 - 1

// spare is what a point may charge for code that a branch may skip.
const spare = 32

type edit struct {
	at    int
	depth int
	kind  editKind
	arg   int
}

type editKind byte

const (
	editPoint  editKind = iota // arg: which
	editCall                   // before a call; arg: which of the callees
	editBack                   // behind it; arg likewise
	editReturn                 // before return or a tail call
	editLength                 // before an instruction whose cost depends on the i32 on top; arg: shift
	editGrow                   // before memory.grow or table.grow
	editGrown                  // behind it; arg: shift
)

type frame struct {
	op     byte
	at     int  // the point that is in effect before it; -1: the code is dead
	loop   bool // it is a loop, or stands in one
	until  int  // planner.until before it
	escape int  // the outermost frame that a branch in it goes to

	// Of an if: what its point charged before it, and with the first arm.
	before, then charged
}

type charged struct{ cost, spare uint64 }

// planner walks through the code of one function.
type planner struct {
	*plan
	m      *Module
	r      *reader
	frames []frame

	point int // in effect; -1: the code is dead
	until int // the frame at whose end the code is again certain to follow its point; certainly: it is now
	// The segment is the code since the last branch or label.
	from    int
	depth   int
	cost    uint64
	certain bool // whoever passes its point executes it
	called  int  // of callees, how many came before it
}

const certainly = math.MaxInt

func (m *Module) plan(fn int) (*plan, error) {
	w := &planner{plan: &plan{}, m: m, r: &reader{b: m.bodies[fn]}}
	if err := w.declarations(len(m.types[m.funcTypes[m.imported.funcs+fn]].params)); err != nil {
		return nil, err
	}
	w.code = w.r.pos
	w.frames = append(w.frames, frame{op: opBlock, until: certainly, escape: certainly})
	w.begin(false)
	for len(w.frames) > 0 && w.r.err == nil {
		w.step()
	}
	if w.r.err == nil && w.r.left() > 0 {
		w.r.fail("%d bytes behind the end", w.r.left())
	}
	w.points[0].check = w.calls
	for i, p := range w.points {
		if i > 0 {
			w.edits = append(w.edits, edit{p.at, p.depth, editPoint, i})
		}
	}
	return w.plan, w.r.err
}

func (w *planner) declarations(params int) error {
	w.locals = params
	for range w.r.count(2) {
		n := w.r.u32()
		parseValueType(w.r)
		if n > maxLocals || w.locals+int(n) > maxLocals {
			return fmt.Errorf("more than %d locals", maxLocals)
		}
		w.locals += int(n)
	}
	return w.r.err
}

// begin opens a segment with a point of its own here.
func (w *planner) begin(check bool) {
	w.points = append(w.points, point{at: w.r.pos, depth: w.open(), check: check})
	w.point = len(w.points) - 1
	w.until = certainly
	w.next()
}

func (w *planner) open() int { return len(w.frames) - 1 }

// split ends the segment before the current position and begins another, under the same point or a new one.
func (w *planner) split() {
	if w.point >= 0 && w.cost > 0 {
		switch p := &w.points[w.point]; {
		case w.certain:
			p.cost += w.cost
		case p.spare+w.cost <= spare:
			p.cost += w.cost
			p.spare += w.cost
		default:
			w.points = append(w.points, point{at: w.from, depth: w.depth, cost: w.cost})
			w.point = len(w.points) - 1
			w.until = certainly
		}
	}
	for i := range w.callees[w.called:] {
		w.callees[w.called+i].point = w.point
	}
	w.called = len(w.callees)
	w.next()
}

// next begins a segment here.
func (w *planner) next() {
	w.from, w.depth, w.cost, w.certain = w.r.pos, w.open(), 0, w.until == certainly
}

// escape notes a branch from here to a frame: who takes it skips what follows, up to that frame's end.
func (w *planner) escape(to int) {
	to = max(to, 0)
	top := &w.frames[w.open()]
	top.escape, w.until = min(top.escape, to), min(w.until, to)
}

// charged is what the point in effect charges so far.
func (w *planner) charged() charged {
	if w.point < 0 {
		return charged{}
	}
	return charged{w.points[w.point].cost, w.points[w.point].spare}
}

func (w *planner) charge(c charged) {
	if w.point >= 0 {
		w.points[w.point].cost, w.points[w.point].spare = c.cost, c.spare
	}
}

func (w *planner) edit(at int, kind editKind, arg int) {
	if w.point >= 0 {
		w.edits = append(w.edits, edit{at, w.open(), kind, arg})
	}
}

func (w *planner) step() {
	r := w.r
	at := r.pos
	op := r.byte()
	w.cost += cost(op)
	switch op {
	case opBlock, opLoop, opIf:
		w.jumps++
		w.blockType()
		if op != opBlock {
			w.split()
		}
		w.frames = append(w.frames, frame{op: op, at: w.point, loop: op == opLoop || w.frames[w.open()].loop,
			until: w.until, escape: certainly, before: w.charged()})
		if op == opIf {
			w.until = min(w.until, w.open())
			w.next()
		}
		if op == opLoop && w.point >= 0 {
			w.loops = true
			w.begin(true)
		}
		return
	case opElse, opEnd:
		top := w.frames[len(w.frames)-1]
		if op == opElse && top.op != opIf {
			r.fail("an else without an if")
			return
		}
		w.split()
		w.point, w.until = top.at, top.until
		if op == opElse {
			t := &w.frames[w.open()]
			t.op, t.then = opElse, w.charged()
			w.charge(top.before)
			w.until = min(w.until, w.open())
			w.next()
			return
		}
		if top.op == opElse {
			now := w.charged()
			w.charge(charged{max(top.then.cost, now.cost), max(top.then.spare, now.spare)})
		}
		w.frames = w.frames[:len(w.frames)-1]
		if top.escape <= w.open() {
			w.escape(top.escape)
		}
		w.next()
		return
	}
	index, misc := immediates(r, op)
	if r.err != nil {
		return
	}
	w.check(op, index)
	switch op {
	case opBrIf:
		w.jumps++
		w.split()
		w.escape(w.open() - int(index))
		w.next()
	case opReturn, opReturnCall, opReturnCallIndirect:
		w.escape(0)
		w.edit(at, editReturn, 0)
		w.call(op, index)
		w.dead()
	case opBr, opBrTable, opUnreachable:
		w.jumps += uint64(r.pos - at - 1) // about one a byte
		switch op {
		case opBr:
			w.escape(w.open() - int(index))
		case opBrTable:
			w.escape(0)
		}
		w.dead()
	case opCall, opCallIndirect:
		w.edit(at, editCall, len(w.callees))
		if r.left() > 0 && r.b[r.pos] != opUnreachable {
			w.edit(r.pos, editBack, len(w.callees))
		}
		w.call(op, index)
	case opMemoryGrow:
		w.grow(at, shiftPages)
	case opMisc:
		switch misc {
		case miscMemoryInit, miscMemoryCopy, miscMemoryFill:
			w.length(at, shiftBytes)
		case miscTableInit, miscTableCopy, miscTableFill:
			w.length(at, shiftElems)
		case miscTableGrow:
			w.cost += costHost
			w.grow(at, shiftElems)
		}
	}
}

func (w *planner) dead() {
	w.split()
	w.point = -1
}

func (w *planner) length(at, shift int) {
	w.lengths = true
	w.edit(at, editLength, shift)
}

func (w *planner) grow(at, shift int) {
	w.lengths = true
	w.edit(at, editGrow, 0)
	w.edit(w.r.pos, editGrown, shift)
}

func (w *planner) call(op byte, index uint32) {
	if w.point < 0 {
		return
	}
	switch op {
	case opCall, opReturnCall:
		w.calls = w.calls || !w.frames[w.open()].loop
		w.callees = append(w.callees, callee{of: index})
		if int(index) < w.m.imported.funcs {
			w.cost += costHost
		}
	case opCallIndirect, opReturnCallIndirect:
		w.calls = w.calls || !w.frames[w.open()].loop
		w.callees = append(w.callees, callee{of: anyone})
	}
}

// check refuses indices that would reach what the rewritten module adds.
func (w *planner) check(op byte, index uint32) {
	switch op {
	case opLocalGet, opLocalSet, opLocalTee:
		if int(index) >= w.locals {
			w.r.fail("local %d isn't there", index)
		}
	case opGlobalGet, opGlobalSet:
		if int(index) >= w.m.globals {
			w.r.fail("global %d isn't there", index)
		}
	case opCall, opReturnCall:
		if int(index) >= len(w.m.funcTypes) {
			w.r.fail("function %d isn't there", index)
		}
	case opCallIndirect, opReturnCallIndirect:
		if int(index) >= len(w.m.types) {
			w.r.fail("type %d isn't there", index)
		}
	case opRefFunc:
		if int(index) >= len(w.m.funcTypes) || !w.m.declared[index] {
			w.r.fail("a reference to function %d, which isn't declared", index)
			return
		}
		w.m.elemFuncs = append(w.m.elemFuncs, index)
	case opBr, opBrIf:
		if int(index) >= len(w.frames) {
			w.r.fail("a branch out of the function")
		}
	}
}

func (w *planner) blockType() {
	at := w.r.pos
	v := w.r.signed(33)
	if v >= 0 {
		if v >= int64(len(w.m.types)) {
			w.r.fail("type %d isn't there", v)
		}
		return
	}
	if w.r.pos != at+1 {
		w.r.fail("a block's type in an unknown form")
		return
	}
	if c := w.r.b[at]; c != typeVoid {
		switch c {
		case 0x7f, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f:
		default:
			w.r.fail("a block of type %#x, which this host doesn't know", c)
		}
	}
}
