package abi

import "google.golang.org/protobuf/encoding/protowire"

// Pod is the pod that is being placed.
type Pod struct {
	UID            string
	Namespace      string
	Name           string
	Labels         []Pair // sorted by key
	Annotations    []Pair // sorted by key
	Priority       int32
	PriorityClass  string
	SchedulerName  string
	ServiceAccount string
	Requests       []Quantity // effective: what scheduling counts
	NodeSelector   []Pair
	OwnerKind      string // of the controlling owner
	OwnerName      string
	Images         []string
	CreatedUnixMs  int64
}

// Quantity is an amount of a resource, in thousandths of its unit: cpu 1 is 1000, 1 byte is 1000.
type Quantity struct {
	Name  string
	Milli int64
}

// Append writes p to the end of b.
func (p *Pod) Append(b []byte) []byte {
	b = putString(b, 1, p.UID)
	b = putString(b, 2, p.Namespace)
	b = putString(b, 3, p.Name)
	b = putPairs(b, 4, p.Labels)
	b = putPairs(b, 5, p.Annotations)
	b = putVarint(b, 6, uint64(int64(p.Priority)))
	b = putString(b, 7, p.PriorityClass)
	b = putString(b, 8, p.SchedulerName)
	b = putString(b, 9, p.ServiceAccount)
	for i := range p.Requests {
		var at int
		b, at = begin(b, 10)
		b = end(p.Requests[i].Append(b), at)
	}
	b = putPairs(b, 11, p.NodeSelector)
	b = putString(b, 12, p.OwnerKind)
	b = putString(b, 13, p.OwnerName)
	b = putStrings(b, 14, p.Images)
	return putVarint(b, 15, uint64(p.CreatedUnixMs))
}

// Decode reads p from b.
func (p *Pod) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, data):
			return f.str(&p.UID)
		case f.is(2, data):
			return f.str(&p.Namespace)
		case f.is(3, data):
			return f.str(&p.Name)
		case f.is(4, data):
			return addMessage(f, &p.Labels)
		case f.is(5, data):
			return addMessage(f, &p.Annotations)
		case f.is(6, number):
			p.Priority = int32(f.value)
		case f.is(7, data):
			return f.str(&p.PriorityClass)
		case f.is(8, data):
			return f.str(&p.SchedulerName)
		case f.is(9, data):
			return f.str(&p.ServiceAccount)
		case f.is(10, data):
			return addMessage(f, &p.Requests)
		case f.is(11, data):
			return addMessage(f, &p.NodeSelector)
		case f.is(12, data):
			return f.str(&p.OwnerKind)
		case f.is(13, data):
			return f.str(&p.OwnerName)
		case f.is(14, data):
			return f.add(&p.Images)
		case f.is(15, number):
			p.CreatedUnixMs = int64(f.value)
		}
		return nil
	})
}

// Append writes q to the end of b.
func (q *Quantity) Append(b []byte) []byte {
	return putVarint(putString(b, 1, q.Name), 2, uint64(q.Milli))
}

// Decode reads q from b.
func (q *Quantity) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, data):
			return f.str(&q.Name)
		case f.is(2, number):
			q.Milli = int64(f.value)
		}
		return nil
	})
}

func putPod(b []byte, num protowire.Number, p *Pod) []byte {
	if p == nil {
		return b
	}
	b, at := begin(b, num)
	return end(p.Append(b), at)
}

func takePod(to **Pod, b []byte) error {
	if *to == nil {
		*to = &Pod{}
	}
	return (*to).Decode(b)
}
