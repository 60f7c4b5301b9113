// Package scheduler places pods on nodes, as kube-scheduler does.
//
// The types to know: Scheduler watches pods and nodes through a Client and writes bindings;
// framework.State is what a decision sees; framework.Plugin is one consideration of it; Policy is
// the seam for policies that come from outside.
//
// One goroutine owns the State and the queue. It takes the first pod of the queue, decides (a pure
// function of the State), records the pod on its node at once, and hands the binding to a writer, so
// that the next decision need not wait for the store. A binding that fails is taken back.
//
// A pod that fits nowhere gets an event and a PodScheduled condition that count the reasons, most
// frequent first, and waits for a change that may help those who refused it, at least its back-off of 1 s
// doubling to 10 s.
//
// Policies from outside (policy.go) are asked once for each pod, about all nodes that the plugins left, which they read as
// records that are kept from pod to pod (policynodes.go); they may also order the queue, hold a pod back until others have
// their nodes (permit.go), and speak last about one that fits nowhere.
//
// Where pods of lower priority stand in its way it preempts them (preempt.go) unless its preemptionPolicy is
// Never: they are deleted gracefully, PodDisruptionBudgets are broken only where nothing else helps, and
// status.nominatedNodeName names the node, whose room less important pods are not given meanwhile.
package scheduler
