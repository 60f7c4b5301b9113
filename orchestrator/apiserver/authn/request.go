package authn

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/pintle/pintle/internal/memnet"
)

// ErrInvalidToken is a bearer token that nobody here issued, or that is no longer good.
var ErrInvalidToken = errors.New("invalid bearer token")

// Union asks authenticators in order; the first that knows the user wins. When none does, the
// errors of those that recognised a wrong credential are returned.
type Union []Authenticator

// Authenticate asks each in turn.
func (u Union) Authenticate(r *http.Request) (*User, bool, error) {
	var errs []error
	for _, a := range u {
		user, ok, err := a.Authenticate(r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ok {
			return withAuthenticated(user), true, nil
		}
	}
	return nil, false, errors.Join(errs...)
}

// Anonymous makes everybody system:anonymous. It stands last in a Union, where a request with a
// wrong credential never becomes anonymous: see WithAnonymous.
func Anonymous() Authenticator {
	return Func(func(*http.Request) (*User, bool, error) {
		return &User{Name: AnonymousUser, Groups: []string{GroupUnauthenticated}}, true, nil
	})
}

// WithAnonymous makes requests without credentials system:anonymous. Requests with wrong ones
// stay errors (401), as in Kubernetes.
func WithAnonymous(a Authenticator) Authenticator {
	return Func(func(r *http.Request) (*User, bool, error) {
		user, ok, err := a.Authenticate(r)
		if ok || err != nil {
			return user, ok, err
		}
		return Anonymous().Authenticate(r)
	})
}

// BearerToken returns the token of a request: the Authorization header, or, on WebSockets, the
// subprotocol that browsers use because they can't set headers.
func BearerToken(r *http.Request) string {
	scheme, token, ok := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if ok && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(token)
	}
	return ""
}

// Bearer authenticates requests by their bearer token.
func Bearer(tokens ...TokenAuthenticator) Authenticator {
	return Func(func(r *http.Request) (*User, bool, error) {
		token := BearerToken(r)
		if token == "" {
			return nil, false, nil
		}
		user, _, ok, err := Tokens(tokens).AuthenticateToken(r.Context(), token, nil)
		if err == nil && !ok {
			err = ErrInvalidToken
		}
		return user, ok, err
	})
}

// Tokens asks several token authenticators in turn.
type Tokens []TokenAuthenticator

// AuthenticateToken returns the first user that one of them knows.
func (t Tokens) AuthenticateToken(ctx context.Context, token string, audiences []string) (*User, []string, bool, error) {
	var errs []error
	for _, a := range t {
		user, good, ok, err := a.AuthenticateToken(ctx, token, audiences)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ok {
			return withAuthenticated(user), good, true, nil
		}
	}
	return nil, nil, false, errors.Join(errs...)
}

// StaticTokens maps tokens to users. The map must not change afterwards.
type StaticTokens map[string]*User

// AuthenticateToken compares with every token in constant time, so that an answer's timing tells
// nothing about how much of a guess was right.
func (s StaticTokens) AuthenticateToken(_ context.Context, token string, audiences []string) (*User, []string, bool, error) {
	sum := sha256.Sum256([]byte(token))
	var found *User
	for known, user := range s {
		knownSum := sha256.Sum256([]byte(known))
		if known != "" && subtle.ConstantTimeCompare(sum[:], knownSum[:]) == 1 {
			found = user
		}
	}
	return found, audiences, found != nil, nil
}

type connKey struct{}

// ConnContext is for http.Server.ConnContext. It finds the identity that an in-process client
// gave to memnet's Dial (a *User or a User) and puts it where InProcess looks.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	// TLS in front of an in-memory connection doesn't hide it.
	if wrapped, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = wrapped.NetConn()
	}
	m, ok := c.(*memnet.Conn)
	if !ok {
		return ctx
	}
	switch user := m.Value.(type) {
	case *User:
		return context.WithValue(ctx, connKey{}, user)
	case User:
		return context.WithValue(ctx, connKey{}, &user)
	}
	return ctx
}

// InProcess takes the identity of an in-memory connection. Only code of this process can make
// one, so it needs no credential. A request that carries a bearer token is left to the others,
// so that a client may be somebody else over such a connection.
func InProcess() Authenticator {
	return Func(func(r *http.Request) (*User, bool, error) {
		user, ok := r.Context().Value(connKey{}).(*User)
		if !ok || user == nil || BearerToken(r) != "" {
			return nil, false, nil
		}
		return user, true, nil
	})
}
