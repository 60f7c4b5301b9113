// Package device holds what a GPU driver tells, as plain data: System, GPU, Reading, Event. It is a leaf:
// the Manager, the driver in gpu/internal/nvml and the fake in gpu/gputest share it, and nothing else.
//
// Memory is in bytes, temperature in degrees Celsius, power in milliwatts, clocks in MHz. A number that a
// driver doesn't know is absent (a nil pointer, an empty string, -1 where the field says so), never a zero
// that means something else.
package device
