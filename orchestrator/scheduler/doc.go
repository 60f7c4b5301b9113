// Package scheduler places pods on nodes, as kube-scheduler does.
//
// The types to know: Scheduler watches pods and nodes through a Client and writes bindings;
// framework.State is what a decision sees; framework.Plugin is one consideration of it; Policy is
// the seam for policies that come from outside.
//
// A decision (engine.go) is what asking every plugin about every node gives, and doesn't ask them: pods of one shape share what
// the plugins said of each node (view.go), only nodes that have changed since are asked about again, and a tournament over the
// nodes has the best one at its root. Pods of a new shape go over columns of numbers, and what hangs on other pods, affinity and
// spread, on counts that every pod and node that changes brings up to date (framework's Census). Decider is the decision
// alone, without API, clock or goroutines; Explain says of every node what every plugin makes of it.
//
// One goroutine owns the State and the queue. It takes the first pod of the queue, decides (a pure
// function of the State), records the pod on its node at once, and hands the binding to a writer, so
// that the next decision need not wait for the store. A binding that fails is taken back.
//
// A pod that fits nowhere gets an event and a PodScheduled condition that count the reasons, most
// frequent first, and the node that misses its needs by the least; it waits for a change that may help it (hint.go), at least its
// back-off of 1 s doubling to 10 s, and at most 5 minutes.
//
// Policies from outside (policy.go) are asked once for each pod, about all nodes that the plugins left, which they read as
// records that are kept from pod to pod (policynodes.go); they may also order the queue, hold a pod back until others have
// their nodes (permit.go), and speak last about one that fits nowhere.
//
// Where pods of lower priority stand in its way it preempts them (preempt.go) unless its preemptionPolicy is
// Never: they are deleted gracefully, PodDisruptionBudgets are broken only where nothing else helps, and
// status.nominatedNodeName names the node, whose room and devices less important pods are not given meanwhile (nominated.go).
//
// Pods of a PodGroup are decided on together (gangs.go, gangplace.go; what is decided is in package gang): whole or not at all,
// within one topology domain where the group asks for it, and ended together where its disruptionMode says so. Pods of a
// namespace that a Queue owns are asked for their quota first (queues.go; package queues). Both are written about by one
// goroutine, in order (gangreport.go).
package scheduler
