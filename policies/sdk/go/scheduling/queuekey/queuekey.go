// Package queuekey makes a policy one that orders the queue of pods: importing it exports pintle_queue_key. Package pintle
// says how a policy in Go is made.
package queuekey

import "github.com/pintle/pintle/policies/sdk/go/scheduling"

// handle is the policy's own; see Handle.
var handle func(*scheduling.Pod) int64

// Handle names the function that gives a pod its place: smaller goes first, equals by priority and age. The pod is void
// when it returns.
func Handle(f func(*scheduling.Pod) int64) { handle = f }

func answer(message []byte) int64 {
	pod := scheduling.ReadPod(message)
	return handle(&pod)
}
