package apiserver

import (
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
	"github.com/pintle/pintle/orchestrator/apiserver/openapi"
)

// reviewable is a kind that is answered and never stored.
type reviewable struct {
	gvk        schema.GroupVersionKind
	resource   string
	namespaced bool
	make       func() runtime.Object
}

func reviewKinds() []reviewable {
	authentication := func(kind string) schema.GroupVersionKind { return authenticationv1.SchemeGroupVersion.WithKind(kind) }
	authorization := func(kind string) schema.GroupVersionKind { return authorizationv1.SchemeGroupVersion.WithKind(kind) }
	return []reviewable{
		{authentication("SelfSubjectReview"), "selfsubjectreviews", false, func() runtime.Object { return &authenticationv1.SelfSubjectReview{} }},
		{authentication("TokenReview"), "tokenreviews", false, func() runtime.Object { return &authenticationv1.TokenReview{} }},
		{authorization("LocalSubjectAccessReview"), "localsubjectaccessreviews", true, func() runtime.Object { return &authorizationv1.LocalSubjectAccessReview{} }},
		{authorization("SelfSubjectAccessReview"), "selfsubjectaccessreviews", false, func() runtime.Object { return &authorizationv1.SelfSubjectAccessReview{} }},
		{authorization("SelfSubjectRulesReview"), "selfsubjectrulesreviews", false, func() runtime.Object { return &authorizationv1.SelfSubjectRulesReview{} }},
		{authorization("SubjectAccessReview"), "subjectaccessreviews", false, func() runtime.Object { return &authorizationv1.SubjectAccessReview{} }},
	}
}

func describedReviews() []openapi.Review {
	var out []openapi.Review
	for _, k := range reviewKinds() {
		out = append(out, openapi.Review{GroupVersionKind: k.gvk, Resource: k.resource, Namespaced: k.namespaced, New: k.make})
	}
	return out
}

func reviewKind(gvr schema.GroupVersionResource) *reviewable {
	for _, k := range reviewKinds() {
		if k.gvk.GroupVersion() == gvr.GroupVersion() && k.resource == gvr.Resource {
			return &k
		}
	}
	return nil
}

func (s *Server) serveReview(w http.ResponseWriter, r *http.Request, info requestInfo, user *authn.User, kind *reviewable) error {
	if info.name != "" || kind.namespaced != (info.namespace != "") {
		return errNoSuchPath()
	}
	if info.verb != "create" {
		return errMethod()
	}
	neg, err := negotiate(r.Header.Get("Accept"), r.URL.Query(), nil)
	if err != nil {
		return err
	}
	opts, err := readWriteOptions(r, r.URL.Query(), createOptionsKind)
	if err != nil {
		return err
	}
	f, err := bodyFormat(r)
	if err != nil {
		return err
	}
	raw, err := readBody(w, r)
	if err != nil {
		return err
	}
	review := kind.make()
	if err := s.codecs.decode(w, raw, f, kind.gvk, review, opts.validation); err != nil {
		return err
	}
	answer, err := s.reviews.Create(r.Context(), user, info.namespace, review)
	if err != nil {
		return err
	}
	if answer == nil {
		return apierrors.NewInternalError(errNoSuchPath())
	}
	return s.writeObject(w, r, http.StatusCreated, withKind(answer, kind.gvk), neg)
}
