package meter

// Prices. An instruction costs 1, and what only gives code its shape (block, loop, else, end, nop) nothing. What takes
// much longer than an addition costs more, so that fuel bounds time on every machine alike.
const (
	costCall     = 4
	costIndirect = 8
	costHost     = 100 // leaving the guest and coming back
	costDivide   = 8

	// By length: log2 of how many units (bytes, or elements of a table) cost 1.
	shiftBytes = 3
	shiftElems = 0
	// A page that memory.grow adds costs as much as filling it.
	shiftPages = -(16 - shiftBytes)
)

func cost(op byte) uint64 {
	switch op {
	case opNop, opBlock, opLoop, opElse, opEnd:
		return 0
	case opCall, opReturnCall:
		return costCall
	case opCallIndirect, opReturnCallIndirect:
		return costIndirect
	case opMemoryGrow, opRefFunc: // wazero leaves the guest for them, as for table.grow (see plan.go)
		return costHost
	case 0x6d, 0x6e, 0x6f, 0x70, 0x7f, 0x80, 0x81, 0x82, // integer division
		0x91, 0x95, 0x9f, 0xa3: // square root and division of floats
		return costDivide
	}
	return 1
}
