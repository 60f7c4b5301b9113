package apiserver

import (
	"encoding/binary"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/registry"
)

// protobufMagic begins every object in Kubernetes' protobuf envelope.
const protobufMagic = "k8s\x00"

// Tags of length-delimited fields: 1 and 2 of a runtime.Unknown, and of every list.
const (
	tagField1 = 1<<3 | 2
	tagField2 = 2<<3 | 2
)

// protobufBytes encodes an object without touching it: its kind stands in the envelope.
func protobufBytes(obj runtime.Object, gvk schema.GroupVersionKind) ([]byte, error) {
	marshaler, ok := obj.(interface{ Marshal() ([]byte, error) })
	if !ok {
		return nil, errNotAcceptable(mediaJSON + ", " + mediaYAML)
	}
	raw, err := marshaler.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", gvk.Kind, err)
	}
	return append(envelope(gvk, len(raw)), raw...), nil
}

// protobufEntry copies an entry's encoding, which is made once.
func (c *call) protobufEntry(entry *registry.Entry) ([]byte, error) {
	raw := entry.Protobuf()
	if raw == nil {
		return nil, errNotAcceptable(mediaJSON + ", " + mediaYAML)
	}
	return append(envelope(c.kind.GroupVersionKind, len(raw)), raw...), nil
}

// protobufList joins the entries' encodings, as jsonList does.
func (c *call) protobufList(entries []*registry.Entry, listMeta metav1.ListMeta) ([]byte, error) {
	header, err := listMeta.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode list of %s: %w", c.kind.Resource, err)
	}
	size := fieldSize(len(header))
	for _, entry := range entries {
		raw := entry.Protobuf()
		if raw == nil {
			return nil, errNotAcceptable(mediaJSON + ", " + mediaYAML)
		}
		size += fieldSize(len(raw))
	}
	out := appendField(envelope(c.listGVK(), size), tagField1, header)
	for _, entry := range entries {
		out = appendField(out, tagField2, entry.Protobuf())
	}
	return out, nil
}

// envelope begins a runtime.Unknown whose raw message, of size bytes, is to be appended, with room for it.
func envelope(gvk schema.GroupVersionKind, size int) []byte {
	apiVersion, kind := gvk.ToAPIVersionAndKind()
	typeMeta := appendField(nil, tagField1, []byte(apiVersion))
	typeMeta = appendField(typeMeta, tagField2, []byte(kind))
	out := make([]byte, 0, len(protobufMagic)+fieldSize(len(typeMeta))+fieldSize(size))
	out = append(out, protobufMagic...)
	out = appendField(out, tagField1, typeMeta)
	out = append(out, tagField2)
	return binary.AppendUvarint(out, uint64(size))
}

func appendField(out []byte, tag byte, value []byte) []byte {
	out = append(out, tag)
	return append(binary.AppendUvarint(out, uint64(len(value))), value...)
}

// fieldSize is how many bytes a field takes at most, for values of this length.
func fieldSize(length int) int {
	n := 2 + length
	for ; length >= 0x80; length >>= 7 {
		n++
	}
	return n
}
