package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/internal/pki"
)

type objects struct{ sa, pod types.UID }

func (o *objects) ServiceAccount(_ context.Context, ns, name string) (*corev1.ServiceAccount, error) {
	if o.sa == "" {
		return nil, apierrors.NewNotFound(corev1.Resource("serviceaccounts"), name)
	}
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: o.sa}}, nil
}
func (o *objects) Pod(_ context.Context, ns, name string) (*corev1.Pod, error) {
	if o.pod == "" {
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
	}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: o.pod}, Spec: corev1.PodSpec{ServiceAccountName: "sa", NodeName: "n1"}}, nil
}
func (o *objects) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	return nil, apierrors.NewNotFound(corev1.Resource("secrets"), name)
}
func (o *objects) Node(_ context.Context, name string) (*corev1.Node, error) {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "node-uid"}}, nil
}

func TestServiceAccountTokenLivesWithItsObjects(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for name, c := range map[string]struct {
		change    func(*objects, *clocktesting.FakePassiveClock)
		audiences []string
		key       *ecdsa.PrivateKey
		ok        bool
	}{
		"good":              {ok: true},
		"other key":         {key: other},
		"other audience":    {audiences: []string{"vault"}},
		"expired":           {change: func(_ *objects, c *clocktesting.FakePassiveClock) { c.SetTime(c.Now().Add(time.Hour)) }},
		"account gone":      {change: func(o *objects, _ *clocktesting.FakePassiveClock) { o.sa = "" }},
		"account made anew": {change: func(o *objects, _ *clocktesting.FakePassiveClock) { o.sa = "2" }},
		"pod gone":          {change: func(o *objects, _ *clocktesting.FakePassiveClock) { o.pod = "" }},
		"pod made anew":     {change: func(o *objects, _ *clocktesting.FakePassiveClock) { o.pod = "2" }},
	} {
		t.Run(name, func(t *testing.T) {
			world := &objects{sa: "1", pod: "1"}
			clock := clocktesting.NewFakePassiveClock(time.Unix(1_800_000_000, 0))
			cfg := ServiceAccountConfig{Key: key, Getter: world, Clock: clock}
			issuer, err := NewIssuer(cfg)
			if err != nil {
				t.Fatal(err)
			}
			tr, err := issuer.Issue(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "1"}},
				authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "p", UID: "1"}})
			if err != nil {
				t.Fatal(err)
			}
			if c.key != nil {
				cfg.Key = c.key
			}
			if c.change != nil {
				c.change(world, clock)
			}
			tokens, err := NewServiceAccountTokens(cfg)
			if err != nil {
				t.Fatal(err)
			}
			user, _, ok, err := tokens.AuthenticateToken(t.Context(), tr.Status.Token, c.audiences)
			if ok != c.ok || ok == (err != nil) {
				t.Fatalf("%v %v %v", user, ok, err)
			}
			if ok && (user.Name != "system:serviceaccount:ns:sa" || user.Extra[ExtraPodName][0] != "p" || user.Extra[ExtraNodeName][0] != "n1") {
				t.Fatalf("%+v", user)
			}
		})
	}
}

func TestWhoIsWho(t *testing.T) {
	ca, _ := pki.NewCA("ca", nil)
	stranger, _ := pki.NewCA("ca", nil)
	cert := func(ca *pki.CA) *tls.ConnectionState {
		pair, err := ca.Issue(pki.ClientRequest("jane", "dev"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := pair.TLS()
		if err != nil {
			t.Fatal(err)
		}
		leaf, _ := x509.ParseCertificate(c.Certificate[0])
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	}
	a := WithAnonymous(Union{InProcess(), ClientCertificate(ca.Pool, nil), Bearer(StaticTokens{"secret": {Name: "admin", Groups: []string{GroupMasters}}})})
	request := func(change func(*http.Request)) *http.Request {
		r := httptest.NewRequest("GET", "/", nil)
		if change != nil {
			change(r)
		}
		return r
	}
	for name, c := range map[string]struct {
		r     *http.Request
		user  string
		group string
	}{
		"nobody":      {request(nil), AnonymousUser, GroupUnauthenticated},
		"certificate": {request(func(r *http.Request) { r.TLS = cert(ca) }), "jane", "dev"},
		"stranger":    {request(func(r *http.Request) { r.TLS = cert(stranger) }), "", ""},
		"token":       {request(func(r *http.Request) { r.Header.Set("Authorization", "Bearer secret") }), "admin", GroupAuthenticated},
		"wrong token": {request(func(r *http.Request) { r.Header.Set("Authorization", "Bearer guess") }), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			user, ok, err := a.Authenticate(c.r)
			if c.user == "" {
				if ok || err == nil {
					t.Fatalf("%v %v %v", user, ok, err)
				}
				return
			}
			if !ok || user.Name != c.user || !slices.Contains(user.Groups, c.group) {
				t.Fatalf("%+v %v %v", user, ok, err)
			}
		})
	}
}

// What is remembered of a certificate ends with it, and with the CA that vouched for it.
func TestACertificateIsGoodAsLongAsItsCASaysSo(t *testing.T) {
	ca, _ := pki.NewCA("ca", nil)
	other, _ := pki.NewCA("ca", nil)
	pair, err := ca.Issue(pki.ClientRequest("jane", "dev"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(c.Certificate[0])
	now, roots := time.Now(), ca
	a := ClientCertificate(func() *x509.CertPool { return roots.Pool() }, func() time.Time { return now })
	r := httptest.NewRequest("GET", "/", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	good := func() bool {
		user, ok, err := a.Authenticate(r)
		return ok && err == nil && user.Name == "jane"
	}
	for _, step := range []struct {
		name string
		at   time.Time
		by   *pki.CA
		good bool
	}{
		{"now", now, ca, true},
		{"again", now, ca, true},
		{"another CA", now, other, false},
		{"the first CA", now, ca, true},
		{"too late", leaf.NotAfter.Add(time.Second), ca, false},
		{"too early", leaf.NotBefore.Add(-time.Second), ca, false},
		{"in time", now, ca, true},
	} {
		now, roots = step.at, step.by
		if good() != step.good {
			t.Errorf("%s: good is %v", step.name, !step.good)
		}
	}
}
