package meter

import "fmt"

func (m *Module) parseSection(id byte, body []byte) error {
	r := &reader{b: body}
	switch id {
	case sectCustom:
		m.Customs = append(m.Customs, Custom{Name: r.name(), Data: r.b[r.pos:]})
		return r.err
	case sectType:
		m.parseTypes(r)
	case sectImport:
		m.parseImports(r)
	case sectFunction:
		n := r.count(1)
		if n > maxFuncs {
			return fmt.Errorf("%d functions, at most %d are allowed", n, maxFuncs)
		}
		for range n {
			m.addFunc(r)
		}
	case sectTable:
		for range r.count(3) {
			m.parseTable(r, false)
		}
	case sectMemory:
		for range r.count(2) {
			m.parseMemory(r)
		}
	case sectGlobal:
		for range r.count(4) {
			parseValueType(r)
			if r.byte() > 1 {
				r.fail("a global is neither mutable nor not")
			}
			m.parseConst(r)
			m.globals++
		}
	case sectExport:
		for range r.count(3) {
			e := Extern{Name: r.name(), Kind: parseKind(r), index: r.u32()}
			m.Exports = append(m.Exports, e)
		}
	case sectStart:
		m.Starts, m.start = true, r.u32()
	case sectElement:
		for range r.count(2) {
			m.parseElement(r)
		}
	case sectDataCount:
		m.dataCount = int(r.u32())
	case sectCode:
		for range r.count(3) {
			m.bodies = append(m.bodies, r.bytes(r.count(1)))
		}
	case sectData:
		for range r.count(2) {
			m.parseData(r)
		}
	}
	if r.err == nil && r.left() > 0 {
		r.fail("%d bytes too long", r.left())
	}
	return r.err
}

func (m *Module) parseTypes(r *reader) {
	for range r.count(3) {
		if form := r.byte(); r.err == nil && form != 0x60 {
			r.fail("a type of form %#x: this host knows functions only", form)
		}
		var t funcType
		for _, list := range []*[]byte{&t.params, &t.results} {
			n := r.count(1)
			if n > maxTypes {
				r.fail("a function with %d parameters or results, at most %d are allowed", n, maxTypes)
				return
			}
			start := r.pos
			for range n {
				parseValueType(r)
			}
			if r.err == nil {
				*list = r.b[start:r.pos]
			}
		}
		m.types = append(m.types, t)
	}
}

func (m *Module) addFunc(r *reader) {
	t := r.u32()
	if int(t) >= len(m.types) {
		r.fail("type %d isn't there", t)
	}
	m.funcTypes = append(m.funcTypes, t)
}

func (m *Module) parseImports(r *reader) {
	for range r.count(4) {
		start := r.pos
		e := Extern{Module: r.name(), Name: r.name(), Kind: parseKind(r)}
		if r.err != nil {
			return
		}
		switch e.Kind {
		case Func:
			m.addFunc(r)
			m.imported.funcs++
			if r.err == nil {
				t := m.types[m.funcTypes[len(m.funcTypes)-1]]
				e.Params, e.Results = t.params, t.results
			}
		case Table:
			m.parseTable(r, true)
			m.imported.tables++
		case Memory:
			at := r.pos
			m.parseMemory(r)
			m.memory = r.b[at:r.pos]
		case Global:
			parseValueType(r)
			if r.byte() > 1 {
				r.fail("a global is neither mutable nor not")
			}
			m.globals++
			m.imported.globals++
		}
		m.Imports = append(m.Imports, e)
		if e.Kind != Memory {
			m.importSect = append(m.importSect, r.b[start:r.pos]...)
			m.importN++
		}
	}
}

func parseKind(r *reader) Kind {
	k := r.byte()
	if k > byte(Global) {
		r.fail("an import or export of kind %d, which this host doesn't know (4 is an exception's tag)", k)
		return Func
	}
	return Kind(k)
}

func parseValueType(r *reader) byte {
	t := r.byte()
	switch t {
	case 0x7f, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f:
	case 0x63, 0x64:
		r.fail("a typed function reference, which this host doesn't know")
	default:
		r.fail("a value of type %#x, which this host doesn't know", t)
	}
	return t
}

