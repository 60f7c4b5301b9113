package apiserver

import (
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
	"github.com/pintle/pintle/orchestrator/apiserver/authz"
)

// impersonate honours kubectl's --as and --as-group for those who may impersonate all that they name.
// Impersonate-Uid and Impersonate-Extra-… are refused: nothing here would check them.
func (s *Server) impersonate(r *http.Request, user *authn.User) (*authn.User, error) {
	name, groups := r.Header.Get("Impersonate-User"), r.Header.Values("Impersonate-Group")
	for header := range r.Header {
		if header == "Impersonate-Uid" || strings.HasPrefix(header, "Impersonate-Extra-") {
			return nil, apierrors.NewBadRequest("the header " + header + " is not supported: impersonate a user and groups alone")
		}
	}
	if name == "" {
		if len(groups) > 0 {
			return nil, apierrors.NewBadRequest("requested groups without impersonating a user name")
		}
		return user, nil
	}
	ask := func(resource, namespace, name string) error {
		a := authz.Attributes{User: user, Verb: "impersonate", Resource: resource, Namespace: namespace, Name: name, APIVersion: "v1", ResourceRequest: true}
		allowed, reason, _ := s.cfg.Authorizer.Authorize(r.Context(), a)
		if !allowed {
			return authz.Forbidden(a, reason)
		}
		return nil
	}
	as := &authn.User{Name: name, Groups: slices.Clone(groups)}
	var err error
	if rest, ok := strings.CutPrefix(name, authn.ServiceAccountUserPrefix); ok {
		namespace, account, _ := strings.Cut(rest, ":")
		err = ask("serviceaccounts", namespace, account)
		if len(groups) == 0 {
			as.Groups = authn.ServiceAccountGroups(namespace)
		}
	} else {
		err = ask("users", "", name)
	}
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		if err := ask("groups", "", group); err != nil {
			return nil, err
		}
	}
	if name == authn.AnonymousUser {
		as.Groups = append(as.Groups, authn.GroupUnauthenticated)
	} else if !as.InGroup(authn.GroupAuthenticated) {
		as.Groups = append(as.Groups, authn.GroupAuthenticated)
	}
	return as, nil
}
