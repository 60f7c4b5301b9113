package apiserver

import (
	"net/http/httptest"
	"net/url"
	"testing"
)

func TestRequestsAreReadFromMethodAndPath(t *testing.T) {
	for _, tc := range []struct {
		method, target                                    string
		verb, group, resource, namespace, name, sub, rest string
		path                                              bool
	}{
		{method: "GET", target: "/api/v1/pods", verb: "list", resource: "pods"},
		{method: "GET", target: "/api/v1/pods?watch=true", verb: "watch", resource: "pods"},
		{method: "GET", target: "/api/v1/pods?watch=0", verb: "list", resource: "pods"},
		{method: "GET", target: "/api/v1/watch/namespaces/a/pods/p", verb: "watch", resource: "pods", namespace: "a", name: "p"},
		{method: "POST", target: "/api/v1/namespaces/a/pods", verb: "create", resource: "pods", namespace: "a"},
		{method: "GET", target: "/api/v1/namespaces/a/pods/p/log?follow=true", verb: "get", resource: "pods", namespace: "a", name: "p", sub: "log"},
		{method: "DELETE", target: "/api/v1/namespaces/a/pods", verb: "deletecollection", resource: "pods", namespace: "a"},
		{method: "DELETE", target: "/api/v1/namespaces/a/pods/p", verb: "delete", resource: "pods", namespace: "a", name: "p"},
		{method: "GET", target: "/api/v1/namespaces/a", verb: "get", resource: "namespaces", namespace: "a", name: "a"},
		{method: "PUT", target: "/api/v1/namespaces/a/finalize", verb: "update", resource: "namespaces", namespace: "a", name: "a", sub: "finalize"},
		{method: "PATCH", target: "/api/v1/namespaces/a/status", verb: "patch", resource: "namespaces", namespace: "a", name: "a", sub: "status"},
		{method: "PATCH", target: "/apis/apps/v1/namespaces/a/deployments/d/scale", verb: "patch", group: "apps", resource: "deployments", namespace: "a", name: "d", sub: "scale"},
		{method: "GET", target: "/api/v1/nodes/n/proxy/logs/a%2Fb", verb: "get", resource: "nodes", name: "n", sub: "proxy", rest: "/logs/a%2Fb"},
		{method: "GET", target: "/apis/apps/v1", verb: "get", path: true},
		{method: "GET", target: "/apis/apps", verb: "get", path: true},
		{method: "GET", target: "/api/v1", verb: "get", path: true},
		{method: "GET", target: "/", verb: "get", path: true},
		{method: "GET", target: "/healthz/ping", verb: "get", path: true},
		{method: "GET", target: "/api//v1//", verb: "list", resource: "v1"},
	} {
		got := parseRequest(httptest.NewRequest(tc.method, tc.target, nil))
		if got.verb != tc.verb || got.gvr.Group != tc.group || got.gvr.Resource != tc.resource || got.namespace != tc.namespace ||
			got.name != tc.name || got.subresource != tc.sub || got.rest != tc.rest || got.resourceRequest == tc.path {
			t.Errorf("%s %s: %+v", tc.method, tc.target, got)
		}
	}
}

func FuzzNoPathPanics(f *testing.F) {
	f.Add("/api/v1/namespaces/a/pods/p/log")
	f.Add("/apis///")
	f.Add("/api/v1/watch")
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL = &url.URL{Path: path}
		parseRequest(r)
	})
}

func TestTheFirstAcceptedFormThatFitsIsChosen(t *testing.T) {
	kubectl := "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
	for _, tc := range []struct {
		accept     string
		transforms []string
		want       negotiated
		fails      bool
	}{
		{accept: "", want: negotiated{}},
		{accept: "*/*", want: negotiated{}},
		{accept: kubectl, transforms: []string{asTable}, want: negotiated{as: asTable, version: "v1"}},
		{accept: "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json", transforms: []string{asGroupDiscovery}, want: negotiated{as: asGroupDiscovery, version: "v2beta1"}},
		{accept: "application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList,application/json", transforms: []string{asGroupDiscovery}, want: negotiated{}},
		{accept: "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json", transforms: []string{asGroupDiscovery}, want: negotiated{}},
		{accept: kubectl, want: negotiated{}},
		{accept: "application/vnd.kubernetes.protobuf,application/json", want: negotiated{format: formatProtobuf}},
		{accept: "application/json;q=0.2,application/yaml", want: negotiated{format: formatYAML}},
		{accept: "application/json; pretty=1", want: negotiated{pretty: true}},
		{accept: "application/cbor, application/json", want: negotiated{}},
		{accept: "application/cbor", fails: true},
		{accept: "text/html", fails: true},
		{accept: ";;;", fails: true},
	} {
		got, err := negotiate(tc.accept, url.Values{}, tc.transforms)
		if (err != nil) != tc.fails || got != tc.want {
			t.Errorf("%q: %+v, %v", tc.accept, got, err)
		}
	}
}
