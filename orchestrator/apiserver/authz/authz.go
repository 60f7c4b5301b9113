package authz

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

// Attributes is one question: may User do Verb there?
type Attributes struct {
	User *authn.User
	// Verb is get, list, watch, create, update, patch, delete or deletecollection for resources
	// (and bind, escalate, impersonate); the lower-case HTTP method for other paths.
	Verb       string
	Namespace  string
	APIGroup   string
	APIVersion string
	// Resource and Subresource are apart here ("pods", "log"); a rule names both as "pods/log".
	Resource    string
	Subresource string
	Name        string
	Path        string
	// ResourceRequest is false for /healthz, /version and the like, where only Path counts.
	ResourceRequest bool
}

// Authorizer answers. false with no error is "not by me": a reason may say why. An error with
// false says that something needed for the answer could not be read.
type Authorizer interface {
	Authorize(ctx context.Context, a Attributes) (allowed bool, reason string, err error)
}

// Union allows what any of its members allows.
type Union []Authorizer

// Authorize asks each in turn and stops at the first that allows.
func (u Union) Authorize(ctx context.Context, a Attributes) (bool, string, error) {
	var reasons []string
	var errs []error
	for _, authorizer := range u {
		allowed, reason, err := authorizer.Authorize(ctx, a)
		if allowed {
			return true, reason, nil
		}
		if reason != "" {
			reasons = append(reasons, reason)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return false, strings.Join(reasons, "; "), errors.Join(errs...)
}

// Masters allows everything to system:masters, so that a cluster whose roles are broken can be
// repaired.
type Masters struct{}

// Authorize allows members of system:masters.
func (Masters) Authorize(_ context.Context, a Attributes) (bool, string, error) {
	return a.User.InGroup(authn.GroupMasters), "", nil
}

// Forbidden is the refusal of a request, worded as Kubernetes words it: kubectl and people's
// scripts look for these sentences.
func Forbidden(a Attributes, reason string) *apierrors.StatusError {
	name := ""
	if a.User != nil {
		name = a.User.Name
	}
	if !a.ResourceRequest {
		msg := fmt.Sprintf("User %q cannot %s path %q", name, a.Verb, a.Path)
		return newForbidden(schema.GroupResource{}, "", msg, reason)
	}
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	msg := fmt.Sprintf("User %q cannot %s resource %q in API group %q", name, a.Verb, resource, a.APIGroup)
	if a.Namespace != "" {
		msg += fmt.Sprintf(" in the namespace %q", a.Namespace)
	} else {
		msg += " at the cluster scope"
	}
	return newForbidden(schema.GroupResource{Group: a.APIGroup, Resource: a.Resource}, a.Name, msg, reason)
}

func newForbidden(gr schema.GroupResource, name, msg, reason string) *apierrors.StatusError {
	if reason != "" {
		msg += ": " + reason
	}
	return apierrors.NewForbidden(gr, name, errors.New(msg))
}
