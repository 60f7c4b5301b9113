package apiserver

import (
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

func TestANodesTokensAreBoundToPods(t *testing.T) {
	request := func(kind, name string) *authenticationv1.TokenRequest {
		r := &authenticationv1.TokenRequest{}
		if kind != "" {
			r.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: kind, APIVersion: "v1", Name: name, UID: "u"}
		}
		return r
	}
	node := &call{user: &authn.User{Name: "system:node:n1", Groups: []string{authn.GroupNodes}}}
	for _, bad := range []*authenticationv1.TokenRequest{request("", ""), request("Secret", "s"), request("Pod", "")} {
		if err := node.restrictNode(t.Context(), bad); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "not bound to a pod") {
			t.Errorf("%+v: %v", bad.Spec.BoundObjectRef, err)
		}
	}
	somebody := &call{user: &authn.User{Name: "system:serviceaccount:a:b"}}
	if err := somebody.restrictNode(t.Context(), request("", "")); err != nil {
		t.Error(err)
	}
}
