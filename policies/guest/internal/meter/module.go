package meter

import (
	"bytes"
	"errors"
	"fmt"
)

// What a rewritten module exports beside the original's. Guests can't import their own exports, and a module that
// exports one of these names already is refused.
const (
	FuelExport  = "pintle:fuel"
	StartExport = "pintle:start"
)

// The global holds fuel << FuelShift + stack, so that a call takes both with one subtraction. The stack counts in units,
// and what is left of it stays below StackSign: that bit is set when it has been overdrawn.
const (
	FuelShift = 20
	FuelMost  = 1<<(62-FuelShift) - 1
	StackUnit = 16 // bytes
	StackSign = 1 << (FuelShift - 1)
	StackMost = StackSign - 1 // units

	// What the global holds when a function has stopped itself. Any value below zero means that the fuel is used up.
	OutOfFuel  = -1
	OutOfStack = -2
)

// Kind is what is imported or exported.
type Kind byte

const (
	Func Kind = iota
	Table
	Memory
	Global
)

func (k Kind) String() string { return [...]string{"func", "table", "memory", "global"}[k] }

// Extern is an import or an export. The types are of a function, each a byte as encoded.
type Extern struct {
	Module, Name    string
	Kind            Kind
	Params, Results []byte

	index uint32 // of an export
}

// Custom is a custom section. Data aliases the module's bytes.
type Custom struct {
	Name string
	Data []byte
}

// Module is what Parse found.
type Module struct {
	Imports  []Extern
	Exports  []Extern
	Customs  []Custom
	MinPages uint32 // that the memory begins with
	Starts   bool   // has a start function

	sections   []section
	types      []funcType
	funcTypes  []uint32 // by function index, imported ones first
	globals    int
	imported   struct{ funcs, globals, tables int }
	importSect []byte // entries other than memories
	importN    int
	memory     []byte // the limits of an imported memory
	memories   int
	tables     []table
	start      uint32
	elemFuncs  []uint32 // whatever may be called through a reference
	declared   []bool   // functions that ref.func may name
	dataCount  int      // -1: not declared
	datas      int
	bodies     [][]byte
}

type section struct {
	id   byte
	body []byte
}

type funcType struct{ params, results []byte }

type table struct {
	elem     byte
	min, max uint32
	bounded  bool
	imported bool
}

// Sections, by id.
const (
	sectCustom    = 0
	sectType      = 1
	sectImport    = 2
	sectFunction  = 3
	sectTable     = 4
	sectMemory    = 5
	sectGlobal    = 6
	sectExport    = 7
	sectStart     = 8
	sectElement   = 9
	sectCode      = 10
	sectData      = 11
	sectDataCount = 12
	sectTag       = 13
)

// order of the sections; custom ones stand anywhere.
var order = [...]int{sectType: 1, sectImport: 2, sectFunction: 3, sectTable: 4, sectMemory: 5, sectGlobal: 6, sectExport: 7,
	sectStart: 8, sectElement: 9, sectDataCount: 10, sectCode: 11, sectData: 12}

const (
	maxTypes  = 1000    // parameters or results of one function, as in browsers
	maxLocals = 50_000  // of one function, likewise
	maxFuncs  = 1 << 20 // of a module, likewise
)

// Parse reads a module. It keeps parts of wasm, which must not change afterwards.
func Parse(wasm []byte) (*Module, error) {
	if !bytes.HasPrefix(wasm, []byte("\x00asm")) {
		return nil, errors.New("it isn't WebAssembly: it doesn't begin with \\0asm")
	}
	switch {
	case len(wasm) >= 8 && bytes.Equal(wasm[4:8], []byte{0x0d, 0, 1, 0}):
		return nil, errors.New("it is a component: build a core module (for instance, target wasm32-wasip1)")
	case len(wasm) < 8 || !bytes.Equal(wasm[4:8], []byte{1, 0, 0, 0}):
		return nil, errors.New("it isn't of WebAssembly's version 1")
	}
	m := &Module{dataCount: -1}
	r := &reader{b: wasm, pos: 8}
	last := 0
	for r.err == nil && r.left() > 0 {
		id := r.byte()
		body := r.bytes(r.count(1))
		if r.err != nil {
			break
		}
		if id == sectTag {
			return nil, errors.New("it uses exceptions, which this host doesn't run: build it without them")
		}
		if int(id) >= len(order) {
			return nil, fmt.Errorf("it has a section of unknown kind %d", id)
		}
		if id != sectCustom {
			if order[id] <= last {
				return nil, fmt.Errorf("its %s section is out of order", sectionName(id))
			}
			last = order[id]
		}
		if err := m.parseSection(id, body); err != nil {
			return nil, fmt.Errorf("%s section: %w", sectionName(id), err)
		}
		m.sections = append(m.sections, section{id, body})
	}
	if r.err != nil {
		return nil, r.err
	}
	return m, m.check()
}

// check looks at what several sections say together.
func (m *Module) check() error {
	switch defined := len(m.funcTypes) - m.imported.funcs; {
	case len(m.bodies) != defined:
		return fmt.Errorf("it declares %d functions and has code for %d", defined, len(m.bodies))
	case m.dataCount >= 0 && m.dataCount != m.datas:
		return fmt.Errorf("it declares %d data segments and has %d", m.dataCount, m.datas)
	case m.memories > 1:
		return errors.New("it has more than one memory")
	}
	seen := map[string]bool{}
	for i := range m.Exports {
		e := &m.Exports[i]
		if seen[e.Name] {
			return fmt.Errorf("it exports %q twice", e.Name)
		}
		seen[e.Name] = true
		switch e.Name {
		case FuelExport, StartExport:
			return fmt.Errorf("it exports %q, a name that is reserved", e.Name)
		}
		have := [...]int{Func: len(m.funcTypes), Table: len(m.tables), Memory: m.memories, Global: m.globals}[e.Kind]
		if int(e.index) >= have {
			return fmt.Errorf("it exports as %q a %s that it doesn't have", e.Name, e.Kind)
		}
		if e.Kind == Func {
			t := m.types[m.funcTypes[e.index]]
			e.Params, e.Results = t.params, t.results
		}
	}
	m.declared = make([]bool, len(m.funcTypes))
	for _, f := range m.elemFuncs {
		if int(f) >= len(m.funcTypes) {
			return fmt.Errorf("it refers to function %d, and has %d", f, len(m.funcTypes))
		}
		m.declared[f] = true
	}
	for _, e := range m.Exports {
		if e.Kind == Func {
			m.declared[e.index] = true
		}
	}
	if m.Starts {
		if int(m.start) >= len(m.funcTypes) {
			return errors.New("its start function isn't there")
		}
		if t := m.types[m.funcTypes[m.start]]; len(t.params)+len(t.results) > 0 {
			return errors.New("its start function takes or returns something")
		}
	}
	return nil
}

func sectionName(id byte) string {
	names := [...]string{"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element",
		"code", "data", "data count", "tag"}
	return names[id]
}
