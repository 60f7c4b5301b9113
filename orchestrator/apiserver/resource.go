package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

// requestTimeout ends requests that are no streams, as in Kubernetes.
const requestTimeout = time.Minute

// call is one request for a resource.
type call struct {
	*Server
	info      requestInfo
	kind      *api.Kind
	gvr       schema.GroupVersionResource
	namespace string // "" for kinds without, namespaces included
	name      string
	user      *authn.User
	query     url.Values
}

func (s *Server) serveResource(w http.ResponseWriter, r *http.Request, info requestInfo, user *authn.User) error {
	kind := s.registry.Kind(info.gvr)
	if kind == nil {
		if review := reviewKind(info.gvr); review != nil {
			return s.serveReview(w, r, info, user, review)
		}
		if s.servesMetrics(info) {
			return s.serveMetrics(w, r, info)
		}
		if isDefinitions(info) {
			return s.noDefinitions(w, r)
		}
		return errNoSuchPath()
	}
	c := &call{Server: s, info: info, kind: kind, gvr: info.gvr, name: info.name, user: user, query: r.URL.Query()}
	if kind.Namespaced {
		c.namespace = info.namespace
		if c.namespace == "" && info.name != "" {
			return errNoSuchPath()
		}
		if c.namespace == "" && info.verb != "list" && info.verb != "watch" {
			return errMethod()
		}
	} else if info.namespace != "" && (kind.Resource != "namespaces" || info.gvr.Group != "") {
		return errNoSuchPath()
	}
	if info.verb == "watch" && info.subresource != "" {
		return errMethod()
	}
	if c.newest() {
		if err := c.registry.Current(r.Context()); err != nil {
			return err
		}
	}
	if info.verb == "watch" {
		return c.watch(w, r)
	}
	if streams(info.subresource) {
		return c.subresource(w, r)
	}
	timeout := requestTimeout
	if v := c.query.Get("timeout"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("invalid timeout specified in the request URL: %v", err))
		}
		if d > 0 && d < timeout {
			timeout = d
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	r = r.WithContext(warned(ctx, w))
	if err := c.restrictVolumes(r.Context()); err != nil {
		return err
	}
	if info.subresource != "" {
		return c.subresource(w, r)
	}
	if err := c.restrictSlice(r.Context()); err != nil {
		return err
	}
	switch {
	case info.verb == "get":
		return c.get(w, r)
	case info.verb == "list":
		return c.list(w, r)
	case info.verb == "create" && info.name == "":
		return c.create(w, r)
	case info.verb == "update" && info.name != "":
		return c.update(w, r, "")
	case info.verb == "patch" && info.name != "":
		return c.patch(w, r, "")
	case info.verb == "delete":
		return c.delete(w, r)
	case info.verb == "deletecollection" && offersDeleteCollection(kind):
		return c.deleteCollection(w, r)
	}
	return errMethod()
}

// newest says whether the request is about what is stored now. A read that names a resourceVersion takes what
// this member has, or waits for it.
func (c *call) newest() bool {
	switch c.info.verb {
	case "get", "list", "watch":
		return c.query.Get("resourceVersion") == "" && c.query.Get("continue") == ""
	}
	return true
}

// streams reports whether a subresource's body and answer are carried on to a node.
func streams(subresource string) bool {
	return slices.Contains([]string{"log", "exec", "attach", "portforward", "proxy"}, subresource)
}

// checkIdentity holds an object against the URL that it was sent to.
func (c *call) checkIdentity(obj metav1.Object) error {
	if c.kind.Namespaced {
		if obj.GetNamespace() == "" {
			obj.SetNamespace(c.namespace)
		}
		if obj.GetNamespace() != c.namespace {
			return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
		}
	} else if obj.GetNamespace() != "" {
		return apierrors.NewBadRequest("namespace may not be set on a cluster-scoped object")
	}
	if c.name == "" {
		return nil
	}
	if obj.GetName() == "" {
		obj.SetName(c.name)
	}
	if obj.GetName() != c.name {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), c.name))
	}
	return nil
}
