// Package devices is the scheduler's part of the choice of GPUs: what a pod asks for (RequestOf), what of a node's GPUs is
// there and taken (Node), whether and how the one fits the other (Node.Fits, Node.Choose), and which node and which GPU is
// best for those that come after (Policy; Pricing is the default). The node checks what was chosen and never chooses again.
//
// A Node's GPUs are told by its annotation topology.NodeAnnotation, and what pods have by theirs, topology.PodAnnotation. A
// node without the annotation, as with NVIDIA's own device plugin, is counted only: its allocatable less what pods ask for.
//
// All of it is pure but Pricer, which learns the mix of what pods ask for. A Node is owned by one goroutine; a Pricer may be
// used by any number.
package devices
