// Package postfilter makes a policy one that is asked when no node is left for a pod: importing it exports
// pintle_post_filter. Package pintle says how a policy in Go is made.
package postfilter

import (
	"github.com/pintle/pintle/policies/sdk/go/internal/wire"
	"github.com/pintle/pintle/policies/sdk/go/scheduling"
)

// Request is what is to be explained.
type Request struct {
	Pod     scheduling.Pod
	Reasons []Count // most frequent first
}

// Count is why nodes were refused, and how many.
type Count struct {
	Reason string
	Nodes  uint32
}

// Response is what the pod's event says besides.
type Response struct {
	Message  string
	Nominate string // node to wait for; empty: none
}

// handle is the policy's own; see Handle.
var handle func(*Request) Response

// Handle names the function that answers. The request is void when it returns.
func Handle(f func(*Request) Response) { handle = f }

func answer(message, to []byte) []byte {
	var request Request
	var f, g wire.Field
	for m := wire.Read(message); m.Next(&f); {
		switch f.Number {
		case 1:
			request.Pod = scheduling.ReadPod(f.Bytes)
		case 2:
			var c Count
			for m := wire.Read(f.Bytes); m.Next(&g); {
				switch g.Number {
				case 1:
					c.Reason = g.String()
				case 2:
					c.Nodes = uint32(g.Value)
				}
			}
			request.Reasons = append(request.Reasons, c)
		}
	}
	r := handle(&request)
	return wire.AppendString(wire.AppendString(to, 1, r.Message), 2, r.Nominate)
}
