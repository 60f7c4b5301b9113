// Package place makes a policy one that filters and scores nodes: importing it exports pintle_place and pintle_region. One
// call decides about all candidates for a pod. Package pintle says how a policy in Go is made.
package place

import (
	"unsafe"

	"github.com/pintle/pintle/policies/sdk/go/scheduling"
)

// handle is the policy's own; see Handle.
var handle func(*scheduling.Pod, *Nodes)

// Handle names the function that fills in verdicts and scores. Pod and nodes are void when it returns.
func Handle(f func(*scheduling.Pod, *Nodes)) { handle = f }

// nodes and pod are used again and again: a call makes no garbage of its own.
var (
	nodes Nodes
	pod   scheduling.Pod
)

func answer(message []byte, header unsafe.Pointer, to []byte) []byte {
	pod = scheduling.ReadPod(message)
	nodes.open(header, to)
	handle(&pod, &nodes)
	return nodes.reasons
}
