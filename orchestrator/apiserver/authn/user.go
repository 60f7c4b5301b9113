package authn

import (
	"context"
	"net/http"
	"slices"
)

// Names and groups that Kubernetes gives a meaning.
const (
	AnonymousUser        = "system:anonymous"
	GroupUnauthenticated = "system:unauthenticated"
	GroupAuthenticated   = "system:authenticated"
	GroupMasters         = "system:masters"
	GroupNodes           = "system:nodes"
	GroupServiceAccounts = "system:serviceaccounts"

	NodeUserPrefix           = "system:node:"
	ServiceAccountUserPrefix = "system:serviceaccount:"

	ExtraPodName      = "authentication.kubernetes.io/pod-name"
	ExtraPodUID       = "authentication.kubernetes.io/pod-uid"
	ExtraNodeName     = "authentication.kubernetes.io/node-name"
	ExtraNodeUID      = "authentication.kubernetes.io/node-uid"
	ExtraCredentialID = "authentication.kubernetes.io/credential-id"
)

// User is an identity. A User in a context or on a connection is shared: don't change it.
type User struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// InGroup reports whether the user is a member of group.
func (u *User) InGroup(group string) bool { return u != nil && slices.Contains(u.Groups, group) }

// Authenticator finds the user of a request. It returns false without an error when the request
// carries nothing that it knows, and an error when it carries a credential that is wrong.
type Authenticator interface {
	Authenticate(*http.Request) (*User, bool, error)
}

// TokenAuthenticator finds the user of a bearer token, for requests and for TokenReviews.
// audiences are those that the caller accepts (nil: the API server's own); the second result
// lists those of them that the token is good for.
type TokenAuthenticator interface {
	AuthenticateToken(ctx context.Context, token string, audiences []string) (*User, []string, bool, error)
}

// Func is an Authenticator in one function.
type Func func(*http.Request) (*User, bool, error)

// Authenticate calls f.
func (f Func) Authenticate(r *http.Request) (*User, bool, error) { return f(r) }

type userKey struct{}

// WithUser returns a context that carries the user.
func WithUser(ctx context.Context, user *User) context.Context {
	return context.WithValue(ctx, userKey{}, user)
}

// UserFrom returns the user that WithUser put there.
func UserFrom(ctx context.Context) (*User, bool) {
	user, ok := ctx.Value(userKey{}).(*User)
	return user, ok && user != nil
}

// ServiceAccountUser is the user name of a service account.
func ServiceAccountUser(namespace, name string) string {
	return ServiceAccountUserPrefix + namespace + ":" + name
}

// ServiceAccountGroups are the groups of every service account of a namespace.
func ServiceAccountGroups(namespace string) []string {
	return []string{GroupServiceAccounts, GroupServiceAccounts + ":" + namespace}
}

// withAuthenticated returns the user as a member of system:authenticated, which everybody is who
// proved something.
func withAuthenticated(u *User) *User {
	if u.InGroup(GroupAuthenticated) || u.InGroup(GroupUnauthenticated) {
		return u
	}
	copied := *u
	copied.Groups = append(slices.Clone(u.Groups), GroupAuthenticated)
	return &copied
}
