// Package registration speaks the kubelet's plugin registration, from both sides.
package registration

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// The kubelet's registration service, pluginregistration.Registration, has two calls with messages of a few fields: they are
// written here by hand, because its module's descriptors would be a second registration of the same names in a host program
// that links them.
const (
	service = "pluginregistration.Registration"
	getInfo = "GetInfo"
	notify  = "NotifyRegistrationStatus"
	timeout = 10 * time.Second
)

// Info is what a plugin says of itself.
type Info struct {
	Type, Name, Endpoint string
	Versions             []string
}

func (i *Info) marshal() (b []byte) {
	for n, s := range []string{i.Type, i.Name, i.Endpoint} {
		if s != "" {
			b = protowire.AppendString(protowire.AppendTag(b, protowire.Number(n+1), protowire.BytesType), s)
		}
	}
	for _, v := range i.Versions {
		b = protowire.AppendString(protowire.AppendTag(b, 4, protowire.BytesType), v)
	}
	return b
}

func (i *Info) unmarshal(b []byte) error {
	return fields(b, func(n protowire.Number, s string, _ uint64) {
		switch n {
		case 1:
			i.Type = s
		case 2:
			i.Name = s
		case 3:
			i.Endpoint = s
		case 4:
			i.Versions = append(i.Versions, s)
		}
	})
}

// Status is what a plugin is told.
type Status struct {
	Registered bool
	Error      string
}

func (r *Status) marshal() (b []byte) {
	if r.Registered {
		b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), 1)
	}
	if r.Error != "" {
		b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), r.Error)
	}
	return b
}

func (r *Status) unmarshal(b []byte) error {
	return fields(b, func(n protowire.Number, s string, v uint64) {
		switch n {
		case 1:
			r.Registered = v != 0
		case 2:
			r.Error = s
		}
	})
}

// empty is a message whose fields don't matter.
type empty struct{}

func (empty) marshal() []byte        { return nil }
func (empty) unmarshal([]byte) error { return nil }

// fields visits the fields of a message; those of other types than string and varint are passed over.
func fields(b []byte, visit func(n protowire.Number, s string, v uint64)) error {
	for len(b) > 0 {
		n, t, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		switch t {
		case protowire.BytesType:
			v, size := protowire.ConsumeBytes(b)
			if size < 0 {
				return protowire.ParseError(size)
			}
			visit(n, string(v), 0)
			b = b[size:]
		case protowire.VarintType:
			v, size := protowire.ConsumeVarint(b)
			if size < 0 {
				return protowire.ParseError(size)
			}
			visit(n, "", v)
			b = b[size:]
		default:
			size := protowire.ConsumeFieldValue(n, t, b)
			if size < 0 {
				return protowire.ParseError(size)
			}
			b = b[size:]
		}
	}
	return nil
}

// codec carries the messages above; it calls itself what protobuf's codec is called, which is what is on the wire.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(interface{ marshal() []byte })
	if !ok {
		return nil, fmt.Errorf("%T is no message of the registration service", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(m.marshal())}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(interface{ unmarshal([]byte) error })
	if !ok {
		return fmt.Errorf("%T is no message of the registration service", v)
	}
	return m.unmarshal(data.Materialize())
}

// Ask asks a plugin who it is.
func Ask(ctx context.Context, conn *grpc.ClientConn) (Info, error) {
	var info Info
	return info, invoke(ctx, conn, getInfo, empty{}, &info)
}

// Tell tells a plugin whether it is registered.
func Tell(ctx context.Context, conn *grpc.ClientConn, s Status) error {
	return invoke(ctx, conn, notify, &s, empty{})
}

func invoke(ctx context.Context, conn *grpc.ClientConn, method string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := conn.Invoke(ctx, "/"+service+"/"+method, in, out, grpc.ForceCodecV2(codec{})); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// NewServer is a plugin's side: it says info, and calls told with what it is told.
func NewServer(info Info, told func(Status)) *grpc.Server {
	s := grpc.NewServer(grpc.ForceServerCodecV2(codec{}))
	s.RegisterService(&grpc.ServiceDesc{ServiceName: service, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{
		{MethodName: getInfo, Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return &info, decode(empty{})
		}},
		{MethodName: notify, Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var st Status
			if err := decode(&st); err != nil {
				return nil, err
			}
			told(st)
			return empty{}, nil
		}},
	}}, struct{}{})
	return s
}
