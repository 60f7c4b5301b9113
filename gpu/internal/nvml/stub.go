//go:build !linux || !cgo || nonvml

package nvml

import (
	"runtime"
	"time"

	"github.com/pintle/pintle/gpu/device"
)

// Session is never made in this build.
type Session struct{}

// Open says why this build has no NVML.
func (l Library) Open() (*Session, error) { return nil, &device.ErrUnavailable{Reason: reason()} }

func reason() string {
	if runtime.GOOS != "linux" {
		return "NVML is asked on Linux only, and this program was built for " + runtime.GOOS
	}
	return "this program was built without NVML; build it with CGO_ENABLED=1 and without the tag nonvml"
}

// The methods below exist so that what uses a Session compiles.

func (*Session) System() (device.System, error)      { return device.System{}, device.ErrUnsupported }
func (*Session) GPUs() ([]device.GPU, error)         { return nil, device.ErrUnsupported }
func (*Session) Read(string) (device.Reading, error) { return device.Reading{}, device.ErrUnsupported }
func (*Session) Wait(time.Duration) (device.Event, bool, error) {
	return device.Event{}, false, device.ErrUnsupported
}
func (*Session) CreateMIG(string, int, int) (device.MIGInstance, error) {
	return device.MIGInstance{}, device.ErrUnsupported
}
func (*Session) DestroyMIG(string, int) error             { return device.ErrUnsupported }
func (*Session) LimitMemory(string, string, uint64) error { return device.ErrUnsupported }
func (*Session) SetMIGMode(string, bool) error            { return device.ErrUnsupported }
func (*Session) Close() error                             { return nil }
