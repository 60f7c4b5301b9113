package registry

import (
	"context"
	"errors"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
)

// Replace has the object become another of its type. What defaulting and preparing do is then done again, so that
// an Admitter changes no more than a client might: not the status with the object, not the object with its status.
func (r Request) Replace(with api.Object) {
	reflect.ValueOf(r.Object).Elem().Set(reflect.ValueOf(with).Elem())
	if r.replaced != nil {
		*r.replaced = true
	}
}

// admit asks the configured Admitter, and fills in what defaults its changes need.
func (r *Registry) admit(ctx context.Context, req Request, unquestioned bool) error {
	_, err := r.admitted(ctx, req, unquestioned)
	return err
}

// admitted also says whether the object was replaced.
func (r *Registry) admitted(ctx context.Context, req Request, unquestioned bool) (replaced bool, err error) {
	if r.cfg.Admitter == nil || unquestioned {
		return false, nil
	}
	req.replaced = &replaced
	if err := r.cfg.Admitter.Admit(ctx, req); err != nil {
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			return false, err
		}
		return false, apierrors.NewForbidden(groupResource(req.Kind), req.Name, err)
	}
	if req.Object != nil && req.Subresource == "" && req.Kind.Default != nil {
		req.Kind.Default(req.Object)
	}
	return replaced, nil
}

// Connect asks the Admitter about a connection to an object: exec, attach, port-forward and proxy. The request has
// no Object.
func (r *Registry) Connect(ctx context.Context, gvr schema.GroupVersionResource, subresource, namespace, name, user string, groups []string) error {
	k, err := r.served(ctx, gvr)
	if err != nil {
		return err
	}
	return r.admit(ctx, Request{Operation: OperationConnect, Kind: k.cache.kind, As: k.kind, Subresource: subresource,
		Namespace: namespace, Name: name, User: user, Groups: groups}, false)
}
