package abi

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// AdmissionRequest is one write that a policy is asked about. Several policies may be given the same one at once:
// nobody changes it meanwhile.
type AdmissionRequest struct {
	UID         string
	Operation   Operation
	Kind        GroupVersionKind
	Resource    GroupVersionResource
	Subresource string
	Namespace   string
	Name        string // empty while it is still to be generated
	User        UserInfo
	DryRun      bool
	Meta        *Meta  // of the object; nil for a deletion
	OldMeta     *Meta  // of the object as it was; nil for a creation
	Object      Object // nil: none
	OldObject   Object
}

// Object gives an object's encoding: it is asked for what the policy wants, and for Nothing never. Whoever
// implements it may encode on first need. The bytes are only read.
type Object interface {
	Encoded(w Wants) ([]byte, error)
}

// JSONObject is an object that is there as JSON only.
type JSONObject []byte

// Encoded returns the JSON.
func (o JSONObject) Encoded(w Wants) ([]byte, error) {
	if w != JSON {
		return nil, fmt.Errorf("the object is there as JSON only; the policy wants encoding %d", w)
	}
	return o, nil
}

// RawObject is an object as a decoded request held it: encoded as the policy wanted.
type RawObject []byte

// Encoded returns the bytes.
func (o RawObject) Encoded(Wants) ([]byte, error) { return o, nil }

// Operation is what is done to the object.
type Operation int32

const (
	Unknown Operation = 0
	Create  Operation = 1
	Update  Operation = 2
	Delete  Operation = 3
	Connect Operation = 4
)

var operations = [...]string{"", "CREATE", "UPDATE", "DELETE", "CONNECT"}

// String is the operation as Kubernetes writes it ("CREATE").
func (o Operation) String() string {
	if o < 0 || int(o) >= len(operations) {
		return ""
	}
	return operations[o]
}

// OperationOf is the operation that Kubernetes writes so; Unknown if there is none.
func OperationOf(name string) Operation {
	for o, s := range operations {
		if s == name {
			return Operation(o)
		}
	}
	return Unknown
}

// GroupVersionKind names a kind of object.
type GroupVersionKind struct{ Group, Version, Kind string }

// GroupVersionResource names a resource.
type GroupVersionResource struct{ Group, Version, Resource string }

// UserInfo is who asks.
type UserInfo struct {
	Username string
	UID      string
	Groups   []string
}

// Meta is what most policies need of an object.
type Meta struct {
	Name        string
	Namespace   string
	Labels      []Pair // sorted by key
	Annotations []Pair // sorted by key
}

// AdmissionResponse is what the policy says.
type AdmissionResponse struct {
	Allowed   bool
	Code      uint32 // HTTP status of a refusal; 0: 403
	Message   string // why it is refused, for a person
	Reason    string // likewise, for a program: metav1.StatusReason
	Warnings  []string
	Audit     []Pair // audit annotations
	Patch     []byte // of a mutating policy; empty: nothing changes
	PatchType PatchType
}

// PatchType says what a patch is.
type PatchType int32

const (
	JSONPatch   PatchType = 0 // RFC 6902
	MergePatch  PatchType = 1 // RFC 7386
	WholeObject PatchType = 2 // the patch is the whole object, encoded as the request's was
)

// Append writes m to the end of b, with the objects as w says. An error is the Object's.
func (m *AdmissionRequest) Append(b []byte, w Wants) ([]byte, error) {
	var at int
	b = putString(b, 1, m.UID)
	b = putVarint(b, 2, uint64(m.Operation))
	if m.Kind != (GroupVersionKind{}) {
		b, at = begin(b, 3)
		b = end(putThree(b, m.Kind.Group, m.Kind.Version, m.Kind.Kind), at)
	}
	if m.Resource != (GroupVersionResource{}) {
		b, at = begin(b, 4)
		b = end(putThree(b, m.Resource.Group, m.Resource.Version, m.Resource.Resource), at)
	}
	b = putString(b, 5, m.Subresource)
	b = putString(b, 6, m.Namespace)
	b = putString(b, 7, m.Name)
	if m.User.Username != "" || m.User.UID != "" || len(m.User.Groups) > 0 {
		b, at = begin(b, 8)
		b = end(m.User.Append(b), at)
	}
	b = putBool(b, 9, m.DryRun)
	for i, meta := range [2]*Meta{m.Meta, m.OldMeta} {
		if meta != nil {
			b, at = begin(b, fieldMeta+protowire.Number(i))
			b = end(meta.Append(b), at)
		}
	}
	if w == Nothing {
		return b, nil
	}
	for i, o := range [2]Object{m.Object, m.OldObject} {
		if o == nil {
			continue
		}
		encoded, err := o.Encoded(w)
		if err != nil {
			return b, err
		}
		b = putBytes(b, fieldObject+protowire.Number(i), encoded)
	}
	return b, nil
}

