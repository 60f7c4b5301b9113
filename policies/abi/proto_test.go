package abi

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

type message interface{ Decode([]byte) error }

// again reads a message by hand and writes it again.
func again[T any, P interface {
	*T
	message
	Append([]byte) []byte
}](b []byte) ([]byte, error) {
	m := P(new(T))
	if err := m.Decode(b); err != nil {
		return nil, err
	}
	return m.Append(nil), nil
}

type three struct{ one, two, three string }

func (t *three) Decode(b []byte) error  { return takeThree(b, &t.one, &t.two, &t.three) }
func (t *three) Append(b []byte) []byte { return putThree(b, t.one, t.two, t.three) }
func admissionAgain(b []byte) ([]byte, error) {
	var m AdmissionRequest
	if err := m.Decode(b); err != nil {
		return nil, err
	}
	return m.Append(nil, JSON)
}

var byHand = map[string]func([]byte) ([]byte, error){
	"Settings": again[Settings], "Configured": again[Configured], "Column": again[Column],
	"AdmissionRequest": admissionAgain, "GroupVersionKind": again[three], "GroupVersionResource": again[three],
	"UserInfo": again[UserInfo], "Meta": again[Meta], "Pair": again[Pair], "AdmissionResponse": again[AdmissionResponse],
	"Pod": again[Pod], "Quantity": again[Quantity], "Reasons": again[Reasons], "PermitRequest": again[PermitRequest],
	"Waiting": again[Waiting], "PermitResponse": again[PermitResponse], "PostFilterRequest": again[PostFilterRequest],
	"Count": again[Count], "PostFilterResponse": again[PostFilterResponse],
}

// published reads policy.proto, as far as it uses the language.
func published(t testing.TB) protoreflect.FileDescriptor {
	t.Helper()
	src, err := os.ReadFile("policy.proto")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`//[^\n]*`).ReplaceAllString(string(src), "")
	pkg := regexp.MustCompile(`package ([\w.]+);`).FindStringSubmatch(text)[1]
	file := &descriptorpb.FileDescriptorProto{Name: proto.String("policy.proto"), Package: &pkg, Syntax: proto.String("proto3")}
	enum := regexp.MustCompile(`enum (\w+) \{([^}]*)\}`)
	enumOf := func(m []string) *descriptorpb.EnumDescriptorProto {
		e := &descriptorpb.EnumDescriptorProto{Name: proto.String(m[1])}
		for _, v := range regexp.MustCompile(`(\w+) = (\d+);`).FindAllStringSubmatch(m[2], -1) {
			n, _ := strconv.Atoi(v[2])
			e.Value = append(e.Value, &descriptorpb.EnumValueDescriptorProto{Name: proto.String(v[1]), Number: proto.Int32(int32(n))})
		}
		return e
	}
	messages := regexp.MustCompile(`message (\w+) \{((?:[^{}]|enum \w+ \{[^{}]*\})*)\}`).FindAllStringSubmatch(text, -1)
	top := text
	for _, m := range messages {
		top = strings.Replace(top, m[0], "", 1)
	}
	enums := map[string]bool{}
	for _, m := range enum.FindAllStringSubmatch(top, -1) {
		enums[m[1]] = true
		file.EnumType = append(file.EnumType, enumOf(m))
	}
	for _, m := range messages {
		msg := &descriptorpb.DescriptorProto{Name: proto.String(m[1])}
		own := map[string]bool{}
		for _, e := range enum.FindAllStringSubmatch(m[2], -1) {
			own[e[1]] = true
			msg.EnumType = append(msg.EnumType, enumOf(e))
		}
		for _, f := range regexp.MustCompile(`(repeated )?(\w+) (\w+) = (\d+);`).FindAllStringSubmatch(enum.ReplaceAllString(m[2], ""), -1) {
			number, _ := strconv.Atoi(f[4])
			fd := &descriptorpb.FieldDescriptorProto{Name: proto.String(f[3]), Number: proto.Int32(int32(number)), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
			if f[1] != "" {
				fd.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			}
			typ, scalar := descriptorpb.FieldDescriptorProto_Type_value["TYPE_"+strings.ToUpper(f[2])]
			switch {
			case scalar:
				fd.Type = descriptorpb.FieldDescriptorProto_Type(typ).Enum()
			case own[f[2]]:
				fd.Type, fd.TypeName = descriptorpb.FieldDescriptorProto_TYPE_ENUM.Enum(), proto.String("."+pkg+"."+m[1]+"."+f[2])
			case enums[f[2]]:
				fd.Type, fd.TypeName = descriptorpb.FieldDescriptorProto_TYPE_ENUM.Enum(), proto.String("."+pkg+"."+f[2])
			default:
				fd.Type, fd.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String("."+pkg+"."+f[2])
			}
			msg.Field = append(msg.Field, fd)
		}
		file.MessageType = append(file.MessageType, msg)
	}
	fd, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Count(text, "\nmessage "); fd.Messages().Len() != want {
		t.Fatalf("%d of %d messages were understood", fd.Messages().Len(), want)
	}
	return fd
}

// draw fills a message; one that stands alone in a field is never empty, for by hand that is the same as absent.
func draw(r *rand.Rand, d protoreflect.MessageDescriptor, depth int) *dynamicpb.Message {
	m := dynamicpb.NewMessage(d)
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if i > 0 && r.IntN(3) == 0 || depth > 3 && f.Message() != nil {
			continue
		}
		if f.IsList() {
			list := m.Mutable(f).List()
			for range r.IntN(4) {
				list.Append(drawValue(r, f, depth))
			}
			continue
		}
		m.Set(f, drawValue(r, f, depth))
	}
	return m
}

