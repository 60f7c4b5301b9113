package raftstore

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// published reads store.proto, as far as it uses the language.
func published(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	src, err := os.ReadFile("store.proto")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`//[^\n]*`).ReplaceAllString(string(src), "")
	pkg := regexp.MustCompile(`package ([\w.]+);`).FindStringSubmatch(text)[1]
	file := &descriptorpb.FileDescriptorProto{Name: proto.String("store.proto"), Package: &pkg, Syntax: proto.String("proto3")}
	types := map[string]descriptorpb.FieldDescriptorProto_Type{}
	for name, n := range descriptorpb.FieldDescriptorProto_Type_value {
		types[strings.ToLower(strings.TrimPrefix(name, "TYPE_"))] = descriptorpb.FieldDescriptorProto_Type(n)
	}
	field := regexp.MustCompile(`(repeated )?(\w+) (\w+) = (\d+)(?: \[packed = (false)\])?;`)
	for _, m := range regexp.MustCompile(`message (\w+) \{((?:[^{}]|oneof \w+ \{[^{}]*\})*)\}`).FindAllStringSubmatch(text, -1) {
		msg := &descriptorpb.DescriptorProto{Name: proto.String(m[1])}
		oneof := regexp.MustCompile(`oneof (\w+) \{[^{}]*\}`).FindStringSubmatch(m[2])
		if oneof != nil {
			msg.OneofDecl = []*descriptorpb.OneofDescriptorProto{{Name: proto.String(oneof[1])}}
		}
		for _, f := range field.FindAllStringSubmatch(m[2], -1) {
			number, _ := strconv.Atoi(f[4])
			fd := &descriptorpb.FieldDescriptorProto{Name: proto.String(f[3]), Number: proto.Int32(int32(number)),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
			if f[1] != "" {
				fd.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			}
			if f[5] != "" {
				fd.Options = &descriptorpb.FieldOptions{Packed: proto.Bool(false)}
			}
			if oneof != nil && strings.Contains(oneof[0], f[0]) {
				fd.OneofIndex = proto.Int32(0)
			}
			if typ, ok := types[f[2]]; ok {
				fd.Type = typ.Enum()
			} else {
				fd.Type = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum()
				fd.TypeName = proto.String("." + pkg + "." + f[2])
			}
			msg.Field = append(msg.Field, fd)
		}
		file.MessageType = append(file.MessageType, msg)
	}
	fd, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Count(text, "message "); fd.Messages().Len() != want {
		t.Fatalf("%d of %d messages were understood", fd.Messages().Len(), want)
	}
	return fd
}

// dice draws what the messages are filled with.
type dice struct{ *rand.Rand }

func (d dice) int() int64 {
	switch d.IntN(3) {
	case 0:
		return 0
	case 1:
		return int64(d.IntN(100))
	}
	return d.Int64()
}

func (d dice) bytes() []byte {
	b := make([]byte, d.IntN(4)*d.IntN(40))
	for i := range b {
		b[i] = byte(d.Uint32())
	}
	return b
}

func (d dice) txn() *Txn {
	t := &Txn{Term: uint64(d.int())}
	for range d.IntN(3) {
		t.If = append(t.If, Compare{string(d.bytes()), CompareTarget(d.IntN(4)), Relation(d.IntN(4)), d.int(), d.bytes()})
	}
	for range d.IntN(4) {
		t.Then = append(t.Then, Op{OpType(d.IntN(4)), string(d.bytes()), d.bytes(), d.int()})
	}
	for range d.IntN(2) {
		t.Else = append(t.Else, Op{OpType(d.IntN(4)), string(d.bytes()), d.bytes(), d.int()})
	}
	return t
}

func (d dice) command() *command {
	c := &command{term: uint64(d.int())}
	if d.IntN(2) == 0 {
		c.request = request{uint64(1 + d.int()), uint64(d.int()), uint64(d.int())}
	}
	switch d.IntN(6) {
	case 0:
		c.compact = 1 + d.Int64N(1e9)
	case 1:
		c.grant = &leaseGrant{ttlMillis: d.int()}
	case 2:
		c.revoke = 1 + d.Int64N(1e9)
	case 3:
		c.open = true
	case 4:
		c.version = 1 + d.IntN(9)
	default:
		c.txn = d.txn()
	}
	return c
}

