// Package asm writes WebAssembly modules for tests: a module from Go calls, a function's code from the words of the
// text format ("local.get 0 i32.const 1 i32.add"), without folding and without names.
package asm

import "fmt"

// Value types.
const (
	I32       = 0x7f
	I64       = 0x7e
	F32       = 0x7d
	F64       = 0x7c
	V128      = 0x7b
	FuncRef   = 0x70
	ExternRef = 0x6f
)

// Types is a list of value types.
type Types = []byte

// Module collects what a module consists of. Imports come before everything that counts indices.
type Module struct {
	types, imports, funcs, tables, memories, globals, exports, elems, codes, datas vector

	customs   []byte
	start     []byte
	dataCount bool
	typeIndex map[string]uint32
	funcIndex uint32
}

type vector struct {
	n    uint32
	body []byte
}

func (v *vector) add(b ...byte) uint32 {
	v.body = append(v.body, b...)
	v.n++
	return v.n - 1
}

// Type returns the index of a function type.
func (m *Module) Type(params, results Types) uint32 {
	b := append([]byte{0x60}, U32(uint32(len(params)))...)
	b = append(append(b, params...), U32(uint32(len(results)))...)
	b = append(b, results...)
	if i, ok := m.typeIndex[string(b)]; ok {
		return i
	}
	if m.typeIndex == nil {
		m.typeIndex = map[string]uint32{}
	}
	i := m.types.add(b...)
	m.typeIndex[string(b)] = i
	return i
}

// ImportFunc returns the function's index.
func (m *Module) ImportFunc(module, name string, params, results Types) uint32 {
	m.imports.add(append(append(append(Name(module), Name(name)...), 0), U32(m.Type(params, results))...)...)
	m.funcIndex++
	return m.funcIndex - 1
}

// Import adds an import of any kind: desc is as encoded, its kind first.
func (m *Module) Import(module, name string, desc ...byte) {
	m.imports.add(append(append(Name(module), Name(name)...), desc...)...)
}

// Func adds a function and returns its index. Locals count beside the parameters.
func (m *Module) Func(params, results, locals Types, code string) uint32 {
	return m.FuncBytes(params, results, locals, append(Code(code), 0x0b))
}

// FuncBytes is Func with code as encoded, its end included.
func (m *Module) FuncBytes(params, results, locals Types, code []byte) uint32 {
	body := U32(uint32(len(locals)))
	for _, t := range locals {
		body = append(body, 1, t)
	}
	return m.FuncBody(m.Type(params, results), append(body, code...))
}

// FuncBody adds a function whose body is as encoded, declarations of locals included.
func (m *Module) FuncBody(typ uint32, body []byte) uint32 {
	m.funcs.add(U32(typ)...)
	m.codes.add(append(U32(uint32(len(body))), body...)...)
	m.funcIndex++
	return m.funcIndex - 1
}

// Memory adds a memory; most < 0: without a maximum.
func (m *Module) Memory(least uint32, most int) { m.memories.add(limits(least, most)...) }

// Table adds a table and returns its index.
func (m *Module) Table(elem byte, least uint32, most int) uint32 {
	return m.tables.add(append([]byte{elem}, limits(least, most)...)...)
}

func limits(least uint32, most int) []byte {
	if most < 0 {
		return append([]byte{0}, U32(least)...)
	}
	return append(append([]byte{1}, U32(least)...), U32(uint32(most))...)
}

// Global adds a mutable global.
func (m *Module) Global(t byte, init string) uint32 {
	return m.globals.add(append(append([]byte{t, 1}, Code(init)...), 0x0b)...)
}

// Export exports; kind: 0 a function, 1 a table, 2 the memory, 3 a global.
func (m *Module) Export(name string, kind byte, index uint32) {
	m.exports.add(append(append(Name(name), kind), U32(index)...)...)
}

// Elem fills table 0 from an index on.
func (m *Module) Elem(at uint32, funcs ...uint32) {
	b := append(append([]byte{0}, Code(fmt.Sprint("i32.const ", at))...), 0x0b)
	b = append(b, U32(uint32(len(funcs)))...)
	for _, f := range funcs {
		b = append(b, U32(f)...)
	}
	m.elems.add(b...)
}

// Data fills the memory from an address on.
func (m *Module) Data(at int64, data []byte) {
	b := append(append([]byte{0}, Code(fmt.Sprint("i32.const ", int32(at)))...), 0x0b)
	m.datas.add(append(append(b, U32(uint32(len(data)))...), data...)...)
}

// PassiveData is for memory.init.
func (m *Module) PassiveData(data []byte) {
	m.dataCount = true
	m.datas.add(append(append([]byte{1}, U32(uint32(len(data)))...), data...)...)
}

// Start names the start function.
func (m *Module) Start(f uint32) { m.start = U32(f) }

// Custom adds a custom section behind all others.
func (m *Module) Custom(name string, data []byte) {
	m.customs = append(m.customs, Section(0, append(Name(name), data...))...)
}

// Bytes returns the module.
func (m *Module) Bytes() []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	vec := func(id byte, v vector) {
		if v.n > 0 {
			b = append(b, Section(id, append(U32(v.n), v.body...))...)
		}
	}
	vec(1, m.types)
	vec(2, m.imports)
	vec(3, m.funcs)
	vec(4, m.tables)
	vec(5, m.memories)
	vec(6, m.globals)
	vec(7, m.exports)
	if m.start != nil {
		b = append(b, Section(8, m.start)...)
	}
	vec(9, m.elems)
	if m.dataCount {
		b = append(b, Section(12, U32(m.datas.n))...)
	}
	vec(10, m.codes)
	vec(11, m.datas)
	return append(b, m.customs...)
}

// Section encodes a section.
func Section(id byte, body []byte) []byte {
	return append(append([]byte{id}, U32(uint32(len(body)))...), body...)
}

// Name encodes a string.
func Name(s string) []byte { return append(U32(uint32(len(s))), s...) }

// U32 encodes an unsigned number.
func U32(v uint32) []byte {
	var b []byte
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

// S64 encodes a signed number.
func S64(v int64) []byte {
	var b []byte
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
