package asm

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Code encodes instructions, without the end of the function. Numbers are decimal or 0x…; block, loop and if take
// their type as a word (i32, i64, f32, f64, or typeN) or none. Loads and stores take an offset only. It panics over a
// word that it doesn't know: it is for tests, whose author wants to know where.
func Code(text string) []byte {
	var b []byte
	words := strings.Fields(text)
	next := func() string {
		if len(words) == 0 {
			panic("asm: the code ends too soon: " + text)
		}
		w := words[0]
		words = words[1:]
		return w
	}
	number := func() int64 {
		w := next()
		v, err := strconv.ParseInt(w, 0, 64)
		if err != nil {
			panic(fmt.Sprintf("asm: %q isn't a number, in %s", w, text))
		}
		return v
	}
	u32 := func() []byte { return U32(uint32(number())) }
	for len(words) > 0 {
		word := next()
		op, ok := opcodes[word]
		if !ok {
			panic(fmt.Sprintf("asm: %q isn't known, in %s", word, text))
		}
		b = append(b, op.code...)
		switch op.takes {
		case nothing:
		case index:
			b = append(b, u32()...)
		case blockType:
			b = append(b, blockTypeOf(&words)...)
		case indirect: // type, table
			b = append(b, u32()...)
			b = append(b, u32()...)
		case table: // number of labels, labels, default
			n := number()
			b = append(b, U32(uint32(n))...)
			for range n + 1 {
				b = append(b, u32()...)
			}
		case memory:
			b = append(b, 0)
			b = append(b, u32()...)
		case signed:
			b = append(b, S64(number())...)
		case float32bits:
			v, _ := strconv.ParseFloat(next(), 32)
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
		case float64bits:
			v, _ := strconv.ParseFloat(next(), 64)
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
	}
	return b
}

func blockTypeOf(words *[]string) []byte {
	if len(*words) > 0 {
		w := (*words)[0]
		t, known := map[string]byte{"i32": I32, "i64": I64, "f32": F32, "f64": F64}[w]
		if known {
			*words = (*words)[1:]
			return []byte{t}
		}
		if n, ok := strings.CutPrefix(w, "type"); ok {
			*words = (*words)[1:]
			v, _ := strconv.Atoi(n)
			return S64(int64(v))
		}
	}
	return []byte{0x40}
}

type takes byte

const (
	nothing takes = iota
	index
	blockType
	indirect
	table
	memory
	signed
	float32bits
	float64bits
)

type opcode struct {
	code  []byte
	takes takes
}

var opcodes = func() map[string]opcode {
	m := map[string]opcode{}
	one := func(code byte, t takes, names ...string) {
		for i, n := range names {
			m[n] = opcode{[]byte{code + byte(i)}, t}
		}
	}
	one(0x00, nothing, "unreachable", "nop")
	one(0x02, blockType, "block", "loop", "if")
	one(0x05, nothing, "else")
	one(0x0b, nothing, "end")
	one(0x0c, index, "br", "br_if")
	one(0x0e, table, "br_table")
	one(0x0f, nothing, "return")
	one(0x10, index, "call")
	one(0x11, indirect, "call_indirect")
	one(0x12, index, "return_call")
	one(0x13, indirect, "return_call_indirect")
	one(0x1a, nothing, "drop", "select")
	one(0x20, index, "local.get", "local.set", "local.tee", "global.get", "global.set", "table.get", "table.set")
	one(0x28, memory, "i32.load", "i64.load", "f32.load", "f64.load", "i32.load8_s", "i32.load8_u", "i32.load16_s",
		"i32.load16_u", "i64.load8_s", "i64.load8_u", "i64.load16_s", "i64.load16_u", "i64.load32_s", "i64.load32_u",
		"i32.store", "i64.store", "f32.store", "f64.store", "i32.store8", "i32.store16", "i64.store8", "i64.store16", "i64.store32")
	m["memory.size"] = opcode{[]byte{0x3f, 0}, nothing}
	m["memory.grow"] = opcode{[]byte{0x40, 0}, nothing}
	one(0x41, signed, "i32.const", "i64.const")
	one(0x43, float32bits, "f32.const")
	one(0x44, float64bits, "f64.const")
	one(0x45, nothing, "i32.eqz", "i32.eq", "i32.ne", "i32.lt_s", "i32.lt_u", "i32.gt_s", "i32.gt_u", "i32.le_s", "i32.le_u", "i32.ge_s", "i32.ge_u")
	one(0x50, nothing, "i64.eqz", "i64.eq", "i64.ne", "i64.lt_s", "i64.lt_u", "i64.gt_s", "i64.gt_u", "i64.le_s", "i64.le_u", "i64.ge_s", "i64.ge_u")
	one(0x67, nothing, "i32.clz", "i32.ctz", "i32.popcnt", "i32.add", "i32.sub", "i32.mul", "i32.div_s", "i32.div_u", "i32.rem_s",
		"i32.rem_u", "i32.and", "i32.or", "i32.xor", "i32.shl", "i32.shr_s", "i32.shr_u", "i32.rotl", "i32.rotr")
	one(0x79, nothing, "i64.clz", "i64.ctz", "i64.popcnt", "i64.add", "i64.sub", "i64.mul", "i64.div_s", "i64.div_u", "i64.rem_s",
		"i64.rem_u", "i64.and", "i64.or", "i64.xor", "i64.shl", "i64.shr_s", "i64.shr_u", "i64.rotl", "i64.rotr")
	one(0x99, nothing, "f64.abs", "f64.neg", "f64.ceil", "f64.floor", "f64.trunc", "f64.nearest", "f64.sqrt", "f64.add", "f64.sub", "f64.mul", "f64.div")
	m["i32.wrap_i64"] = opcode{[]byte{0xa7}, nothing}
	m["i64.extend_i32_s"] = opcode{[]byte{0xac}, nothing}
	m["i64.extend_i32_u"] = opcode{[]byte{0xad}, nothing}
	m["f64.convert_i32_s"] = opcode{[]byte{0xb7}, nothing}
	m["i64.reinterpret_f64"] = opcode{[]byte{0xbd}, nothing}
	m["ref.null.func"] = opcode{[]byte{0xd0, FuncRef}, nothing}
	m["ref.func"] = opcode{[]byte{0xd2}, index}
	m["memory.init"] = opcode{[]byte{0xfc, 8, 0, 0}, nothing} // data segment 0
	m["memory.copy"] = opcode{[]byte{0xfc, 10, 0, 0}, nothing}
	m["memory.fill"] = opcode{[]byte{0xfc, 11, 0}, nothing}
	m["table.copy"] = opcode{[]byte{0xfc, 14, 0, 0}, nothing}
	m["table.grow"] = opcode{[]byte{0xfc, 15}, index}
	m["table.size"] = opcode{[]byte{0xfc, 16}, index}
	m["table.fill"] = opcode{[]byte{0xfc, 17}, index}
	m["i32x4.splat"] = opcode{[]byte{0xfd, 17}, nothing}
	m["i32x4.add"] = opcode{[]byte{0xfd, 0xae, 1}, nothing}
	m["i32x4.extract_lane.0"] = opcode{[]byte{0xfd, 27, 0}, nothing}
	return m
}()