func (d dice) result() *result {
	r := &result{txn: TxnResult{Succeeded: d.IntN(2) == 0, Revision: d.int()}, lease: d.int(), session: uint64(d.int()),
		index: uint64(d.int()), lost: d.IntN(2) == 0}
	for range d.IntN(3) {
		o := OpResult{Deleted: d.int()}
		for range d.IntN(3) {
			kv := KV{Key: string(d.bytes()), CreateRevision: d.int(), ModRevision: d.int(), Version: d.int(), Lease: d.int()}
			if d.IntN(2) == 0 {
				kv.Value = d.bytes()
			}
			o.KVs = append(o.KVs, kv)
		}
		r.txn.Results = append(r.txn.Results, o)
	}
	switch d.IntN(3) {
	case 0:
		r.err = errorCodes[d.IntN(len(errorCodes))].err
	case 1:
		r.err = fmt.Errorf("%w: %w: why", ErrCorrupt, ErrDegraded)
	}
	return r
}

func (d dice) session() *session {
	s := &session{floor: uint64(d.int()), used: uint64(d.int()), results: map[uint64]result{}}
	for range d.IntN(4) {
		s.results[uint64(d.int())] = *d.result()
	}
	return s
}

func (d dice) name() string { return fmt.Sprintf("%.*x", d.IntN(9), d.Uint32()) }

