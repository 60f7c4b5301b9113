package main

import (
	"bytes"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/policies/abi"
)

// protobuf encodes an object of Kubernetes for policies that want it so: without the envelope.
func protobuf(kind abi.GroupVersionKind, json []byte) ([]byte, error) {
	gvk := schema.GroupVersionKind(kind)
	object, err := scheme.Scheme.New(gvk)
	if err != nil {
		return nil, fmt.Errorf("%s has no protobuf encoding: %w", gvk, err)
	}
	if _, _, err := scheme.Codecs.UniversalDeserializer().Decode(json, &gvk, object); err != nil {
		return nil, err
	}
	m, ok := object.(interface{ Marshal() ([]byte, error) })
	if !ok {
		return nil, fmt.Errorf("%s has no protobuf encoding", gvk)
	}
	return m.Marshal()
}

// settingsJSON takes JSON, and YAML as JSON.
func settingsJSON(b []byte) ([]byte, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, nil
	}
	return yaml.YAMLToJSON(b)
}
