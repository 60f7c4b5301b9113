package openapi

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"

	"github.com/pintle/pintle/orchestrator/api"
)

//go:embed definitions.json.gz
var embedded []byte

const (
	refPrefixV3 = "#/components/schemas/"
	refPrefixV2 = "#/definitions/"
	metaPrefix  = "io.k8s.apimachinery.pkg.apis.meta.v1."
)

// schemas maps model names to version 3 schemas.
type schemas map[string]json.RawMessage

func load() (schemas, error) {
	z, err := gzip.NewReader(bytes.NewReader(embedded))
	if err != nil {
		return nil, fmt.Errorf("open embedded definitions: %w", err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("read embedded definitions: %w", err)
	}
	all := schemas{}
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("decode embedded definitions: %w", err)
	}
	return all, nil
}

type modelNamer interface{ OpenAPIModelName() string }

// modelName is the name of a Go type among the definitions.
func modelName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if named, ok := reflect.New(t).Interface().(modelNamer); ok {
		return named.OpenAPIModelName()
	}
	pkg := t.PkgPath()
	host, rest, _ := strings.Cut(pkg, "/")
	parts := strings.Split(host, ".")
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(append(parts, strings.Split(rest, "/")...), ".") + "." + t.Name()
}

// models of a kind: the object's and its list's.
func models(k *api.Kind) (object, list string) {
	object = modelName(reflect.TypeOf(k.New()))
	if k.NewList != nil {
		list = modelName(reflect.TypeOf(k.NewList()))
	}
	return object, list
}

// reach copies what the names need, transitively, from all.
func (all schemas) reach(names []string) schemas {
	out := schemas{}
	// The pattern is made here because package variables are not ours to have.
	pattern := regexp.MustCompile(`"\$ref":"` + refPrefixV3 + `([^"]+)"`)
	for len(names) > 0 {
		name := names[len(names)-1]
		names = names[:len(names)-1]
		raw, ok := all[name]
		if _, done := out[name]; done || !ok {
			continue
		}
		out[name] = raw
		for _, m := range pattern.FindAllSubmatch(raw, -1) {
			names = append(names, string(m[1]))
		}
	}
	return out
}

// wrap brings a schema as the generator writes it into OpenAPI v3's form: beside a $ref nothing
// may stand, so a described reference becomes allOf with one member.
func wrap(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for key, value := range x {
			x[key] = wrap(value)
		}
		if ref, ok := x["$ref"]; ok && len(x) > 1 {
			delete(x, "$ref")
			x["allOf"] = []any{map[string]any{"$ref": ref}}
		}
		return x
	case []any:
		for i := range x {
			x[i] = wrap(x[i])
		}
		return x
	}
	return v
}

// v2 brings a schema into OpenAPI v2's form: references elsewhere, no allOf around them, no
// defaults (kubectl's validation and old clients trip over them), no oneOf.
func v2(v any, inProperties bool) any {
	switch x := v.(type) {
	case map[string]any:
		if !inProperties {
			delete(x, "default")
			if _, ok := x["oneOf"]; ok {
				delete(x, "oneOf")
				x["type"] = "string" // IntOrString and Quantity, whose formats say the rest
			}
		}
		for key, value := range x {
			if ref, ok := value.(string); ok && key == "$ref" {
				x[key] = refPrefixV2 + strings.TrimPrefix(ref, refPrefixV3)
				continue
			}
			x[key] = v2(value, key == "properties" && !inProperties)
		}
		return x
	case []any:
		for i := range x {
			x[i] = v2(x[i], false)
		}
		return x
	}
	return v
}
