// Package topology decides about GPUs: which of a machine's GPUs belong together, where on a GPU a MIG
// instance goes, whether a fraction fits, and how fragmented a node is. Its functions are pure, take no
// locks, and import only the standard library, so that a scheduler and a node can share them.
//
// Choose picks devices by their links (Matrix); Layout places MIG instances (Profile, Placement); Share is a
// fraction of a GPU; Fragmentation is what of a node's idle GPU the workload can't use.
// Prices (of a Mix) say what leftovers are worth to it. NodeGPUs and Grant are what
// a node and a scheduler tell each other in annotations.
package topology