func drawValue(r *rand.Rand, f protoreflect.FieldDescriptor, depth int) protoreflect.Value {
	text := strings.Repeat(string(rune('a'+r.IntN(900))), 1+r.IntN(4)*r.IntN(90))
	switch f.Kind() {
	case protoreflect.MessageKind:
		return protoreflect.ValueOfMessage(draw(r, f.Message(), depth+1))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(9)))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(text))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(r.Uint32() >> r.IntN(33))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(r.Uint32()) >> r.IntN(33))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(r.Uint64()) >> r.IntN(65))
	}
	panic(fmt.Sprintf("policy.proto has a field of kind %s: draw it too", f.Kind()))
}

// TestWhatIsReadAndWrittenIsThePublishedProtobuf holds what is done by hand against policy.proto: every field that the
// protobuf library writes is read, and written again in the same bytes.
func TestWhatIsReadAndWrittenIsThePublishedProtobuf(t *testing.T) {
	file := published(t)
	if len(byHand) != file.Messages().Len() {
		t.Errorf("%d messages are known here, %d are published", len(byHand), file.Messages().Len())
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range file.Messages().Len() {
		d := file.Messages().Get(i)
		hand := byHand[string(d.Name())]
		if hand == nil {
			t.Errorf("%s is published and not known here", d.Name())
			continue
		}
		for range 500 {
			want, err := proto.MarshalOptions{Deterministic: true}.Marshal(draw(r, d, 0))
			if err != nil {
				t.Fatal(err)
			}
			got, err := hand(want)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %v\nours   %x\ntheirs %x", d.Name(), err, got, want)
			}
		}
	}
}

func TestFieldsThatAreNotKnownAreSkipped(t *testing.T) {
	file := published(t)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range file.Messages().Len() {
		d := file.Messages().Get(i)
		hand := byHand[string(d.Name())]
		for range 100 {
			known, _ := proto.MarshalOptions{Deterministic: true}.Marshal(draw(r, d, 0))
			num := protowire.Number(1000 + r.IntN(1000))
			b := protowire.AppendTag(nil, num, protowire.StartGroupType)
			b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), 7)
			b = protowire.AppendTag(b, num, protowire.EndGroupType)
			b = protowire.AppendFixed64(protowire.AppendTag(b, num+1, protowire.Fixed64Type), 7)
			b = protowire.AppendBytes(protowire.AppendTag(b, num+2, protowire.BytesType), []byte("later"))
			b = protowire.AppendFixed32(protowire.AppendTag(b, 1, protowire.Fixed32Type), 7) // a known field of another type
			got, err := hand(append(b, known...))
			if err != nil || !bytes.Equal(got, known) {
				t.Fatalf("%s: %v\ngot  %x\nwant %x", d.Name(), err, got, known)
			}
		}
	}
}

func TestAListThatIsTooLongIsRefused(t *testing.T) {
	one := putStrings(nil, 1, []string{""})
	if err := new(Reasons).Decode(bytes.Repeat(one, maxItems)); err != nil {
		t.Fatal(err)
	}
	if err := new(Reasons).Decode(bytes.Repeat(one, maxItems+1)); err == nil {
		t.Fatal("a list without end was read")
	}
	pair := append(protowire.AppendTag(nil, 6, protowire.BytesType), 0)
	if err := new(AdmissionResponse).Decode(bytes.Repeat(pair, maxItems+1)); err == nil {
		t.Fatal("a list without end was read")
	}
}

func TestObjectsAreEncodedAsWanted(t *testing.T) {
	asked := 0
	q := AdmissionRequest{UID: "u", Object: objectFunc(func(w Wants) ([]byte, error) {
		asked++
		return fmt.Appendf(nil, "as %d", w), nil
	})}
	for _, w := range []Wants{JSON, Nothing, Protobuf} {
		b, err := q.Append(nil, w)
		if err != nil {
			t.Fatal(err)
		}
		var got AdmissionRequest
		if err := got.Decode(b); err != nil {
			t.Fatal(err)
		}
		if w == Nothing && got.Object != nil || w != Nothing && string(got.Object.(RawObject)) != fmt.Sprintf("as %d", w) {
			t.Fatalf("wanted %d, got %v", w, got.Object)
		}
	}
	if asked != 2 {
		t.Fatalf("the object was encoded %d times, twice it was wanted", asked)
	}
	if _, err := (&AdmissionRequest{Object: JSONObject("{}")}).Append(nil, Protobuf); err == nil {
		t.Fatal("JSON was passed for protobuf")
	}
}

type objectFunc func(Wants) ([]byte, error)

func (f objectFunc) Encoded(w Wants) ([]byte, error) { return f(w) }

// FuzzWhatAGuestSays: no bytes do harm, and what the protobuf library understands is understood in the same way.
func FuzzWhatAGuestSays(f *testing.F) {
	file := published(f)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range file.Messages().Len() {
		b, _ := proto.Marshal(draw(r, file.Messages().Get(i), 0))
		f.Add(uint8(i), b)
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		d := file.Messages().Get(int(which) % file.Messages().Len())
		hand := byHand[string(d.Name())]
		ours, err := hand(b)
		theirs := dynamicpb.NewMessage(d)
		theirErr := proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, theirs)
		if (err == nil) != (theirErr == nil) && len(b) < 2*maxItems {
			t.Fatalf("%s: ours %v, theirs %v: %x", d.Name(), err, theirErr, b)
		}
		if err != nil || theirErr != nil {
			return
		}
		canonical, _ := proto.MarshalOptions{Deterministic: true}.Marshal(theirs)
		if want, err := hand(canonical); err != nil || !bytes.Equal(ours, want) {
			t.Fatalf("%s: %v\ngot  %x\nwant %x", d.Name(), err, ours, want)
		}
	})
}
