//go:build linux && cgo && !nonvml

package nvml

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/pintle/pintle/gpu/device"
)

// calls guards go-nvml's package variables, which choose the versions of symbols: loading the library writes
// them, and every call reads them. It is a variable of this package because those are of that one.
var calls sync.RWMutex

// Session is an initialised NVML. Its methods may be called from any goroutine, and not after Close.
type Session struct {
	lib nvml.Interface

	events      nvml.EventSet
	unmonitored map[string]string // by UUID: why events of it can't be watched

	mu     sync.Mutex // guards the rest
	found  map[string]bool
	seenAt map[string]uint64 // by UUID: the newest sample of process utilisation, in microseconds
}

// Open loads the library, initialises it and registers for the events of every GPU.
func (l Library) Open() (*Session, error) {
	calls.Lock()
	defer calls.Unlock()
	var lib nvml.Interface
	ret := nvml.ERROR_LIBRARY_NOT_FOUND
	for _, path := range l.paths() {
		if strings.HasPrefix(path, "/") {
			if _, err := os.Stat(path); err != nil {
				continue
			}
		}
		lib = nvml.New(nvml.WithLibraryPath(path))
		if ret = lib.Init(); ret != nvml.ERROR_LIBRARY_NOT_FOUND {
			break
		}
	}
	if ret != nvml.SUCCESS {
		return nil, &device.ErrUnavailable{Reason: unavailable(ret)}
	}
	for _, symbol := range required {
		if lib.Extensions().LookupSymbol(symbol) != nil {
			lib.Shutdown()
			return nil, &device.ErrUnavailable{Reason: "the driver is too old: its NVML lacks " + symbol + "; R450 or newer is needed"}
		}
	}
	s := &Session{lib: lib, found: map[string]bool{}, seenAt: map[string]uint64{}, unmonitored: map[string]string{}}
	if err := s.watch(); err != nil {
		lib.Shutdown()
		return nil, err
	}
	return s, nil
}

func unavailable(ret nvml.Return) string {
	switch ret {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return "libnvidia-ml.so.1 was not found; install the driver, or say where it is"
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return "the library is there, the kernel module isn't loaded; modprobe nvidia, or look at dmesg"
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return "the library and the kernel module are of different versions, as after an upgrade; reload the module and restart this program, which keeps the library that it first loaded"
	case nvml.ERROR_NO_PERMISSION:
		return "no permission to open /dev/nvidiactl"
	case nvml.ERROR_GPU_IS_LOST:
		return "a GPU fell off the bus; look at dmesg, and reset the GPU or the machine"
	}
	return fmt.Sprintf("NVML could not be initialised: %s", ret.Error())
}

// has says whether the loaded library knows a symbol.
func (s *Session) has(symbol string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, known := s.found[symbol]
	if !known {
		found = s.lib.Extensions().LookupSymbol(symbol) == nil
		s.found[symbol] = found
	}
	return found
}

// Close ends the session.
func (s *Session) Close() error {
	calls.Lock()
	defer calls.Unlock()
	if s.events != nil {
		s.events.Free()
	}
	return failure("shut NVML down", s.lib.Shutdown())
}

// System implements gpu.Session.
func (s *Session) System() (device.System, error) {
	calls.RLock()
	defer calls.RUnlock()
	driver, ret := s.lib.SystemGetDriverVersion()
	if ret != nvml.SUCCESS {
		return device.System{}, failure("ask for the driver's version", ret)
	}
	library, _ := s.lib.SystemGetNVMLVersion()
	cuda, ret := s.lib.SystemGetCudaDriverVersion()
	if ret != nvml.SUCCESS {
		return device.System{}, failure("ask for the CUDA version", ret)
	}
	return device.System{DriverVersion: driver, NVMLVersion: library, CUDAVersion: device.CUDAVersion(cuda)}, nil
}

