package apiserver

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
	"github.com/pintle/pintle/orchestrator/apiserver/authz"
)

const (
	impersonateUser  = "Impersonate-User"
	impersonateGroup = "Impersonate-Group"
	impersonateUID   = "Impersonate-Uid"
	impersonateExtra = "Impersonate-Extra-" // followed by the key, percent-encoded
)

// impersonate honours kubectl's --as, --as-group, --as-uid and --as-user-extra for those who may
// impersonate all that they name.
func (s *Server) impersonate(r *http.Request, user *authn.User) (*authn.User, error) {
	as := &authn.User{Name: r.Header.Get(impersonateUser), UID: r.Header.Get(impersonateUID),
		Groups: slices.Clone(r.Header.Values(impersonateGroup)), Extra: impersonatedExtra(r.Header)}
	if as.Name == "" {
		if len(as.Groups) > 0 || as.UID != "" || len(as.Extra) > 0 {
			return nil, apierrors.NewBadRequest("requested groups, a uid or extras without impersonating a user name")
		}
		return user, nil
	}
	for _, a := range impersonationAsks(user, as) {
		if allowed, reason, _ := s.cfg.Authorizer.Authorize(r.Context(), a); !allowed {
			return nil, authz.Forbidden(a, reason)
		}
	}
	if rest, ok := strings.CutPrefix(as.Name, authn.ServiceAccountUserPrefix); ok && len(as.Groups) == 0 {
		namespace, _, _ := strings.Cut(rest, ":")
		as.Groups = authn.ServiceAccountGroups(namespace)
	}
	if as.Name == authn.AnonymousUser {
		as.Groups = append(as.Groups, authn.GroupUnauthenticated)
	} else if !as.InGroup(authn.GroupAuthenticated) {
		as.Groups = append(as.Groups, authn.GroupAuthenticated)
	}
	return as, nil
}

func impersonatedExtra(h http.Header) map[string][]string {
	var extra map[string][]string
	for header, values := range h {
		encoded, ok := strings.CutPrefix(header, impersonateExtra)
		if !ok {
			continue
		}
		key := strings.ToLower(encoded)
		if decoded, err := url.PathUnescape(key); err == nil {
			key = decoded
		}
		if extra == nil {
			extra = map[string][]string{}
		}
		extra[key] = slices.Clone(values)
	}
	return extra
}

// impersonationAsks are the questions that must all be allowed: one for each name, as Kubernetes asks them.
func impersonationAsks(user, as *authn.User) []authz.Attributes {
	ask := func(group, resource, subresource, namespace, name string) authz.Attributes {
		return authz.Attributes{User: user, Verb: "impersonate", APIGroup: group, APIVersion: "v1", Resource: resource, Subresource: subresource,
			Namespace: namespace, Name: name, ResourceRequest: true}
	}
	var asks []authz.Attributes
	if rest, ok := strings.CutPrefix(as.Name, authn.ServiceAccountUserPrefix); ok {
		namespace, account, _ := strings.Cut(rest, ":")
		asks = append(asks, ask("", "serviceaccounts", "", namespace, account))
	} else {
		asks = append(asks, ask("", "users", "", "", as.Name))
	}
	for _, group := range as.Groups {
		asks = append(asks, ask("", "groups", "", "", group))
	}
	const authentication = "authentication.k8s.io"
	if as.UID != "" {
		asks = append(asks, ask(authentication, "uids", "", "", as.UID))
	}
	for _, key := range slices.Sorted(maps.Keys(as.Extra)) {
		for _, value := range as.Extra[key] {
			asks = append(asks, ask(authentication, "userextras", key, "", value))
		}
	}
	return asks
}