// TestWhatIsWrittenIsThePublishedProtobuf holds what the code writes by hand against store.proto: the
// protobuf library knows each field, and writes the same bytes.
func TestWhatIsWrittenIsThePublishedProtobuf(t *testing.T) {
	file := published(t)
	d := dice{rand.New(rand.NewPCG(1, 2))}
	plain := newSealer(0, nil)
	x, err := newXAES(make([]byte, dataKeySize))
	if err != nil {
		t.Fatal(err)
	}
	sealed := newSealer(77, x)
	frame := func(b []byte) []byte {
		msg, _, ok := readChecked(b)
		if !ok {
			t.Fatal("no frame")
		}
		return msg
	}
	seal := func() *sealer { return []*sealer{plain, sealed}[d.IntN(2)] }
	key := func() *dataKey {
		return &dataKey{id: d.Uint32() | 1, provider: "file:1", wrapped: d.bytes(), check: d.bytes()}
	}
	write := map[string]func() []byte{
		"Entry": func() []byte {
			var b []byte
			for range d.IntN(3) {
				b = append(b, inEntry(t, d.command())...)
			}
			return b
		},
		"Command": func() []byte { return d.command().encode() },
		"Record": func() []byte {
			v := &version{key: string(d.bytes()), create: d.int(), mod: d.int(), ver: d.int(), lease: d.int(), sub: d.Uint32(), tomb: d.IntN(2) == 0}
			return encodeRecord(v, d.bytes())
		},
		"Blob": func() []byte { return seal().blob(nil, "there", d.bytes()) },
		"LogRecord": func() []byte {
			l := &raft.Log{Index: uint64(1 + d.int()), Term: uint64(d.int()), Type: raft.LogType(d.IntN(6)), Data: append(d.bytes(), 1), Extensions: d.bytes()}
			if d.IntN(2) == 0 {
				l.AppendedAt = time.Unix(0, 1+d.int())
			}
			return frame(appendRecord(nil, l, d.Uint32()|1, seal()))
		},
		"StableRecord": func() []byte { return frame(stableRecord(nil, seal(), "CurrentTerm", string(d.bytes()))) },
		"SnapshotNote": func() []byte {
			n := snapshotNote{raft.SnapshotVersion(d.IntN(2)), uint64(d.int()), uint64(d.int()), d.bytes(), uint64(d.int()), uint64(d.int())}
			return frame(n.encode(seal()))
		},
		"StateMeta": func() []byte {
			return (&stateMeta{uint64(d.int()), d.int(), d.int(), d.int(), uint64(d.int()), d.IntN(3), uint64(d.int())}).encode()
		},
		"Result":  func() []byte { return encodeResult(d.result()) },
		"Session": func() []byte { return d.session().encode() },
		"MemberStatus": func() []byte {
			m := memberStatus{d.name(), d.name(), uint64(d.int()), uint64(d.int()), uint64(d.int()), d.IntN(3), d.name(), []string{d.name(), d.name()}, d.name()}
			return m.encode()
		},
		"MemberChange": func() []byte { return (&memberChange{changeKind(d.IntN(6)), d.name(), d.name()}).encode() },
		"Member": func() []byte {
			return encodeMember(&Member{ID: d.name(), Address: d.name(), Voter: d.IntN(2) == 0, Leader: d.IntN(2) == 0, Healthy: d.IntN(2) == 0,
				Problem: d.name(), LastContact: time.Duration(d.int() - 50), AppliedIndex: uint64(d.int()), Lag: uint64(d.int()), Version: d.IntN(3)})
		},
		"Number": func() []byte { return encodeOne(uint64(d.int())) },
		"TransferHeader": func() []byte {
			st := stillState{view: &view{rev: d.int(), compacted: d.int()}, applied: uint64(d.int()), lastLease: d.int()}
			st.sessions.last, st.sessions.version = uint64(d.int()), d.IntN(3)
			return st.header()
		},
		"SessionRecord": func() []byte { return encodeSessionRecord(uint64(d.int()), d.session().encode()) },
		"DataKey":       func() []byte { return key().encode() },
		"Keys": func() []byte {
			r := &keyring{keys: []*dataKey{key(), key()}, current: uint32(d.int()), mixed: d.IntN(2) == 0}
			return r.encode()
		},
		"Sealed": func() []byte {
			b, err := Seal(t.Context(), goldenKey(t, 1), "here", d.bytes())
			if err != nil {
				t.Fatal(err)
			}
			return frame(b[len(sealedLine):])
		},
		"BackupHeader": func() []byte { return (&backup{v: &view{rev: d.int()}, lastLease: d.int(), key: key()}).header() },
	}
	for name, next := range write {
		desc := file.Messages().ByName(protoreflect.Name(name))
		if desc == nil {
			t.Errorf("%s is not published", name)
			continue
		}
		for range 300 {
			b := next()
			msg := dynamicpb.NewMessage(desc)
			if err := proto.Unmarshal(b, msg); err != nil {
				t.Fatalf("%s: %v: %x", name, err, b)
			}
			noUnknown(t, name, msg)
			again, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%s: %v\nours   %x\ntheirs %x", name, err, b, again)
			}
		}
	}
}

func noUnknown(t *testing.T, name string, msg protoreflect.Message) {
	t.Helper()
	if len(msg.GetUnknown()) > 0 {
		t.Fatalf("%s: store.proto lacks a field of %s: %x", name, msg.Descriptor().Name(), []byte(msg.GetUnknown()))
	}
	msg.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				noUnknown(t, name, v.List().Get(i).Message())
			}
		default:
			noUnknown(t, name, v.Message())
		}
		return true
	})
}

func TestCommandsAndRecordsAreReadBack(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(3, 4))}
	for range 500 {
		c := d.command()
		b := putMessage(nil, 1, c.encode())
		cs, err := decodeEntry(b)
		if err != nil || len(cs) != 1 {
			t.Fatal(cs, err)
		}
		if again := putMessage(nil, 1, cs[0].encode()); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	}
}

// inEntry is the command as the store writes it, which must fit exactly.
func inEntry(t *testing.T, c *command) []byte {
	t.Helper()
	b := c.inEntry()
	if want := putMessage(nil, 1, c.encode()); !bytes.Equal(b, want) {
		t.Fatalf("%x, want %x", b, want)
	}
	if c.txn != nil && cap(b) != len(b) {
		t.Fatalf("%d bytes have room for %d", len(b), cap(b))
	}
	return b
}
