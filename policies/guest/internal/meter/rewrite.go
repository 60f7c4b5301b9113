package meter

import (
	"errors"
	"fmt"
	"slices"
)

// Options bound what a rewritten module may take without fuel. Zero fields take the default.
type Options struct {
	Tables       int    // number of tables; default 16
	TableEntries uint32 // of each table, grown or not; default 131,072: functions of the largest modules fit
}

// How much effort a module may be to compile: some, and in proportion to its code several times what the most complex
// code needs that compilers make (Go's: 120 a byte). A module made to hurt needs 4,000 a byte.
const (
	effortBase    = 800_000_000 // the specification's own tests need 600 million
	effortPerByte = 400
)

func (m *Module) codeBytes() (n uint64) {
	for _, b := range m.bodies {
		n += uint64(len(b))
	}
	return n
}

// Rewrite returns the module's bytes with everything that makes it count. It must be called once.
func (m *Module) Rewrite(o Options) ([]byte, error) {
	if o.Tables == 0 {
		o.Tables = 16
	}
	if o.TableEntries == 0 {
		o.TableEntries = 1 << 17
	}
	if len(m.tables) > o.Tables {
		return nil, fmt.Errorf("it has %d tables, %d are allowed", len(m.tables), o.Tables)
	}
	plans := make([]*plan, len(m.bodies))
	effort, most := uint64(0), effortBase+effortPerByte*m.codeBytes()
	for i := range m.bodies {
		p, err := m.plan(i)
		if err != nil {
			return nil, fmt.Errorf("function %d: %w", m.imported.funcs+i, err)
		}
		plans[i] = p
		if effort += p.effort(); effort > most {
			return nil, fmt.Errorf("function %d: it would take too long to compile (%d jumps among %d locals): split it", m.imported.funcs+i, p.jumps, p.locals)
		}
	}
	recursive := m.recursive(plans)
	leaves := m.leaves(plans)
	known := len(m.types)
	code := appendU32(nil, uint32(len(plans)))
	for i, p := range plans {
		body := m.emit(i, p, recursive[i], leaves)
		code = append(appendU32(code, uint32(len(body))), body...)
		plans[i], m.bodies[i] = nil, nil
	}

	changed := map[byte][]byte{}
	if len(plans) > 0 {
		changed[sectCode] = code
	}
	if len(m.types) > known {
		changed[sectType] = m.typeSection()
	}
	if len(m.Imports) > m.importN {
		changed[sectImport] = append(appendU32(nil, uint32(m.importN)), m.importSect...)
		changed[sectMemory] = append([]byte{1}, m.memory...)
	}
	if len(m.tables) > m.imported.tables {
		var err error
		if changed[sectTable], err = m.tableSection(o.TableEntries); err != nil {
			return nil, err
		}
	}
	changed[sectGlobal] = m.grow(sectGlobal, [][]byte{{typeI64, 1, opI64Const, 0, opEnd}})
	changed[sectExport] = m.grow(sectExport, m.exports())
	return m.assemble(changed), nil
}

func (m *Module) exports() (entries [][]byte) {
	export := func(name string, kind Kind, index int) {
		entries = append(entries, appendU32(append(appendName(nil, name), byte(kind)), uint32(index)))
	}
	export(FuelExport, Global, m.globals)
	if m.Starts {
		export(StartExport, Func, int(m.start))
	}
	return entries
}

// grow returns a section, which is a vector, with more entries at its end.
func (m *Module) grow(id byte, entries [][]byte) []byte {
	var old []byte
	n := uint32(0)
	for _, s := range m.sections {
		if s.id == id {
			r := &reader{b: s.body}
			n = r.u32()
			old = s.body[r.pos:]
		}
	}
	out := append(appendU32(nil, n+uint32(len(entries))), old...)
	for _, e := range entries {
		out = append(out, e...)
	}
	return out
}

func (m *Module) typeSection() []byte {
	out := appendU32(nil, uint32(len(m.types)))
	for _, t := range m.types {
		out = append(out, 0x60)
		out = append(appendU32(out, uint32(len(t.params))), t.params...)
		out = append(appendU32(out, uint32(len(t.results))), t.results...)
	}
	return out
}

// tableSection gives every table a maximum.
func (m *Module) tableSection(most uint32) ([]byte, error) {
	own := m.tables[m.imported.tables:]
	out := appendU32(nil, uint32(len(own)))
	for _, t := range own {
		if t.min > most {
			return nil, fmt.Errorf("it has a table of %d entries, %d are allowed", t.min, most)
		}
		limit := most
		if t.bounded {
			limit = min(limit, t.max)
		}
		out = appendU32(appendU32(append(out, t.elem, 1), t.min), limit)
	}
	return out, nil
}

// assemble puts the sections together: those that are new where they belong, the start function's left out, custom ones
// where they were.
func (m *Module) assemble(changed map[byte][]byte) []byte {
	size := 8
	for _, s := range m.sections {
		size += len(s.body) + 6
	}
	out := make([]byte, 0, size+size/4)
	out = append(out, "\x00asm\x01\x00\x00\x00"...)
	emit := func(id byte, body []byte) {
		out = append(out, id)
		out = append(appendU32(out, uint32(len(body))), body...)
	}
	// missing emits what has been added and comes before a section.
	missing := func(before int) {
		for at := 1; at < before; at++ {
			id := byte(slices.Index(order[:], at))
			if body, ok := changed[id]; ok {
				emit(id, body)
				delete(changed, id)
			}
		}
	}
	for _, s := range m.sections {
		if s.id == sectCustom {
			if validCustom(s.body) {
				emit(s.id, s.body)
			}
			continue
		}
		missing(order[s.id])
		body, ok := changed[s.id]
		switch {
		case ok:
			emit(s.id, body)
			delete(changed, s.id)
		case s.id != sectStart:
			emit(s.id, s.body)
		}
	}
	missing(len(order))
	return out
}

// validCustom says whether a custom section may stay. wazero reads names, and trusts their lengths.
func validCustom(body []byte) bool {
	r := &reader{b: body}
	if r.name() != "name" {
		return r.err == nil
	}
	err := checkNames(r)
	return err == nil
}

func checkNames(r *reader) error {
	last := -1
	for r.err == nil && r.left() > 0 {
		id := int(r.byte())
		if id <= last {
			return errors.New("names out of order")
		}
		last = id
		sub := &reader{b: r.bytes(r.count(1))}
		switch id {
		case 0:
			sub.name()
		case 1:
			checkNameMap(sub)
		case 2:
			for range sub.count(2) {
				sub.u32()
				checkNameMap(sub)
			}
		default:
			continue
		}
		if sub.err != nil || sub.left() > 0 {
			return errors.New("malformed names")
		}
	}
	return r.err
}

func checkNameMap(r *reader) {
	last := -1
	for range r.count(2) {
		i := int(r.u32())
		if i <= last {
			r.fail("names out of order")
		}
		last = i
		r.name()
	}
}
