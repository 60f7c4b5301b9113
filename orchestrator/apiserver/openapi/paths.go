package openapi

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
)

// operation is one method of one path, before it is written as v2 or v3.
type operation struct {
	method, action, id string
	body, result       string // model names
	patch              bool
	query              []string
	gvk                map[string]any
}

type path struct {
	url        string
	parameters []string // in the path
	operations []operation
}

func gvkOf(k *api.Kind) map[string]any { return gvkMap(k.GroupVersionKind) }

func gvkMap(gvk schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}

// writeQuery are the parameters that every write has.
func writeQuery() []string { return []string{"dryRun", "fieldManager", "fieldValidation"} }

// reviewPath is where a review is created.
func reviewPath(r Review, model string) path {
	p := path{url: "/" + rootOf(r.GroupVersionKind.GroupVersion()) + "/" + r.Resource}
	scope := ""
	if r.Namespaced {
		scope, p.parameters = "Namespaced", []string{"namespace"}
		p.url = "/" + rootOf(r.GroupVersionKind.GroupVersion()) + "/namespaces/{namespace}/" + r.Resource
	}
	p.operations = []operation{{method: "post", action: "post", id: "create" + scope + r.GroupVersionKind.Kind, body: model, result: model,
		query: writeQuery(), gvk: gvkMap(r.GroupVersionKind)}}
	return p
}

// paths lists what the API server serves for a kind.
func paths(k *api.Kind) []path {
	root := "/" + rootOf(k.GroupVersionKind.GroupVersion())
	object, list := models(k)
	kind, gvk := k.GroupVersionKind.Kind, gvkOf(k)
	write := writeQuery()
	read := []string{"allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch"}
	remove := []string{"dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"}
	deleteOptions, status := metaPrefix+"DeleteOptions", metaPrefix+"Status"

	scope, scoped := "", []string(nil)
	base := root + "/" + k.Resource
	if k.Namespaced {
		scope, scoped = "Namespaced", []string{"namespace"}
		base = root + "/namespaces/{namespace}/" + k.Resource
	}
	named := append(slices.Clone(scoped), "name")
	collection := path{url: base, parameters: scoped, operations: []operation{
		{method: "get", action: "list", id: "list" + scope + kind, result: list, query: read, gvk: gvk},
		{method: "post", action: "post", id: "create" + scope + kind, body: object, result: object, query: write, gvk: gvk},
		{method: "delete", action: "deletecollection", id: "deleteCollection" + scope + kind, body: deleteOptions, result: status, query: append(slices.Clone(read), remove...), gvk: gvk},
	}}
	item := path{url: base + "/{name}", parameters: named, operations: []operation{
		{method: "get", action: "get", id: "read" + scope + kind, result: object, gvk: gvk},
		{method: "put", action: "put", id: "replace" + scope + kind, body: object, result: object, query: write, gvk: gvk},
		{method: "patch", action: "patch", id: "patch" + scope + kind, body: metaPrefix + "Patch", patch: true, result: object, query: append(slices.Clone(write), "force"), gvk: gvk},
		{method: "delete", action: "delete", id: "delete" + scope + kind, body: deleteOptions, result: status, query: remove, gvk: gvk},
	}}
	out := []path{collection, item}
	if k.Namespaced {
		out = append(out, path{url: root + "/" + k.Resource, operations: []operation{
			{method: "get", action: "list", id: "list" + kind + "ForAllNamespaces", result: list, query: read, gvk: gvk},
		}})
	}
	sub := func(name, suffix, model string, gvk map[string]any) {
		out = append(out, path{url: base + "/{name}/" + name, parameters: named, operations: []operation{
			{method: "get", action: "get", id: "read" + scope + kind + suffix, result: model, gvk: gvk},
			{method: "put", action: "put", id: "replace" + scope + kind + suffix, body: model, result: model, query: write, gvk: gvk},
			{method: "patch", action: "patch", id: "patch" + scope + kind + suffix, body: metaPrefix + "Patch", patch: true, result: model, query: append(slices.Clone(write), "force"), gvk: gvk},
		}})
	}
	if k.Status != nil {
		sub("status", "Status", object, gvk)
	}
	if k.Resize != nil {
		sub("resize", "Resize", object, gvk)
	}
	if k.Scale != nil {
		sub("scale", "Scale", "io.k8s.api.autoscaling.v1.Scale", map[string]any{"group": "autoscaling", "version": "v1", "kind": "Scale"})
	}
	return out
}

