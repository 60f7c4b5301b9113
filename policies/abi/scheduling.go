package abi

// Reasons is what placing a pod returns: reason i explains verdict i+1. It is worded to follow a count of nodes
// ("GPU of another generation").
type Reasons struct{ Reasons []string }

// PermitRequest asks whether a pod may be bound, when a node is chosen and nothing is written yet.
type PermitRequest struct {
	Pod     *Pod
	Node    string
	Waiting []Waiting // pods that this policy told to wait, and which do
}

// Waiting is a pod that waits to be bound.
type Waiting struct {
	Pod         *Pod
	Node        string
	SinceUnixMs int64
}

// PermitResponse is what the policy says about the pod, and about those that wait.
type PermitResponse struct {
	Decision  Decision
	TimeoutMs int64 // of Wait: the pod is refused after it
	Reason    string
	Allow     []string // uids of waiting pods that wait no longer
	Reject    []string // uids of waiting pods that are refused now
}

// Decision is what becomes of a pod that has a node.
type Decision int32

const (
	Allow Decision = 0
	Wait  Decision = 1
	Deny  Decision = 2
)

// PostFilterRequest tells that no node is left for the pod.
type PostFilterRequest struct {
	Pod     *Pod
	Reasons []Count // most frequent first
}

// Count is how many nodes were refused for a reason.
type Count struct {
	Reason string
	Nodes  uint32
}

// PostFilterResponse is what the policy says to that.
type PostFilterResponse struct {
	Message  string // added to the pod's event
	Nominate string // node to wait for; empty: none
}

// Append writes m to the end of b.
func (m *Reasons) Append(b []byte) []byte { return putStrings(b, 1, m.Reasons) }

// Decode reads m from b.
func (m *Reasons) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		if f.is(1, data) {
			return f.add(&m.Reasons)
		}
		return nil
	})
}

// Append writes m to the end of b.
func (m *PermitRequest) Append(b []byte) []byte {
	b = putPod(b, 1, m.Pod)
	b = putString(b, 2, m.Node)
	for i := range m.Waiting {
		var at int
		b, at = begin(b, 3)
		b = end(m.Waiting[i].Append(b), at)
	}
	return b
}

// Decode reads m from b.
func (m *PermitRequest) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, data):
			return takePod(&m.Pod, f.bytes)
		case f.is(2, data):
			return f.str(&m.Node)
		case f.is(3, data):
			return addMessage(f, &m.Waiting)
		}
		return nil
	})
}

// Append writes w to the end of b.
func (w *Waiting) Append(b []byte) []byte {
	return putVarint(putString(putPod(b, 1, w.Pod), 2, w.Node), 3, uint64(w.SinceUnixMs))
}

// Decode reads w from b.
func (w *Waiting) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, data):
			return takePod(&w.Pod, f.bytes)
		case f.is(2, data):
			return f.str(&w.Node)
		case f.is(3, number):
			w.SinceUnixMs = int64(f.value)
		}
		return nil
	})
}

// Append writes m to the end of b.
func (m *PermitResponse) Append(b []byte) []byte {
	b = putVarint(b, 1, uint64(m.Decision))
	b = putVarint(b, 2, uint64(m.TimeoutMs))
	b = putString(b, 3, m.Reason)
	b = putStrings(b, 4, m.Allow)
	return putStrings(b, 5, m.Reject)
}

// Decode reads m from b.
func (m *PermitResponse) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, number):
			m.Decision = Decision(f.value)
		case f.is(2, number):
			m.TimeoutMs = int64(f.value)
		case f.is(3, data):
			return f.str(&m.Reason)
		case f.is(4, data):
			return f.add(&m.Allow)
		case f.is(5, data):
			return f.add(&m.Reject)
		}
		return nil
	})
}

// Append writes m to the end of b.
func (m *PostFilterRequest) Append(b []byte) []byte {
	b = putPod(b, 1, m.Pod)
	for i := range m.Reasons {
		var at int
		b, at = begin(b, 2)
		b = end(m.Reasons[i].Append(b), at)
	}
	return b
}

// Decode reads m from b.
func (m *PostFilterRequest) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, data):
			return takePod(&m.Pod, f.bytes)
		case f.is(2, data):
			return addMessage(f, &m.Reasons)
		}
		return nil
	})
}

// Append writes c to the end of b.
func (c *Count) Append(b []byte) []byte {
	return putVarint(putString(b, 1, c.Reason), 2, uint64(c.Nodes))
}

// Decode reads c from b.
func (c *Count) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, data):
			return f.str(&c.Reason)
		case f.is(2, number):
			c.Nodes = uint32(f.value)
		}
		return nil
	})
}

// Append writes m to the end of b.
func (m *PostFilterResponse) Append(b []byte) []byte {
	return putString(putString(b, 1, m.Message), 2, m.Nominate)
}

// Decode reads m from b.
func (m *PostFilterResponse) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, data):
			return f.str(&m.Message)
		case f.is(2, data):
			return f.str(&m.Nominate)
		}
		return nil
	})
}
