package gpu

import (
	"time"

	"github.com/pintle/pintle/gpu/device"
	"github.com/pintle/pintle/gpu/internal/nvml"
)

// Driver opens sessions with what knows the GPUs. NVML and gputest's Machine are drivers.
type Driver interface {
	// Open returns a *device.ErrUnavailable, which says what to do, where there is no driver. It is tried
	// again and again, and must be cheap then.
	Open() (Session, error)
}

// Session is an open driver. Its methods are called from several goroutines at a time, and never after
// Close. An error that is device.ErrRestarted asks for a new session.
type Session interface {
	System() (device.System, error)
	// GPUs lists all by index, those that don't answer included, with a Problem.
	GPUs() ([]device.GPU, error)
	// Read returns device.ErrLost for a GPU that fell off the bus.
	Read(uuid string) (device.Reading, error)
	// Wait returns the next event, or false where there was none in the time.
	Wait(timeout time.Duration) (device.Event, bool, error)
	// CreateMIG makes an instance of a profile that starts at a memory slice.
	CreateMIG(uuid string, profileID, start int) (device.MIGInstance, error)
	DestroyMIG(uuid string, gi int) error
	SetMIGMode(uuid string, on bool) error
	// LimitMemory keeps what runs in a cgroup, named by its folder, to so many bytes of a GPU.
	LimitMemory(uuid, cgroup string, bytes uint64) error
	Close() error
}

// NVML is the Driver of a machine with NVIDIA's driver. Library is the path of libnvidia-ml.so.1, or "" to
// look where it usually is.
type NVML struct{ Library string }

// Open implements Driver.
func (n NVML) Open() (Session, error) {
	s, err := nvml.Library{Path: n.Library}.Open()
	if err != nil {
		return nil, err
	}
	return s, nil
}
