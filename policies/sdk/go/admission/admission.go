// Package admission makes a policy one that admits objects: importing it exports pintle_admit. Package pintle says how a
// policy in Go is made.
package admission

import (
	pintle "github.com/pintle/pintle/policies/sdk/go"
	"github.com/pintle/pintle/policies/sdk/go/internal/wire"
)

// Operation is what is being done to the object.
type Operation uint32

const (
	Unknown Operation = iota
	Create
	Update
	Delete
	Connect
)

// Meta is an object's metadata, as far as labels and annotations.
type Meta struct {
	Exists              bool // false: there is no such object
	Labels, Annotations pintle.Pairs
}

// Request is what is to be decided.
type Request struct {
	UID                       string
	Operation                 Operation
	Group, Version, Kind      string
	Resource, Subresource     string
	Namespace, Name, Username string
	DryRun                    bool
	Meta, OldMeta             Meta
	Object, OldObject         []byte // as Needs.Wants says

	user []byte
}

// Groups are the groups of the user who asks.
func (r *Request) Groups() []string {
	var groups []string
	var f wire.Field
	for m := wire.Read(r.user); m.Next(&f); {
		if f.Number == 3 {
			groups = append(groups, f.String())
		}
	}
	return groups
}

// PatchType says what a patch is.
type PatchType uint32

const (
	JSONPatch  PatchType = iota // RFC 6902
	MergePatch                  // RFC 7386
	Object                      // the whole object, encoded as the request's was
)

// Pair is an audit annotation.
type Pair struct{ Key, Value string }

// Response is the decision. Allow and Refuse make the usual ones.
type Response struct {
	Allowed   bool
	Code      uint32 // HTTP status of a refusal; 0: 403
	Message   string // why it is refused, for a person
	Reason    string // likewise, for a program
	Warnings  []string
	Audit     []Pair
	Patch     []byte // of a mutating policy
	PatchType PatchType
}

// Allow lets the object be written.
func Allow() Response { return Response{Allowed: true} }

// Refuse doesn't, and says why.
func Refuse(message string) Response { return Response{Message: message} }

// handle is the policy's own; see Handle.
var handle func(*Request) Response

// Handle names the function that decides. The request is void when it returns.
func Handle(f func(*Request) Response) { handle = f }

func meta(message []byte) Meta {
	return Meta{Exists: true, Labels: pintle.PairsOf(message, 3), Annotations: pintle.PairsOf(message, 4)}
}

func read(message []byte, r *Request) {
	var f, g wire.Field
	for m := wire.Read(message); m.Next(&f); {
		switch f.Number {
		case 1:
			r.UID = f.String()
		case 2:
			r.Operation = Operation(f.Value)
		case 3:
			for m := wire.Read(f.Bytes); m.Next(&g); {
				switch g.Number {
				case 1:
					r.Group = g.String()
				case 2:
					r.Version = g.String()
				case 3:
					r.Kind = g.String()
				}
			}
		case 4:
			for m := wire.Read(f.Bytes); m.Next(&g); {
				if g.Number == 3 {
					r.Resource = g.String()
				}
			}
		case 5:
			r.Subresource = f.String()
		case 6:
			r.Namespace = f.String()
		case 7:
			r.Name = f.String()
		case 8:
			r.user = f.Bytes
			for m := wire.Read(f.Bytes); m.Next(&g); {
				if g.Number == 1 {
					r.Username = g.String()
				}
			}
		case 9:
			r.DryRun = f.Value != 0
		case 10:
			r.Meta = meta(f.Bytes)
		case 11:
			r.OldMeta = meta(f.Bytes)
		case 12:
			r.Object = f.Bytes
		case 13:
			r.OldObject = f.Bytes
		}
	}
}

func write(to []byte, r *Response) []byte {
	if r.Allowed {
		to = wire.AppendNumber(to, 1, 1)
	}
	to = wire.AppendNumber(to, 2, uint64(r.Code))
	to = wire.AppendString(to, 3, r.Message)
	to = wire.AppendString(to, 4, r.Reason)
	for _, w := range r.Warnings {
		to = wire.AppendBytes(to, 5, w)
	}
	for _, p := range r.Audit {
		pair := wire.AppendString(wire.AppendString(nil, 1, p.Key), 2, p.Value)
		to = wire.AppendBytes(to, 6, pair)
	}
	if len(r.Patch) > 0 {
		to = wire.AppendBytes(to, 7, r.Patch)
	}
	return wire.AppendNumber(to, 8, uint64(r.PatchType))
}

// request is used again and again: a call makes no garbage of its own.
var request Request

func answer(message, to []byte) []byte {
	request = Request{}
	read(message, &request)
	response := handle(&request)
	return write(to, &response)
}
