package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// objects are a cluster that a file stands in for: what policies look up that were granted it.
type objects []*unstructured.Unstructured

// readObjects reads manifests, JSON or YAML, several in a file, Lists among them.
func readObjects(name string) (objects, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all objects
	for d := yaml.NewYAMLOrJSONDecoder(f, 4096); ; {
		var u unstructured.Unstructured
		switch err := d.Decode(&u.Object); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", name, err)
		case len(u.Object) == 0: // an empty document
			continue
		}
		if !u.IsList() {
			all = append(all, &u)
			continue
		}
		list, err := u.ToList()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for i := range list.Items {
			all = append(all, &list.Items[i])
		}
	}
}

// lookup finds one object by "group/version/resource/namespace/name", or lists those of a namespace or of all.
// It is policies.Config's.
func (all objects) lookup(_ context.Context, name string) ([]byte, error) {
	parts := strings.Split(name, "/")
	if len(parts) != 5 {
		return nil, fmt.Errorf("%q names no object: want group/version/resource/namespace/name", name)
	}
	items := []any{}
	for _, u := range all {
		gvk := u.GroupVersionKind()
		resource, _ := meta.UnsafeGuessKindToResource(gvk)
		if resource.Group != parts[0] || resource.Version != parts[1] || resource.Resource != parts[2] {
			continue
		}
		switch {
		case parts[4] == "" && (parts[3] == "" || u.GetNamespace() == parts[3]):
			items = append(items, u.Object)
		case parts[4] != "" && u.GetName() == parts[4] && u.GetNamespace() == parts[3]:
			return json.Marshal(u.Object)
		}
	}
	if parts[4] != "" {
		return nil, nil
	}
	return json.Marshal(map[string]any{"items": items})
}
