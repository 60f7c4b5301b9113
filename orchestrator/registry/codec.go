package registry

import (
	"bytes"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"github.com/pintle/pintle/orchestrator/api"
)

// protobufMagic begins every value in Kubernetes' protobuf envelope.
const protobufMagic = "k8s\x00"

// codec is the stored form: Kubernetes' protobuf, or JSON for types that have no protobuf form.
type codec struct{ proto *protobuf.Serializer }

func newCodec() *codec {
	scheme := api.Scheme()
	return &codec{proto: protobuf.NewSerializer(scheme, scheme)}
}

func (c *codec) encode(obj runtime.Object) ([]byte, error) {
	type marshaler interface{ Marshal() ([]byte, error) }
	if _, ok := obj.(marshaler); !ok {
		return json.Marshal(obj)
	}
	var b bytes.Buffer
	if err := c.proto.Encode(obj, &b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (c *codec) decode(kind *api.Kind, data []byte) (api.Object, error) {
	obj := kind.New()
	if bytes.HasPrefix(data, []byte(protobufMagic)) {
		gvk := kind.GroupVersionKind
		if _, _, err := c.proto.Decode(data, &gvk, obj); err != nil {
			return nil, fmt.Errorf("decode %s: %w", kind.Resource, err)
		}
	} else if err := json.Unmarshal(data, obj); err != nil {
		return nil, fmt.Errorf("decode %s: %w", kind.Resource, err)
	}
	obj.GetObjectKind().SetGroupVersionKind(kind.GroupVersionKind)
	return obj, nil
}
