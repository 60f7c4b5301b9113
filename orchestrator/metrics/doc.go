// Package metrics knows what pods and nodes use, and answers the APIs metrics.k8s.io, custom.metrics.k8s.io and
// external.metrics.k8s.io, and the autoscalers, with it.
//
// The types to know:
//   - [Service]: [New] checks a [Config] and starts nothing; [Service.Run] gathers until its context ends.
//   - [Custom] and [External]: what the embedding program may supply beside what is built in.
//
// Nodes are asked for the kubelet's summary of cumulative counters, over the connection that carries logs, and rates
// are made of them here. Nobody gathers while nobody asks: the first question wakes the Service, waits for two readings
// a second apart, and the gathering sleeps again two minutes after the last question. So an idle cluster pays nothing,
// and each member of the control plane gathers for itself.
//
// # Concurrency properties
//
// All methods are safe for concurrent use. One node is asked once at a time; a node that answers slowly delays no
// other. A node that doesn't answer is left out once its last reading is too old.
package metrics
