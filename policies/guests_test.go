package policies

import (
	"fmt"
	"strings"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/internal/asm"
)

// testGuest is a module of ABI pintle/v1 in a few hundred bytes, written by the test that needs it. Messages are put at
// 1024; a constant that it answers with is put from 64 KiB on.
type testGuest struct {
	*asm.Module
	data  int64
	hosts map[string]uint32
}

var (
	noTypes asm.Types
	i32     = asm.Types{asm.I32}
	i32i32  = asm.Types{asm.I32, asm.I32}
	i64     = asm.Types{asm.I64}
)

// bothSpeak is code: the version of the ABI that there is.
const bothSpeak = "i32.const 0x10001"

// newGuest makes a guest that is configured so.
func newGuest(c abi.Configured) *testGuest {
	b := c.Append(nil)
	code := "i64.const 0"
	if len(b) > 0 {
		code = fmt.Sprint("i64.const ", 2048<<32|len(b))
	}
	g := newGuestOf(bothSpeak, code)
	g.Data(2048, b)
	return g
}

// newGuestOf makes one that says with code which versions it speaks, and how it is configured.
func newGuestOf(versions, configure string) *testGuest {
	g := &testGuest{&asm.Module{}, 64 << 10, map[string]uint32{}}
	g.hosts["intern"] = g.ImportFunc("pintle", "intern", i32i32, i32)
	g.hosts["log"] = g.ImportFunc("pintle", "log", asm.Types{asm.I32, asm.I32, asm.I32}, noTypes)
	g.hosts["now_ms"] = g.ImportFunc("pintle", "now_ms", noTypes, i64)
	g.hosts["lookup"] = g.ImportFunc("pintle", "lookup", i32i32, i64)
	g.Memory(3, -1)
	g.Export("memory", 2, 0)
	g.export("pintle_abi", noTypes, i32, versions)
	g.export("pintle_alloc", i32, i32, "i32.const 1024")
	g.export("pintle_configure", i32i32, i64, configure)
	return g
}

func (g *testGuest) export(name string, params, results asm.Types, code string) {
	for host, index := range g.hosts {
		code = strings.ReplaceAll(code, "$"+host, fmt.Sprint("call ", index))
	}
	locals := asm.Types{asm.I32, asm.I32, asm.I64}
	g.Export(name, 0, g.Func(params, results, locals, code))
}

// put places bytes and returns code that answers with them.
func (g *testGuest) put(b []byte) string {
	if len(b) == 0 {
		return "i64.const 0"
	}
	at := g.data
	g.Data(at, b)
	g.data += int64(len(b)+7) / 8 * 8
	return fmt.Sprint("i64.const ", at<<32|int64(len(b)))
}

func (g *testGuest) answer(export string, b []byte) { g.export(export, i32i32, i64, g.put(b)) }

// admits has the guest answer every request alike.
func admits(r abi.AdmissionResponse) []byte {
	g := newGuest(abi.Configured{Wants: abi.Nothing})
	g.answer("pintle_admit", r.Append(nil))
	return g.Bytes()
}

// runs has the guest run code when it is asked; code leaves an i64.
func runs(code string) []byte {
	g := newGuest(abi.Configured{Wants: abi.Nothing})
	g.export("pintle_admit", i32i32, i64, code)
	return g.Bytes()
}

// Where the scheduling guest keeps its regions: 1 MiB apart from 1 MiB on.
const regionAt = 1 << 20

// schedules is a guest whose regions are as large as a test needs, and which runs code to place.
func schedules(c abi.Configured, code string, reasons ...string) []byte {
	g := newGuest(c)
	g.export("_initialize", noTypes, noTypes, "i32.const 160 memory.grow drop")
	g.export("pintle_region", i32i32, i32, fmt.Sprintf("local.get 0 i32.const 1 i32.add i32.const %d i32.mul", regionAt))
	r := abi.Reasons{Reasons: reasons}
	g.export("pintle_place", i32i32, i64, code+" "+g.put(r.Append(nil)))
	return g.Bytes()
}

// refuseOdd is code that refuses candidates in odd rows and scores the others by their row.
const refuseOdd = `
i32.const 0 local.set 2
block loop
  local.get 2 i32.const 1048588 i32.load 0 i32.ge_u br_if 1
  local.get 2 i32.const 2 i32.shl i32.const 1048608 i32.load 0 i32.add i32.load 0 local.set 3
  local.get 2 i32.const 2 i32.shl i32.const 1048612 i32.load 0 i32.add local.get 3 i32.const 1 i32.and i32.store 0
  local.get 2 i32.const 2 i32.shl i32.const 1048616 i32.load 0 i32.add local.get 3 i32.store 0
  local.get 2 i32.const 1 i32.add local.set 2
  br 0
end end`
