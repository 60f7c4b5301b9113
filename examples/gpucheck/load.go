package main

import (
	"errors"
	"fmt"
	"time"
)

// loadResult is what a load did.
type loadResult struct {
	CUDAVersion int
	Bytes       int
	Rounds      int
	Verified    int // rounds whose result was read back and compared
	Busy        time.Duration
	Fallback    string // why memory was filled instead of a kernel run; "": it was a kernel
}

// errNoCUDA is returned where there is no CUDA to run a load with.
var errNoCUDA = errors.New("no CUDA driver API")

// loadRounds is how often a thread turns its number: long enough to keep a big GPU busy for milliseconds.
const loadRounds = 20_000

// loadTargets are tried in order: old drivers know no new ones, and new drivers drop old ones.
var loadTargets = []string{"sm_52", "sm_75", "sm_80", "sm_90"}

// loadPTX is a kernel in the driver's own assembly language: each thread turns its number many times through
// a linear congruential generator, and writes it.
func loadPTX(target string) string {
	version := "6.5"
	if target == "sm_80" {
		version = "7.0"
	} else if target == "sm_90" {
		version = "7.8"
	}
	return fmt.Sprintf(`.version %s
.target %s
.address_size 64
.visible .entry spin(.param .u64 out, .param .u32 rounds)
{
	.reg .pred %%done;
	.reg .b32 %%r<8>;
	.reg .b64 %%rd<4>;
	ld.param.u64 %%rd1, [out];
	ld.param.u32 %%r1, [rounds];
	cvta.to.global.u64 %%rd2, %%rd1;
	mov.u32 %%r2, %%ctaid.x;
	mov.u32 %%r3, %%ntid.x;
	mov.u32 %%r4, %%tid.x;
	mad.lo.u32 %%r5, %%r2, %%r3, %%r4;
	mov.u32 %%r6, %%r5;
	mov.u32 %%r7, 0;
again:
	setp.ge.u32 %%done, %%r7, %%r1;
	@%%done bra finished;
	mad.lo.u32 %%r6, %%r6, 1664525, 1013904223;
	add.u32 %%r7, %%r7, 1;
	bra again;
finished:
	mul.wide.u32 %%rd3, %%r5, 4;
	add.u64 %%rd2, %%rd2, %%rd3;
	st.global.u32 [%%rd2], %%r6;
	ret;
}
`, version, target)
}

// spin is what the kernel computes for number i.
func spin(i, rounds uint32) uint32 {
	for range rounds {
		i = i*1664525 + 1013904223
	}
	return i
}
