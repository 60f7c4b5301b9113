package apiserver

import (
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
	"github.com/pintle/pintle/orchestrator/apiserver/authz"
)

// requestInfo is what a request asks for, as its method and path say.
type requestInfo struct {
	verb string // of a resource: get, list, …; else the lower-case method
	path string

	resourceRequest     bool
	gvr                 schema.GroupVersionResource
	namespace           string // also set on namespaces/NAME, as authorization wants it
	name, subresource   string
	rest                string // what follows nodes/NAME/proxy, escaped as it came
	deprecatedWatchPath bool
}

// parseRequest never fails: a path that names no resource is a request for that path.
func parseRequest(r *http.Request) requestInfo {
	info := requestInfo{verb: strings.ToLower(r.Method), path: r.URL.Path}
	parts := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) >= 3:
		info.gvr.Version, parts = parts[1], parts[2:]
	case parts[0] == "apis" && len(parts) >= 4:
		info.gvr.Group, info.gvr.Version, parts = parts[1], parts[2], parts[3:]
	default:
		return info
	}
	info.resourceRequest = true
	if parts[0] == "watch" && len(parts) > 1 {
		info.deprecatedWatchPath, parts = true, parts[1:]
	}
	if parts[0] == "namespaces" && len(parts) > 1 {
		info.namespace = unescape(parts[1])
		if len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
			parts = parts[2:]
		}
	}
	info.gvr.Resource = unescape(parts[0])
	if len(parts) > 1 {
		info.name = unescape(parts[1])
	}
	if len(parts) > 2 {
		info.subresource = unescape(parts[2])
	}
	if len(parts) > 3 {
		info.rest = "/" + strings.Join(parts[3:], "/")
	}
	info.verb = resourceVerb(r, info)
	return info
}

func unescape(s string) string {
	if out, err := url.PathUnescape(s); err == nil {
		return out
	}
	return s
}

func resourceVerb(r *http.Request, info requestInfo) string {
	switch r.Method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if info.name == "" {
			return "deletecollection"
		}
		return "delete"
	case http.MethodGet, http.MethodHead:
		watching := info.deprecatedWatchPath || isTrue(r.URL.Query().Get("watch"))
		switch {
		case info.name != "" && info.deprecatedWatchPath:
			return "watch"
		case info.name != "":
			return "get"
		case watching:
			return "watch"
		default:
			return "list"
		}
	}
	return strings.ToLower(r.Method)
}

// isTrue reads a boolean query parameter as Kubernetes does: present and neither 0 nor false.
func isTrue(s string) bool { return s != "" && s != "0" && !strings.EqualFold(s, "false") }

// attributes is the question that authorization answers. Several answers need the selected name:
// a list by metadata.name is allowed to who may list that one object.
func (i requestInfo) attributes(user *authn.User) authz.Attributes {
	return authz.Attributes{
		User: user, Verb: i.verb, Namespace: i.namespace, APIGroup: i.gvr.Group, APIVersion: i.gvr.Version,
		Resource: i.gvr.Resource, Subresource: i.subresource, Name: i.name, Path: i.path, ResourceRequest: i.resourceRequest,
	}
}
