// Package gputest is a driver of GPUs that aren't there: give a Machine to gpu.Config.Driver.
//
// Machines are laid out as known ones are (DGXA100, DGXH100, OneH200, TwoL4, or New with GPUs of your own): NVLinks,
// PCI and NUMA, MIG profiles. MIG instances are made and destroyed under the rules of the real ones, with
// their capacity. Faults are injected: XIDs, ECC errors, links that go down, heat, a GPU that falls off the
// bus and comes back, a driver that is unloaded and loaded.
//
// A Machine notices when a session is used after its Close, which would kill a process with the real
// driver: Misuse tells, and tests should assert that it says nothing.
//
// Every method may be called from any goroutine.
package gputest
