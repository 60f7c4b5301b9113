//go:build linux && cgo

package main

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

// The driver API, found at run time: nothing of CUDA is needed to build or to start this program.
typedef int (*fn_init)(unsigned);
typedef int (*fn_version)(int*);
typedef int (*fn_by_uuid_count)(int*);
typedef int (*fn_get)(int*, int);
typedef int (*fn_uuid)(unsigned char*, int);
typedef int (*fn_retain)(void**, int);
typedef int (*fn_ctx)(void*);
typedef int (*fn_release)(int);
typedef int (*fn_load)(void**, const void*);
typedef int (*fn_function)(void**, void*, const char*);
typedef int (*fn_alloc)(uint64_t*, size_t);
typedef int (*fn_free)(uint64_t);
typedef int (*fn_launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
typedef int (*fn_void)(void);
typedef int (*fn_dtoh)(void*, uint64_t, size_t);
typedef int (*fn_memset)(uint64_t, unsigned, size_t);
typedef int (*fn_string)(int, const char**);

static int call_init(void *f) { return ((fn_init)f)(0); }
static int call_version(void *f, int *v) { return ((fn_version)f)(v); }
static int call_count(void *f, int *n) { return ((fn_by_uuid_count)f)(n); }
static int call_get(void *f, int *d, int i) { return ((fn_get)f)(d, i); }
static int call_uuid(void *f, unsigned char *u, int d) { return ((fn_uuid)f)(u, d); }
static int call_retain(void *f, void **c, int d) { return ((fn_retain)f)(c, d); }
static int call_ctx(void *f, void *c) { return ((fn_ctx)f)(c); }
static int call_release(void *f, int d) { return ((fn_release)f)(d); }
static int call_load(void *f, void **m, const void *image) { return ((fn_load)f)(m, image); }
static int call_function(void *f, void **fn, void *m, const char *name) { return ((fn_function)f)(fn, m, name); }
static int call_alloc(void *f, uint64_t *p, size_t n) { return ((fn_alloc)f)(p, n); }
static int call_free(void *f, uint64_t p) { return ((fn_free)f)(p); }
static int call_sync(void *f) { return ((fn_void)f)(); }
static int call_dtoh(void *f, void *to, uint64_t from, size_t n) { return ((fn_dtoh)f)(to, from, n); }
static int call_memset(void *f, uint64_t p, unsigned v, size_t n) { return ((fn_memset)f)(p, v, n); }
static const char *call_name(void *f, int code) {
	const char *s = 0;
	((fn_string)f)(code, &s);
	return s;
}
static int call_launch(void *f, void *fn, unsigned blocks, unsigned threads, uint64_t out, unsigned rounds) {
	void *params[] = {&out, &rounds};
	return ((fn_launch)f)(fn, blocks, 1, 1, threads, 1, 1, 0, 0, params, 0);
}
*/
import "C"

import (
	"context"
	"fmt"
	"runtime"
	"time"
	"unsafe"
)

// driverAPI is libcuda's functions, by name.
type driverAPI map[string]unsafe.Pointer

var wanted = [...]string{"cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetUuid", "cuDevicePrimaryCtxRetain",
	"cuCtxSetCurrent", "cuDevicePrimaryCtxRelease_v2", "cuModuleLoadData", "cuModuleUnload", "cuModuleGetFunction", "cuMemAlloc_v2", "cuMemFree_v2",
	"cuLaunchKernel", "cuCtxSynchronize", "cuMemcpyDtoH_v2", "cuMemsetD32_v2", "cuGetErrorName"}

func openDriverAPI() (driverAPI, error) {
	for _, path := range []string{"libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"} {
		name := C.CString(path)
		handle := C.dlopen(name, C.RTLD_NOW|C.RTLD_LOCAL)
		C.free(unsafe.Pointer(name))
		if handle == nil {
			continue
		}
		api := driverAPI{}
		for _, symbol := range wanted {
			s := C.CString(symbol)
			api[symbol] = C.dlsym(handle, s)
			C.free(unsafe.Pointer(s))
			if api[symbol] == nil {
				return nil, fmt.Errorf("%w: %s lacks %s", errNoCUDA, path, symbol)
			}
		}
		return api, nil
	}
	return nil, fmt.Errorf("%w: libcuda.so.1 was not found: %s", errNoCUDA, C.GoString(C.dlerror()))
}

func (a driverAPI) check(action string, code C.int) error {
	if code == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s (%d)", action, C.GoString(C.call_name(a["cuGetErrorName"], code)), int(code))
}

// runLoad keeps a GPU busy until the context ends, and checks what it computed. It calls begun once there is
// work on the GPU. CUDA contexts belong to threads, so it must have one of its own.
func runLoad(ctx context.Context, uuid string, bytes int, begun func()) (result loadResult, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	api, err := openDriverAPI()
	if err != nil {
		return result, err
	}
	if err := api.check("cuInit", C.call_init(api["cuInit"])); err != nil {
		return result, err
	}
	var version C.int
	if err := api.check("cuDriverGetVersion", C.call_version(api["cuDriverGetVersion"], &version)); err != nil {
		return result, err
	}
	result.CUDAVersion = int(version)
	dev, err := api.find(uuid)
	if err != nil {
		return result, err
	}
	var current unsafe.Pointer
	if err := api.check("cuDevicePrimaryCtxRetain", C.call_retain(api["cuDevicePrimaryCtxRetain"], &current, dev)); err != nil {
		return result, err
	}
	defer C.call_release(api["cuDevicePrimaryCtxRelease_v2"], dev)
	if err := api.check("cuCtxSetCurrent", C.call_ctx(api["cuCtxSetCurrent"], current)); err != nil {
		return result, err
	}
	var memory C.uint64_t
	if err := api.check("cuMemAlloc", C.call_alloc(api["cuMemAlloc_v2"], &memory, C.size_t(bytes))); err != nil {
		return result, err
	}
	defer func() {
		if e := api.check("cuMemFree", C.call_free(api["cuMemFree_v2"], memory)); err == nil {
			err = e
		}
	}()
	result.Bytes = bytes
	kernel, module, loadErr := api.compile()
	if loadErr != nil {
		result.Fallback = loadErr.Error()
	} else {
		defer C.call_ctx(api["cuModuleUnload"], module)
	}
	words := bytes / 4
	const threads = 256
	begin := time.Now()
	for first := true; first || ctx.Err() == nil; first = false {
		result.Rounds++
		round := uint32(result.Rounds)
		if kernel != nil {
			rounds := loadRounds + round%7 // so that a result that is left over shows
			err = api.check("cuLaunchKernel", C.call_launch(api["cuLaunchKernel"], kernel, C.unsigned(words/threads), threads, memory, C.unsigned(rounds)))
		} else {
			err = api.check("cuMemsetD32", C.call_memset(api["cuMemsetD32_v2"], memory, C.unsigned(round), C.size_t(words)))
		}
		if err == nil {
			err = api.check("cuCtxSynchronize", C.call_sync(api["cuCtxSynchronize"]))
		}
		if err != nil {
			return result, err
		}
		if first {
			begun()
		}
		if first || ctx.Err() != nil || result.Rounds%64 == 0 {
			if err := api.verify(memory, words, round, kernel != nil); err != nil {
				return result, err
			}
			result.Verified++
		}
	}
	result.Busy = time.Since(begin)
	return result, nil
}

// makeFault has a kernel write where there is no memory. It returns nil once CUDA says that it went wrong. The
// process is good for nothing on a GPU afterwards.
func makeFault(uuid string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	api, err := openDriverAPI()
	if err != nil {
		return err
	}
	if err := api.check("cuInit", C.call_init(api["cuInit"])); err != nil {
		return err
	}
	dev, err := api.find(uuid)
	if err != nil {
		return err
	}
	var current unsafe.Pointer
	if err := api.check("cuDevicePrimaryCtxRetain", C.call_retain(api["cuDevicePrimaryCtxRetain"], &current, dev)); err != nil {
		return err
	}
	if err := api.check("cuCtxSetCurrent", C.call_ctx(api["cuCtxSetCurrent"], current)); err != nil {
		return err
	}
	kernel, _, err := api.compile()
	if err != nil {
		return err
	}
	if err := api.check("cuLaunchKernel", C.call_launch(api["cuLaunchKernel"], kernel, 1, 32, 0x10000, 1)); err != nil {
		return err
	}
	if err := api.check("cuCtxSynchronize", C.call_sync(api["cuCtxSynchronize"])); err != nil {
		fmt.Println("CUDA says, as it should:", err)
		return nil
	}
	return fmt.Errorf("the kernel wrote to an address without memory, and CUDA says nothing")
}

// find is the CUDA device with the UUID that NVML gave. Their numbers may differ.
func (a driverAPI) find(uuid string) (C.int, error) {
	var count C.int
	if err := a.check("cuDeviceGetCount", C.call_count(a["cuDeviceGetCount"], &count)); err != nil {
		return 0, err
	}
	var seen []string
	for i := range int(count) {
		var dev C.int
		if err := a.check("cuDeviceGet", C.call_get(a["cuDeviceGet"], &dev, C.int(i))); err != nil {
			return 0, err
		}
		var raw [16]byte
		if err := a.check("cuDeviceGetUuid", C.call_uuid(a["cuDeviceGetUuid"], (*C.uchar)(&raw[0]), dev)); err != nil {
			return 0, err
		}
		name := fmt.Sprintf("GPU-%x-%x-%x-%x-%x", raw[0:4], raw[4:6], raw[6:8], raw[8:10], raw[10:16])
		if name == uuid {
			return dev, nil
		}
		seen = append(seen, name)
	}
	return 0, fmt.Errorf("CUDA has no device %s; it has %v", uuid, seen)
}

// compile gives the kernel to the driver's compiler, for the oldest target that it takes.
func (a driverAPI) compile() (kernel, module unsafe.Pointer, err error) {
	for _, target := range loadTargets {
		source := C.CString(loadPTX(target))
		err = a.check("cuModuleLoadData for "+target, C.call_load(a["cuModuleLoadData"], &module, unsafe.Pointer(source)))
		C.free(unsafe.Pointer(source))
		if err != nil {
			continue
		}
		name := C.CString("spin")
		defer C.free(unsafe.Pointer(name))
		if err = a.check("cuModuleGetFunction", C.call_function(a["cuModuleGetFunction"], &kernel, module, name)); err != nil {
			C.call_ctx(a["cuModuleUnload"], module)
			return nil, nil, err
		}
		return kernel, module, nil
	}
	return nil, nil, err
}

// verify reads samples back and computes them again here.
func (a driverAPI) verify(memory C.uint64_t, words int, round uint32, kernel bool) error {
	for k := range 16 {
		i := k * (words - 1) / 15
		var got uint32
		if err := a.check("cuMemcpyDtoH", C.call_dtoh(a["cuMemcpyDtoH_v2"], unsafe.Pointer(&got), memory+C.uint64_t(4*i), 4)); err != nil {
			return err
		}
		want := round
		if kernel {
			want = spin(uint32(i), loadRounds+round%7)
		}
		if got != want {
			return fmt.Errorf("word %d of round %d is %#x, and should be %#x: the GPU computed wrongly", i, round, got, want)
		}
	}
	return nil
}
