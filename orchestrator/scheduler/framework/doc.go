// Package framework holds what the scheduler and its plugins share: the state of the cluster that a
// decision sees, and the points at which a plugin takes part.
//
// A plugin is pure. Prepare looks at one pod and the State once and returns functions that are
// then asked about each node; neither changes anything, does I/O or reads a clock.
//
// Beside the nodes the State keeps what saves a decision from going through them and their pods: columns of amounts and of
// labels by row, counts of pods by the values of a topology key (Census, Carried), Ledgers of plugins, and a log of the rows that
// have changed.
//
// A State is owned by one goroutine, the scheduler's loop. Nothing in this package locks.
package framework
