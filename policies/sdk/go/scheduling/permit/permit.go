// Package permit makes a policy one that is asked when a node is chosen for a pod and nothing is bound yet: importing it
// exports pintle_permit. Package pintle says how a policy in Go is made.
package permit

import (
	"iter"

	"github.com/pintle/pintle/policies/sdk/go/internal/wire"
	"github.com/pintle/pintle/policies/sdk/go/scheduling"
)

// Request is what is to be decided.
type Request struct {
	Pod  scheduling.Pod
	Node string

	message []byte
}

// Waiting walks the pods that this policy told to wait, and which do.
func (r *Request) Waiting() iter.Seq[scheduling.Pod] {
	return func(yield func(scheduling.Pod) bool) {
		var f, g wire.Field
		for m := wire.Read(r.message); m.Next(&f); {
			if f.Number != 3 {
				continue
			}
			var pod []byte
			for m := wire.Read(f.Bytes); m.Next(&g); {
				if g.Number == 1 {
					pod = g.Bytes
				}
			}
			if !yield(scheduling.ReadPod(pod)) {
				return
			}
		}
	}
}

// Decision is what becomes of the pod.
type Decision uint32

const (
	Allow Decision = iota
	Wait
	Deny
)

// Response allows, unless it says otherwise.
type Response struct {
	Decision  Decision
	TimeoutMs int64 // of Wait: the pod is refused after it
	Reason    string
	Allow     []string // uids of waiting pods that wait no longer
	Reject    []string // uids of waiting pods that are refused now
}

// handle is the policy's own; see Handle.
var handle func(*Request) Response

// Handle names the function that decides. The request is void when it returns.
func Handle(f func(*Request) Response) { handle = f }

func answer(message, to []byte) []byte {
	request := Request{message: message}
	var f wire.Field
	for m := wire.Read(message); m.Next(&f); {
		switch f.Number {
		case 1:
			request.Pod = scheduling.ReadPod(f.Bytes)
		case 2:
			request.Node = f.String()
		}
	}
	r := handle(&request)
	to = wire.AppendNumber(to, 1, uint64(r.Decision))
	to = wire.AppendNumber(to, 2, uint64(r.TimeoutMs))
	to = wire.AppendString(to, 3, r.Reason)
	for _, uid := range r.Allow {
		to = wire.AppendBytes(to, 4, uid)
	}
	for _, uid := range r.Reject {
		to = wire.AppendBytes(to, 5, uid)
	}
	return to
}
