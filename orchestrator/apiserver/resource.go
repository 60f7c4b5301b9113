package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver/authn"
	"github.com/pintle/pintle/orchestrator/registry"
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
		return errNoSuchPath()
	}
	c := &call{Server: s, info: info, kind: kind, gvr: info.gvr, name: info.name, user: user, query: r.URL.Query()}
	if kind.Namespaced {
		c.namespace = info.namespace
		if c.namespace == "" && (info.name != "" || info.verb == "deletecollection") {
			return errNoSuchPath()
		}
		if c.namespace == "" && info.verb == "create" {
			return errMethod()
		}
	} else if info.namespace != "" && (kind.Resource != "namespaces" || info.gvr.Group != "") {
		return errNoSuchPath()
	}
	if info.verb == "watch" {
		if info.subresource != "" {
			return errMethod()
		}
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
	r = r.WithContext(ctx)
	if info.subresource != "" {
		return c.subresource(w, r)
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
	case info.verb == "deletecollection":
		return c.deleteCollection(w, r)
	}
	return errMethod()
}

// streams reports whether a subresource's body and answer are carried on to a node.
func streams(subresource string) bool {
	return slices.Contains([]string{"log", "exec", "attach", "portforward", "proxy"}, subresource)
}

// dryRun reads the option of that name; the only value that there is is All.
func dryRun(values []string) (bool, error) {
	for _, v := range values {
		if v != metav1.DryRunAll {
			return false, apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "Options"}, "", field.ErrorList{
				field.NotSupported(field.NewPath("dryRun"), values, []string{metav1.DryRunAll})})
		}
	}
	return len(values) > 0, nil
}

// manager is who the change is attributed to: the option, or the program's name as its user agent
// gives it.
func (c *call) manager(r *http.Request) (string, error) {
	name := c.query.Get("fieldManager")
	if name == "" {
		name, _, _ = strings.Cut(r.UserAgent(), "/")
		name = strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return -1
			}
			return r
		}, name)
		if len(name) > 128 {
			name = name[:128]
		}
		return name, nil
	}
	if len(name) > 128 {
		return "", apierrors.NewBadRequest("fieldManager: may not be longer than 128 bytes")
	}
	return name, nil
}

func (c *call) createOptions(dry bool, manager string) registry.CreateOptions {
	return registry.CreateOptions{User: c.user.Name, Groups: c.user.Groups, DryRun: dry, FieldManager: manager}
}

func (c *call) updateOptions(dry bool, manager string) registry.UpdateOptions {
	return registry.UpdateOptions{User: c.user.Name, Groups: c.user.Groups, DryRun: dry, FieldManager: manager}
}

// writeOptions are what create, update and patch have in common.
type writeOptions struct {
	dryRun     bool
	manager    string
	validation fieldValidation
}

func (c *call) writeOptions(r *http.Request) (o writeOptions, err error) {
	if o.dryRun, err = dryRun(c.query["dryRun"]); err != nil {
		return o, err
	}
	if o.manager, err = c.manager(r); err != nil {
		return o, err
	}
	o.validation, err = fieldValidationOf(r)
	return o, err
}

// checkIdentity holds an object against the URL that it was sent to.
func (c *call) checkIdentity(obj api.Object) error {
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
