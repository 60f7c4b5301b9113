package abi

// Version is the version of the ABI that this package writes and reads.
const Version = 1

// Settings is what a guest is configured with, once in an instance's life.
type Settings struct {
	Version      uint32   // of the ABI, that both sides speak from now on
	JSON         []byte   // the policy object's settings; empty: none
	Policy       string   // name of the policy object
	Capabilities []string // what the policy object grants
}

// Configured is what the guest says to its Settings.
type Configured struct {
	Error   string // not empty: the settings are refused, and this says why
	Wants   Wants
	Columns []Column
}

// Wants says how a policy takes the objects of an admission request.
type Wants int32

const (
	JSON     Wants = 0
	Nothing  Wants = 1 // Meta and OldMeta say enough
	Protobuf Wants = 2 // Kubernetes' own encoding, without its "k8s\0" envelope
)

// Column is eight bytes at the end of each node record.
type Column struct {
	Kind ColumnKind
	Name string // of the label, or of the resource
}

// ColumnKind says what a column holds.
type ColumnKind int32

const (
	ColumnLabel       ColumnKind = 0 // u32 id of the label's value, 0 where it is missing; u32 zero
	ColumnLabelNumber ColumnKind = 1 // f64, the label's value as a decimal number; NaN where it is none
	ColumnAllocatable ColumnKind = 2 // i64, of any resource, in thousandths; 0 where it is missing
	ColumnRequested   ColumnKind = 3 // i64, likewise
)

// Append writes m to the end of b.
func (m *Settings) Append(b []byte) []byte {
	b = putVarint(b, 1, uint64(m.Version))
	b = putBytes(b, 2, m.JSON)
	b = putString(b, 3, m.Policy)
	return putStrings(b, 4, m.Capabilities)
}

// Decode reads m from b.
func (m *Settings) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, number):
			m.Version = uint32(f.value)
		case f.is(2, data):
			return f.raw(&m.JSON)
		case f.is(3, data):
			return f.str(&m.Policy)
		case f.is(4, data):
			return f.add(&m.Capabilities)
		}
		return nil
	})
}

// Append writes m to the end of b.
func (m *Configured) Append(b []byte) []byte {
	b = putString(b, 1, m.Error)
	b = putVarint(b, 2, uint64(m.Wants))
	for i := range m.Columns {
		var at int
		b, at = begin(b, 3)
		b = end(m.Columns[i].Append(b), at)
	}
	return b
}

// Decode reads m from b.
func (m *Configured) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, data):
			return f.str(&m.Error)
		case f.is(2, number):
			m.Wants = Wants(f.value)
		case f.is(3, data):
			return addMessage(f, &m.Columns)
		}
		return nil
	})
}

// Append writes c to the end of b.
func (c *Column) Append(b []byte) []byte {
	return putString(putVarint(b, 1, uint64(c.Kind)), 2, c.Name)
}

// Decode reads c from b.
func (c *Column) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, number):
			c.Kind = ColumnKind(f.value)
		case f.is(2, data):
			return f.str(&c.Name)
		}
		return nil
	})
}
