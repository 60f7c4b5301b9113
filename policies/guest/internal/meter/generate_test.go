package meter_test

import (
	"fmt"
	"strings"

	"github.com/pintle/pintle/policies/internal/asm"
)

// generator writes valid modules out of arbitrary bytes: calls of every kind, recursion, loops, branches of every
// kind, memory, tables. Everything ends, because each loop's turn and each call takes one of the steps that global 0
// holds, and there is a trap when they are used up.
type generator struct {
	choices []byte
	at      int
	types   []genType
	out     strings.Builder
	room    int // statements that may still be written
	fn      genType
	labels  []bool // of blocks without values, innermost last: true for a loop
}

type genType struct{ params, results asm.Types }

const (
	genLocals = 4 // i32, i64, i32, i64, behind the parameters
	genSteps  = 1500
)

func (g *generator) pick(n int) int {
	if g.at >= len(g.choices) {
		return 0
	}
	g.at++
	return int(g.choices[g.at-1]) % n
}

func (g *generator) emit(format string, args ...any) { fmt.Fprintf(&g.out, format+" ", args...) }

func generate(choices []byte) []byte {
	g := &generator{choices: choices}
	m := &asm.Module{}
	kinds := []genType{
		{asm.Types{asm.I32, asm.I64}, asm.Types{asm.I32}},
		{asm.Types{asm.I32, asm.I64}, asm.Types{asm.I64}},
		{asm.Types{asm.I32, asm.I64}, nil},
		{asm.Types{asm.I32, asm.I64}, asm.Types{asm.I32, asm.I64}},
	}
	n := 2 + g.pick(4)
	for i := range n {
		g.types = append(g.types, kinds[(g.pick(len(kinds))+i)%len(kinds)])
	}
	m.Memory(1, 4)
	m.Table(asm.FuncRef, 8, 20)
	m.Global(asm.I32, "i32.const 0")
	m.Global(asm.I32, "i32.const 7")
	m.Global(asm.I64, "i64.const -3")
	for i, t := range g.types {
		g.fn, g.room = t, 12+g.pick(30)
		g.out.Reset()
		g.step()
		g.statements(3)
		g.results()
		f := m.Func(t.params, t.results, asm.Types{asm.I32, asm.I64, asm.I32, asm.I64}, g.out.String())
		m.Export(fmt.Sprint("f", i), 0, f)
		m.Elem(uint32(i), f)
	}
	m.PassiveData([]byte("some bytes that memory.init may copy"))
	for i := range 3 {
		m.Export(fmt.Sprint("g", i), 3, uint32(i))
	}
	m.Export("memory", 2, 0)
	if g.pick(4) == 1 {
		m.Start(m.Func(nil, nil, nil, "i32.const 0 i32.const 77 i32.store 4"))
	}
	return m.Bytes()
}

func (g *generator) step() {
	g.emit("global.get 0 i32.eqz if unreachable end global.get 0 i32.const 1 i32.sub global.set 0")
}

func (g *generator) statements(depth int) {
	for range 1 + g.pick(4) {
		if g.room <= 0 {
			return
		}
		g.room--
		g.statement(depth)
	}
}

func (g *generator) results() {
	for _, t := range g.fn.results {
		g.expr(t, 1)
	}
}

// body writes statements under a label of their own.
func (g *generator) body(loop bool, depth int) {
	g.labels = append(g.labels, loop)
	g.statements(depth)
	g.labels = g.labels[:len(g.labels)-1]
}

func (g *generator) statement(depth int) {
	if depth == 0 {
		g.simple()
		return
	}
	switch g.pick(14) {
	case 0:
		g.emit("block")
		g.body(false, depth-1)
		g.emit("end")
	case 1, 2:
		g.emit("loop")
		g.step()
		g.body(true, depth-1)
		if g.pick(2) == 0 {
			g.expr(asm.I32, 1)
			g.emit("i32.const 3 i32.and br_if 0")
		}
		g.emit("end")
	case 3, 4:
		g.expr(asm.I32, 2)
		g.emit("if")
		g.body(false, depth-1)
		if g.pick(2) == 0 {
			g.emit("else")
			g.body(false, depth-1)
		}
		g.emit("end")
	case 5:
		if len(g.labels) > 0 {
			g.expr(asm.I32, 1)
			g.emit("br_if %d", g.pick(len(g.labels)))
		}
	case 6: // in an arm of its own, since nothing behind it is reached
		g.expr(asm.I32, 1)
		g.emit("if")
		g.labels = append(g.labels, false)
		switch g.pick(4) {
		case 0:
			g.results()
			g.emit("return")
		case 1: // to the function's own label
			g.results()
			g.emit("br %d", len(g.labels))
		case 2:
			g.tail()
		default:
			g.emit("br %d", g.pick(len(g.labels)))
		}
		g.labels = g.labels[:len(g.labels)-1]
		g.emit("end")
	case 7:
		g.emit("block block block")
		g.labels = append(g.labels, false, false, false)
		g.expr(asm.I32, 1)
		g.emit("br_table 3 %d %d %d %d", g.pick(len(g.labels)), g.pick(3), g.pick(3), g.pick(3))
		g.labels = g.labels[:len(g.labels)-3]
		g.emit("end")
		g.labels = append(g.labels, false, false)
		g.statements(depth - 1)
		g.emit("end")
		g.labels = g.labels[:len(g.labels)-1]
		g.statements(depth - 1)
		g.emit("end")
		g.labels = g.labels[:len(g.labels)-1]
	default:
		g.simple()
	}
}