// failure turns a return value into an error, nil for success.
func failure(action string, ret nvml.Return) error {
	switch ret {
	case nvml.SUCCESS:
		return nil
	case nvml.ERROR_GPU_IS_LOST, nvml.ERROR_GPU_NOT_FOUND:
		return fmt.Errorf("%s: %w", action, device.ErrLost)
	case nvml.ERROR_UNINITIALIZED, nvml.ERROR_DRIVER_NOT_LOADED, nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return fmt.Errorf("%s: %w", action, device.ErrRestarted)
	case nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_FUNCTION_NOT_FOUND, nvml.ERROR_INVALID_ARGUMENT:
		return fmt.Errorf("%s: %w (%s)", action, device.ErrUnsupported, ret.Error())
	}
	return fmt.Errorf("%s: %s", action, ret.Error())
}

// watched are the events that say something of a GPU's health. Corrected ECC errors don't; readings count them.
const watched = nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError |
	nvml.EventMigConfigChange | nvml.EventTypeGpuUnavailableError | nvml.EventTypeGpuRecoveryAction

func (s *Session) watch() error {
	set, ret := s.lib.EventSetCreate()
	if ret != nvml.SUCCESS {
		s.unmonitored[""] = "no event set: " + ret.Error()
		return nil
	}
	count, ret := s.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		set.Free()
		return failure("count the GPUs", ret)
	}
	registered := 0
	for i := range count {
		d, ret := s.lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue
		}
		uuid, _ := d.GetUUID()
		supported, ret := d.GetSupportedEventTypes()
		if ret == nvml.SUCCESS && supported&watched != 0 {
			if ret = d.RegisterEvents(supported&watched, set); ret == nvml.SUCCESS {
				registered++
				continue
			}
		}
		s.unmonitored[uuid] = "events are not reported: " + ret.Error()
		if ret == nvml.SUCCESS {
			s.unmonitored[uuid] = "the driver reports none of the events that tell of health"
		}
	}
	if registered == 0 {
		set.Free()
		return nil
	}
	s.events = set
	return nil
}

// Wait returns the next event, or false when there was none in the time, which is kept short by the caller:
// opening another session waits for it.
func (s *Session) Wait(timeout time.Duration) (device.Event, bool, error) {
	if s.events == nil {
		time.Sleep(timeout)
		return device.Event{}, false, nil
	}
	calls.RLock()
	defer calls.RUnlock()
	event, ret := s.events.Wait(uint32(timeout.Milliseconds()))
	switch ret {
	case nvml.SUCCESS:
	case nvml.ERROR_TIMEOUT:
		return device.Event{}, false, nil
	default:
		return device.Event{}, false, failure("wait for events", ret)
	}
	e := device.Event{XID: event.EventData, GI: instance(event.GpuInstanceId), CI: instance(event.ComputeInstanceId)}
	switch event.EventType {
	case nvml.EventTypeXidCriticalError:
		e.Kind = device.EventXID
	case nvml.EventTypeDoubleBitEccError:
		e.Kind = device.EventECCUncorrected
	case nvml.EventMigConfigChange:
		e.Kind = device.EventMIGChanged
	case nvml.EventTypeGpuUnavailableError:
		e.Kind = device.EventGPUUnavailable
	case nvml.EventTypeGpuRecoveryAction:
		e.Kind = device.EventRecovery
	default:
		return device.Event{}, false, nil
	}
	e.UUID, _ = event.Device.GetUUID() // "" where the GPU is lost already: the Manager then asks them all
	return e, true, nil
}

func instance(id uint32) int {
	if id == 0xFFFFFFFF {
		return -1
	}
	return int(id)
}

func (s *Session) handle(uuid string) (nvml.Device, error) {
	d, ret := s.lib.DeviceGetHandleByUUID(uuid)
	if ret == nvml.ERROR_NOT_FOUND {
		return nil, fmt.Errorf("find GPU %s: %w", uuid, device.ErrLost)
	}
	return d, failure("find GPU "+uuid, ret)
}

func isLost(err error) bool { return errors.Is(err, device.ErrLost) }
