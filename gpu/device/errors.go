package device

import "errors"

// ErrLost is returned for a GPU that no longer answers on the bus.
var ErrLost = errors.New("the GPU is lost: it no longer answers on the PCI bus")

// ErrRestarted is returned when the driver went away under an open session: close it and open another.
var ErrRestarted = errors.New("the driver was unloaded or restarted")

// ErrUnsupported is returned for what this driver or this GPU can't do.
var ErrUnsupported = errors.New("not supported by this driver or GPU")

// ErrUnavailable says why there is no driver to ask. Its text tells what to do.
type ErrUnavailable struct{ Reason string }

func (e *ErrUnavailable) Error() string { return "no NVIDIA driver: " + e.Reason }