func (g *generator) simple() {
	switch g.pick(14) {
	case 0, 1:
		g.expr(asm.I32, 3)
		g.emit("local.set %d", []int{0, 2, 4}[g.pick(3)])
	case 2, 3:
		g.expr(asm.I64, 3)
		g.emit("local.set %d", []int{1, 3, 5}[g.pick(3)])
	case 4:
		g.expr(asm.I32, 2)
		g.emit("global.set 1")
	case 5:
		g.expr(asm.I64, 2)
		g.emit("global.set 2")
	case 6:
		g.address()
		g.expr(asm.I32, 2)
		g.emit("i32.store 0")
	case 7:
		g.address()
		g.expr(asm.I64, 2)
		g.emit("i64.store 8")
	case 8:
		f := g.pick(len(g.types))
		g.call(f)
		for range g.types[f].results {
			g.emit("drop")
		}
	case 9:
		g.address()
		g.expr(asm.I32, 1)
		g.expr(asm.I32, 1)
		g.emit("i32.const 0xfff i32.and memory.fill")
	case 10:
		g.address()
		g.address()
		g.expr(asm.I32, 1)
		g.emit("i32.const 0xffff i32.and memory.copy")
	case 11:
		g.address()
		g.emit("i32.const %d i32.const %d memory.init", g.pick(30), g.pick(10))
	case 12:
		g.emit("ref.null.func i32.const %d table.grow 0 drop", g.pick(5))
	case 13:
		g.expr(asm.I32, 1)
		g.emit("if unreachable end")
	}
}

func (g *generator) call(f int) {
	g.emit("local.get %d local.get %d", []int{0, 2, 4}[g.pick(3)], []int{1, 3, 5}[g.pick(3)])
	if g.pick(3) == 0 {
		g.emit("i32.const %d call_indirect %d 0", f, g.typeIndex(g.types[f]))
		return
	}
	g.emit("call %d", f)
}

// typeIndex relies on types being numbered as functions first use them.
func (g *generator) typeIndex(t genType) int {
	seen := map[string]int{}
	for _, u := range g.types {
		if _, ok := seen[string(u.results)]; !ok {
			seen[string(u.results)] = len(seen)
		}
	}
	return seen[string(t.results)]
}

// tail calls a function that returns what this one does, as its last act.
func (g *generator) tail() {
	for f, t := range g.types {
		if string(t.results) == string(g.fn.results) {
			g.emit("local.get 0 local.get 1 return_call %d", f)
			return
		}
	}
}

func (g *generator) address() {
	g.expr(asm.I32, 1)
	if g.pick(8) > 0 {
		g.emit("i32.const 0xffff i32.and")
	}
}

func (g *generator) expr(t byte, depth int) {
	if t == asm.I32 {
		g.expr32(depth)
	} else {
		g.expr64(depth)
	}
}

func (g *generator) expr32(depth int) {
	if depth == 0 {
		switch g.pick(4) {
		case 0:
			g.emit("i32.const %d", g.pick(256)-128)
		case 1:
			g.emit("global.get 1")
		default:
			g.emit("local.get %d", []int{0, 2, 4}[g.pick(3)])
		}
		return
	}
	switch g.pick(12) {
	case 0, 1, 2:
		g.expr32(depth - 1)
		g.expr32(depth - 1)
		g.emit([]string{"i32.add", "i32.sub", "i32.mul", "i32.xor", "i32.shl", "i32.lt_s", "i32.eq", "i32.div_s", "i32.rem_u"}[g.pick(9)])
	case 3:
		g.expr64(depth - 1)
		g.emit("i32.wrap_i64")
	case 4:
		g.address()
		g.emit("i32.load 4")
	case 5:
		g.emit("memory.size")
	case 6:
		g.emit("i32.const %d memory.grow", []int{0, 1, 2, 100000}[g.pick(4)])
	case 7:
		g.expr32(depth - 1)
		g.emit("if i32")
		g.expr32(depth - 1)
		g.emit("else")
		g.expr32(depth - 1)
		g.emit("end")
	case 8:
		for f, t := range g.types {
			if len(t.results) == 1 && t.results[0] == asm.I32 {
				g.call(f)
				return
			}
		}
		g.emit("i32.const 5")
	case 9:
		g.expr32(depth - 1)
		g.expr32(depth - 1)
		g.expr32(depth - 1)
		g.emit("select")
	case 10:
		g.emit("block i32")
		g.expr32(depth - 1)
		g.expr32(depth - 1)
		g.emit("br_if 0 drop")
		g.expr32(depth - 1)
		g.emit("end")
	default:
		g.expr32(0)
	}
}

func (g *generator) expr64(depth int) {
	if depth == 0 {
		switch g.pick(4) {
		case 0:
			g.emit("i64.const %d", g.pick(256)*1000003-9)
		case 1:
			g.emit("global.get 2")
		default:
			g.emit("local.get %d", []int{1, 3, 5}[g.pick(3)])
		}
		return
	}
	switch g.pick(7) {
	case 0, 1, 2:
		g.expr64(depth - 1)
		g.expr64(depth - 1)
		g.emit([]string{"i64.add", "i64.sub", "i64.mul", "i64.xor", "i64.rotl", "i64.div_u", "i64.rem_s"}[g.pick(7)])
	case 3:
		g.expr32(depth - 1)
		g.emit("i64.extend_i32_s")
	case 4:
		g.address()
		g.emit("i64.load 0")
	case 5:
		for f, t := range g.types {
			if len(t.results) == 1 && t.results[0] == asm.I64 {
				g.call(f)
				return
			}
		}
		g.emit("i64.const 5")
	default:
		g.expr64(0)
	}
}
