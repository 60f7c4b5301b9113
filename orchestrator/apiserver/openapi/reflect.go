package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// addType describes a Go type that the embedded definitions don't have, and the types that it
// needs, from its fields' names and types. Descriptions come from SwaggerDoc where a type has it.
func (all schemas) addType(t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := modelName(t)
	if _, ok := all[name]; ok {
		return nil
	}
	all[name] = nil // recursive types end here
	docs := map[string]string{}
	if documented, ok := reflect.New(t).Interface().(interface{ SwaggerDoc() map[string]string }); ok {
		docs = documented.SwaggerDoc()
	}
	schema := map[string]any{"type": "object"}
	if doc := docs[""]; doc != "" {
		schema["description"] = doc
	}
	properties := map[string]any{}
	if err := all.addFields(t, docs, properties); err != nil {
		return err
	}
	if len(properties) > 0 {
		schema["properties"] = properties
	}
	raw, err := json.Marshal(schema)
	if err != nil {
		return fmt.Errorf("describe %s: %w", t, err)
	}
	all[name] = raw
	return nil
}

func (all schemas) addFields(t reflect.Type, docs map[string]string, properties map[string]any) error {
	if t.Kind() != reflect.Struct {
		return nil
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" && (f.Anonymous || strings.Contains(options, "inline")) {
			inner := f.Type
			for inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if err := all.addFields(inner, docs, properties); err != nil {
				return err
			}
			continue
		}
		if name == "" {
			name = f.Name
		}
		property, err := all.property(f.Type)
		if err != nil {
			return err
		}
		if doc := docs[name]; doc != "" {
			property["description"] = doc
		}
		if key := f.Tag.Get("patchMergeKey"); key != "" {
			property["x-kubernetes-patch-merge-key"] = key
			property["x-kubernetes-list-type"] = "map"
			property["x-kubernetes-list-map-keys"] = []string{key}
		}
		if strategy := f.Tag.Get("patchStrategy"); strategy != "" {
			property["x-kubernetes-patch-strategy"] = strategy
		}
		properties[name] = property
	}
	return nil
}

func (all schemas) property(t reflect.Type) (map[string]any, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return map[string]any{"type": "boolean"}, nil
	case reflect.String:
		return map[string]any{"type": "string"}, nil
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer", "format": "int64"}, nil
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Uint8, reflect.Uint16:
		return map[string]any{"type": "integer", "format": "int32"}, nil
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number", "format": "double"}, nil
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": "string", "format": "byte"}, nil
		}
		items, err := all.property(t.Elem())
		return map[string]any{"type": "array", "items": items}, err
	case reflect.Map:
		values, err := all.property(t.Elem())
		return map[string]any{"type": "object", "additionalProperties": values}, err
	case reflect.Struct:
		if t.Name() == "" {
			properties := map[string]any{}
			err := all.addFields(t, nil, properties)
			return map[string]any{"type": "object", "properties": properties}, err
		}
		err := all.addType(t)
		return map[string]any{"$ref": refPrefixV3 + modelName(t)}, err
	default: // interfaces: anything
		return map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}, nil
	}
}