func parseRefType(r *reader) byte {
	t := parseValueType(r)
	if r.err == nil && t != 0x70 && t != 0x6f {
		r.fail("a reference of type %#x, which this host doesn't know", t)
	}
	return t
}

// parseLimits knows neither shared nor 64-bit ones.
func parseLimits(r *reader) (least, most uint32, bounded bool) {
	switch flag := r.byte(); flag {
	case 0:
		return r.u32(), 0, false
	case 1:
		least, most = r.u32(), r.u32()
		if most < least {
			r.fail("a minimum of %d and a maximum of %d", least, most)
		}
		return least, most, true
	case 2, 3:
		r.fail("shared memory: this host doesn't run threads")
	default:
		r.fail("limits of kind %d, which this host doesn't know", flag)
	}
	return 0, 0, false
}

func (m *Module) parseTable(r *reader, imported bool) {
	t := table{elem: parseRefType(r), imported: imported}
	t.min, t.max, t.bounded = parseLimits(r)
	m.tables = append(m.tables, t)
}

func (m *Module) parseMemory(r *reader) {
	least, most, bounded := parseLimits(r)
	if least > 1<<16 || bounded && most > 1<<16 {
		r.fail("a memory of more than 4 GiB")
	}
	m.MinPages = least
	m.memories++
}

// parseConst reads a constant expression.
func (m *Module) parseConst(r *reader) {
	for r.err == nil {
		switch op := r.byte(); op {
		case 0x0b:
			return
		case 0x23:
			if g := r.u32(); int(g) >= m.globals {
				r.fail("a constant refers to global %d, which isn't defined yet", g)
			}
		case 0x41:
			r.signed(32)
		case 0x42:
			r.signed(64)
		case 0x43:
			r.bytes(4)
		case 0x44:
			r.bytes(8)
		case 0x6a, 0x6b, 0x6c, 0x7c, 0x7d, 0x7e:
		case 0xd0:
			parseRefType(r)
		case 0xd2:
			m.elemFuncs = append(m.elemFuncs, r.u32())
		case 0xfd:
			if r.byte() != 12 {
				r.fail("an instruction that a constant can't have")
			}
			r.bytes(16)
		default:
			r.fail("instruction %#x in a constant", op)
		}
	}
}

func (m *Module) parseElement(r *reader) {
	kind := r.u32()
	if kind > 7 {
		r.fail("an element segment of kind %d", kind)
		return
	}
	active, explicit, exprs := kind&1 == 0, kind&2 != 0, kind&4 != 0
	if active {
		if explicit {
			if t := r.u32(); int(t) >= len(m.tables) {
				r.fail("table %d isn't there", t)
			}
		}
		m.parseConst(r)
	}
	if !active || explicit {
		if exprs {
			parseRefType(r)
		} else if r.byte() != 0 {
			r.fail("an element segment of something else than functions")
		}
	}
	if exprs {
		for range r.count(2) {
			m.parseConst(r)
		}
		return
	}
	for range r.count(1) {
		m.elemFuncs = append(m.elemFuncs, r.u32())
	}
}

func (m *Module) parseData(r *reader) {
	m.datas++
	switch kind := r.u32(); kind {
	case 2:
		if r.u32() != 0 {
			r.fail("a data segment of another memory")
		}
		fallthrough
	case 0:
		m.parseConst(r)
	case 1:
	default:
		r.fail("a data segment of kind %d", kind)
	}
	r.bytes(r.count(1))
}

// Producers lists what a producers section names, languages first: "C", "clang 17".
func Producers(section []byte) []string {
	r := &reader{b: section}
	fields := map[string][]string{}
	for range r.count(2) {
		field := r.name()
		for range r.count(2) {
			name, version := r.name(), r.name()
			if version != "" {
				name += " " + version
			}
			fields[field] = append(fields[field], name)
		}
	}
	if r.err != nil {
		return nil
	}
	return append(append(fields["language"], fields["processed-by"]...), fields["sdk"]...)
}
