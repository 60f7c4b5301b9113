// Package cpus chooses which CPUs of a machine a container gets for itself, by the rules of Kubernetes' static CPU
// manager and, for the NUMA nodes, of its best-effort topology manager: whole cores before single threads, as few NUMA
// nodes as can be, and those that the container's devices are near to first.
//
// Types to know: Machine is what there is, Read reads it, Choose chooses, Set is a set of CPUs. Everything but Read is pure.
package cpus
