// Package framework holds what the scheduler and its plugins share: the state of the cluster that a
// decision sees, and the points at which a plugin takes part.
//
// A plugin is pure. Prepare looks at one pod and the Snapshot once and returns functions that are
// then asked about each node; neither changes anything, does I/O or reads a clock.
//
// A State is owned by one goroutine, the scheduler's loop. Nothing in this package locks.
package framework
