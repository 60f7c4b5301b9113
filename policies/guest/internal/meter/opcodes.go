package meter

// Instructions that matter here.
const (
	opUnreachable        = 0x00
	opNop                = 0x01
	opBlock              = 0x02
	opLoop               = 0x03
	opIf                 = 0x04
	opElse               = 0x05
	opEnd                = 0x0b
	opBr                 = 0x0c
	opBrIf               = 0x0d
	opBrTable            = 0x0e
	opReturn             = 0x0f
	opCall               = 0x10
	opCallIndirect       = 0x11
	opReturnCall         = 0x12
	opReturnCallIndirect = 0x13
	opLocalGet           = 0x20
	opLocalSet           = 0x21
	opLocalTee           = 0x22
	opGlobalGet          = 0x23
	opGlobalSet          = 0x24
	opMemoryGrow         = 0x40
	opI32Const           = 0x41
	opI64Const           = 0x42
	opI32Ne              = 0x47
	opI64Eqz             = 0x50
	opI64LtS             = 0x53
	opI64GeS             = 0x59
	opI64Add             = 0x7c
	opI64Sub             = 0x7d
	opI64And             = 0x83
	opI64Shl             = 0x86
	opI64ShrU            = 0x88
	opI64ExtendI32U      = 0xad
	opRefFunc            = 0xd2
	opMisc               = 0xfc
	opVector             = 0xfd

	miscMemoryInit = 8
	miscMemoryCopy = 10
	miscMemoryFill = 11
	miscTableInit  = 12
	miscTableCopy  = 14
	miscTableGrow  = 15
	miscTableFill  = 17

	typeI32  = 0x7f
	typeI64  = 0x7e
	typeVoid = 0x40
)

// immediates reads what follows the opcode of an instruction without structure. It returns the first index among it,
// and for misc instructions their number.
func immediates(r *reader, op byte) (index uint32, misc byte) {
	switch {
	case op >= 0x45 && op <= 0xc4, op == opUnreachable, op == opNop, op == opElse, op == opEnd, op == opReturn,
		op == 0x1a, op == 0x1b, op == 0xd1:
	case op == opBr, op == opBrIf, op == opCall, op == opReturnCall, op >= opLocalGet && op <= 0x26, op == opRefFunc:
		return r.u32(), 0
	case op == opCallIndirect, op == opReturnCallIndirect:
		index = r.u32()
		r.u32()
		return index, 0
	case op == opBrTable:
		for range r.count(1) + 1 {
			r.u32()
		}
	case op == 0x1c: // select with a type
		if r.byte() != 1 {
			r.fail("a select of more than one value")
		}
		parseValueType(r)
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.u32()
		r.u32()
	case op == 0x3f, op == opMemoryGrow:
		zero(r)
	case op == opI32Const:
		r.signed(32)
	case op == opI64Const:
		r.signed(64)
	case op == 0x43:
		r.bytes(4)
	case op == 0x44:
		r.bytes(8)
	case op == 0xd0:
		parseRefType(r)
	case op == opMisc:
		return 0, immediatesMisc(r)
	case op == opVector:
		immediatesVector(r)
	default:
		r.fail("%s", unknown(op))
	}
	return 0, 0
}

func unknown(op byte) string {
	switch op {
	case 0x06, 0x07, 0x08, 0x09, 0x0a, 0x18, 0x19, 0x1f:
		return "it uses exceptions, which this host doesn't run: build it without them"
	case 0x14, 0x15, 0xd3, 0xd4, 0xd5, 0xd6:
		return "it uses typed function references, which this host doesn't know"
	case 0xfb:
		return "it uses garbage collection, which this host doesn't know"
	case 0xfe:
		return "it uses atomics: this host doesn't run threads"
	}
	return "it has an instruction that this host doesn't know"
}

// zero reads the index of the only memory. wazero takes it as one byte.
func zero(r *reader) {
	if r.byte() != 0 {
		r.fail("an instruction for a second memory")
	}
}

func immediatesMisc(r *reader) byte {
	op := r.u32()
	switch {
	case op < miscMemoryInit:
	case op == miscMemoryInit:
		r.u32()
		zero(r)
	case op == miscMemoryCopy:
		zero(r)
		zero(r)
	case op == miscMemoryFill:
		zero(r)
	case op == miscTableInit, op == miscTableCopy:
		r.u32()
		r.u32()
	case op <= miscTableFill: // data.drop, elem.drop, table.grow, table.size, table.fill
		r.u32()
	default:
		r.fail("an instruction 0xfc %#x, which this host doesn't know", op)
	}
	return byte(op)
}

func immediatesVector(r *reader) {
	op := r.byte()
	if op >= 0x80 && r.byte() != 1 { // numbers up to 0xff take two bytes, of which wazero reads the first
		r.fail("a vector instruction that this host doesn't know (relaxed SIMD, perhaps)")
	}
	switch {
	case op <= 11, op == 92, op == 93: // loads and stores
		r.u32()
		r.u32()
	case op == 12, op == 13: // const, shuffle
		r.bytes(16)
	case op >= 21 && op <= 34: // lanes
		r.byte()
	case op >= 84 && op <= 91: // loads and stores of lanes
		r.u32()
		r.u32()
		r.byte()
	}
}