func parameterType(name string) string {
	switch name {
	case "allowWatchBookmarks", "sendInitialEvents", "watch", "force", "orphanDependents":
		return "boolean"
	case "limit", "timeoutSeconds", "gracePeriodSeconds":
		return "integer"
	}
	return "string"
}

const (
	jsonType  = "application/json"
	yamlType  = "application/yaml"
	protoType = "application/vnd.kubernetes.protobuf"
)

func patchTypes() []string {
	return []string{"application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"}
}

// v3Path writes a path item of OpenAPI v3.
func (p path) v3() map[string]any {
	item := map[string]any{}
	parameter := func(name, in string) map[string]any {
		return map[string]any{"name": name, "in": in, "required": in == "path", "schema": map[string]any{"type": parameterType(name), "uniqueItems": true}}
	}
	var inPath []any
	for _, name := range p.parameters {
		inPath = append(inPath, parameter(name, "path"))
	}
	if inPath != nil {
		item["parameters"] = inPath
	}
	for _, o := range p.operations {
		op := map[string]any{"operationId": o.id, "x-kubernetes-action": o.action, "x-kubernetes-group-version-kind": o.gvk}
		var query []any
		for _, name := range o.query {
			query = append(query, parameter(name, "query"))
		}
		if query != nil {
			op["parameters"] = query
		}
		schema := func(model string) map[string]any {
			return map[string]any{"schema": map[string]any{"$ref": refPrefixV3 + model}}
		}
		if o.body != "" {
			content := map[string]any{}
			types := []string{jsonType, yamlType, protoType}
			if o.patch {
				types = patchTypes()
			}
			for _, t := range types {
				content[t] = schema(o.body)
			}
			op["requestBody"] = map[string]any{"content": content}
		}
		content := map[string]any{}
		for _, t := range []string{jsonType, yamlType, protoType} {
			content[t] = schema(o.result)
		}
		op["responses"] = map[string]any{"200": map[string]any{"description": "OK", "content": content}}
		item[o.method] = op
	}
	return item
}

// v2Path writes a path item of OpenAPI v2.
func (p path) v2() map[string]any {
	item := map[string]any{}
	parameter := func(name, in string) map[string]any {
		out := map[string]any{"name": name, "in": in, "type": parameterType(name), "uniqueItems": true}
		if in == "path" {
			out["required"] = true
		}
		return out
	}
	var inPath []any
	for _, name := range p.parameters {
		inPath = append(inPath, parameter(name, "path"))
	}
	if inPath != nil {
		item["parameters"] = inPath
	}
	for _, o := range p.operations {
		op := map[string]any{
			"operationId": o.id, "x-kubernetes-action": o.action, "x-kubernetes-group-version-kind": o.gvk,
			"schemes": []string{"https"}, "produces": []string{jsonType, yamlType, protoType}, "consumes": []string{"*/*"},
		}
		var parameters []any
		if o.body != "" {
			parameters = append(parameters, map[string]any{"name": "body", "in": "body", "required": o.method == "put" || o.method == "post" || o.patch, "schema": map[string]any{"$ref": refPrefixV2 + o.body}})
		}
		if o.patch {
			op["consumes"] = patchTypes()
		}
		for _, name := range o.query {
			parameters = append(parameters, parameter(name, "query"))
		}
		if parameters != nil {
			op["parameters"] = parameters
		}
		op["responses"] = map[string]any{"200": map[string]any{"description": "OK", "schema": map[string]any{"$ref": refPrefixV2 + o.result}}}
		item[o.method] = op
	}
	return item
}
