// Package controllers assembles the control loops: deployments (with automatic rollback), replica
// sets, endpoint slices, node lifecycle, eviction by taint, namespaces, garbage collection,
// service accounts, pod garbage and disruption budgets.
//
// [New] checks the Config, [Controllers.Run] runs everything until its context, which ends with
// leadership, ends. The loops share one Client and no other state; everything they must remember
// over a change of leader is stored in objects. Make a new Controllers for each leadership.
package controllers