// Decode reads m from b; its objects are RawObjects.
func (m *AdmissionRequest) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, data):
			return f.str(&m.UID)
		case f.is(2, number):
			m.Operation = Operation(f.value)
		case f.is(3, data):
			return takeThree(f.bytes, &m.Kind.Group, &m.Kind.Version, &m.Kind.Kind)
		case f.is(4, data):
			return takeThree(f.bytes, &m.Resource.Group, &m.Resource.Version, &m.Resource.Resource)
		case f.is(5, data):
			return f.str(&m.Subresource)
		case f.is(6, data):
			return f.str(&m.Namespace)
		case f.is(7, data):
			return f.str(&m.Name)
		case f.is(8, data):
			return m.User.Decode(f.bytes)
		case f.is(9, number):
			m.DryRun = f.value != 0
		case f.is(fieldMeta, data):
			return decodeMeta(&m.Meta, f.bytes)
		case f.is(fieldMeta+1, data):
			return decodeMeta(&m.OldMeta, f.bytes)
		case f.is(fieldObject, data):
			m.Object = RawObject(append([]byte{}, f.bytes...))
		case f.is(fieldObject+1, data):
			m.OldObject = RawObject(append([]byte{}, f.bytes...))
		}
		return nil
	})
}

func decodeMeta(to **Meta, b []byte) error {
	if *to == nil {
		*to = &Meta{}
	}
	return (*to).Decode(b)
}

// Append writes u to the end of b.
func (u *UserInfo) Append(b []byte) []byte {
	return putStrings(putString(putString(b, 1, u.Username), 2, u.UID), 3, u.Groups)
}

// Decode reads u from b.
func (u *UserInfo) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, data):
			return f.str(&u.Username)
		case f.is(2, data):
			return f.str(&u.UID)
		case f.is(3, data):
			return f.add(&u.Groups)
		}
		return nil
	})
}

// Append writes m to the end of b.
func (m *Meta) Append(b []byte) []byte {
	b = putString(b, 1, m.Name)
	b = putString(b, 2, m.Namespace)
	b = putPairs(b, 3, m.Labels)
	return putPairs(b, 4, m.Annotations)
}

// Decode reads m from b.
func (m *Meta) Decode(b []byte) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, data):
			return f.str(&m.Name)
		case f.is(2, data):
			return f.str(&m.Namespace)
		case f.is(3, data):
			return addMessage(f, &m.Labels)
		case f.is(4, data):
			return addMessage(f, &m.Annotations)
		}
		return nil
	})
}

// Append writes m to the end of b.
func (m *AdmissionResponse) Append(b []byte) []byte {
	b = putBool(b, 1, m.Allowed)
	b = putVarint(b, 2, uint64(m.Code))
	b = putString(b, 3, m.Message)
	b = putString(b, 4, m.Reason)
	b = putStrings(b, 5, m.Warnings)
	b = putPairs(b, 6, m.Audit)
	b = putBytes(b, 7, m.Patch)
	return putVarint(b, 8, uint64(m.PatchType))
}

// Decode reads m from b.
func (m *AdmissionResponse) Decode(b []byte) error {
	var f field
	var err error
	for len(b) > 0 && err == nil {
		if b, err = f.next(b); err != nil {
			break
		}
		switch {
		case f.is(1, number):
			m.Allowed = f.value != 0
		case f.is(2, number):
			m.Code = uint32(f.value)
		case f.is(3, data):
			err = f.str(&m.Message)
		case f.is(4, data):
			err = f.str(&m.Reason)
		case f.is(5, data):
			err = f.add(&m.Warnings)
		case f.is(6, data):
			err = addMessage(&f, &m.Audit)
		case f.is(7, data):
			err = f.raw(&m.Patch)
		case f.is(8, number):
			m.PatchType = PatchType(f.value)
		}
	}
	return err
}

func putThree(b []byte, one, two, three string) []byte {
	return putString(putString(putString(b, 1, one), 2, two), 3, three)
}

func takeThree(b []byte, one, two, three *string) error {
	return eachField(b, func(f *field) error {
		switch {
		case f.is(1, data):
			return f.str(one)
		case f.is(2, data):
			return f.str(two)
		case f.is(3, data):
			return f.str(three)
		}
		return nil
	})
}

const (
	fieldMeta   protowire.Number = 10 // and 11, old_meta
	fieldObject protowire.Number = 12 // and 13, old_object
)
