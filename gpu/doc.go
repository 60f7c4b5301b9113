// Package gpu manages the NVIDIA GPUs of one machine: what there is, how healthy it is, who has it, and what
// a container needs to use it. It works without an orchestrator.
//
// The types to know: New makes a Manager of a Config, Run works until its context ends, Ready says that the
// GPUs were asked once. Inventory is an immutable picture of the machine: its Labels, Resources and
// DRADevices are what the ecosystem's node labels, extended resources and ResourceSlices say. WaitChange
// waits for the next picture that differs. Claim gives a pod devices that somebody has chosen, Release takes
// them back, Reconcile compares with what runs; Injection says what a container gets.
//
// # Who chooses
//
// A scheduler chooses devices, fractions and MIG placements, with the pure functions of gpu/topology; the
// Manager checks what was chosen against what is there and what others have, and never chooses.
//
// # Without a driver
//
// New succeeds and Run keeps looking: the Inventory is empty and says why, and fills when a driver appears.
// A driver that restarts is opened again. One thing needs this process to be restarted: a driver that is
// upgraded, because a library once loaded stays.
//
// # Health
//
// A GPU is unhealthy while there is a Reason, and healthy again when the reason has gone: see HealthPolicy.
// Programs' own mistakes are no reason.
//
// # Concurrency properties
//
// Every method may be called from any goroutine, at any time after New. A reader never waits for the driver.
// Two programs that manage the same GPUs don't know of each other's claims.
//
// gpu/gputest is a driver without GPUs, for tests.
package gpu
