// Package scheduling has what scheduling policies read: the pod that is being placed. What they do is in the packages below,
// each of which exports one call: place filters and scores nodes, permit holds a pod back when its node is chosen, queuekey
// orders the queue, postfilter explains why no node is left.
package scheduling

import (
	pintle "github.com/pintle/pintle/policies/sdk/go"
	"github.com/pintle/pintle/policies/sdk/go/internal/wire"
)

// Pod is the pod that is being placed.
type Pod struct {
	UID, Namespace, Name              string
	Labels, Annotations, NodeSelector pintle.Pairs
	Priority                          int32
	PriorityClass, SchedulerName      string
	ServiceAccount                    string
	OwnerKind, OwnerName              string // of the controlling owner
	CreatedMs                         int64  // Unix time

	message []byte
}

// ReadPod is for the packages below: it reads a Pod.
func ReadPod(message []byte) Pod {
	p := Pod{
		Labels: pintle.PairsOf(message, 4), Annotations: pintle.PairsOf(message, 5), NodeSelector: pintle.PairsOf(message, 11),
		message: message,
	}
	var f wire.Field
	for r := wire.Read(message); r.Next(&f); {
		switch f.Number {
		case 1:
			p.UID = f.String()
		case 2:
			p.Namespace = f.String()
		case 3:
			p.Name = f.String()
		case 6:
			p.Priority = int32(f.Value)
		case 7:
			p.PriorityClass = f.String()
		case 8:
			p.SchedulerName = f.String()
		case 9:
			p.ServiceAccount = f.String()
		case 12:
			p.OwnerKind = f.String()
		case 13:
			p.OwnerName = f.String()
		case 15:
			p.CreatedMs = int64(f.Value)
		}
	}
	return p
}

// Requested is what the pod asks of a resource, in thousandths of its unit.
func (p *Pod) Requested(resource string) int64 {
	var f, g wire.Field
	for r := wire.Read(p.message); r.Next(&f); {
		if f.Number != 10 {
			continue
		}
		name, milli := "", int64(0)
		for r := wire.Read(f.Bytes); r.Next(&g); {
			switch g.Number {
			case 1:
				name = g.String()
			case 2:
				milli = int64(g.Value)
			}
		}
		if name == resource {
			return milli
		}
	}
	return 0
}

// Images are the images of the pod's containers.
func (p *Pod) Images() []string {
	var images []string
	var f wire.Field
	for r := wire.Read(p.message); r.Next(&f); {
		if f.Number == 14 {
			images = append(images, f.String())
		}
	}
	return images
}
