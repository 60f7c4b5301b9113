package authn

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// ClientCertificate takes the user from a client certificate: the common name is the user, the
// organisations are the groups. roots returns the CAs that may vouch for clients; it is asked on
// every request, so that a CA can be replaced. The TLS listener must ask for certificates
// (tls.RequestClientCert or tls.VerifyClientCertIfGiven). now is the time for which a certificate must be good; nil is
// time.Now. A chain that was verified isn't verified again while roots and the time allow it.
func ClientCertificate(roots func() *x509.CertPool, now func() time.Time) Authenticator {
	if now == nil {
		now = time.Now
	}
	known := &verified{chains: map[[sha256.Size]byte]vouched{}}
	return Func(func(r *http.Request) (*User, bool, error) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			return nil, false, nil
		}
		pool := roots()
		if pool == nil {
			return nil, false, nil
		}
		user, err := known.user(r.TLS.PeerCertificates, pool, now())
		if err != nil || user.Name == "" {
			return nil, false, err
		}
		return user, true, nil
	})
}

// verified remembers chains that were verified: to do it for every request costs more than to route and read most of them.
type verified struct {
	mu     sync.Mutex
	chains map[[sha256.Size]byte]vouched
}

// vouched is what came of it, and for how long and before whom it holds.
type vouched struct {
	user     User
	pool     *x509.CertPool
	from, to time.Time
}

// maxVerified bounds what is remembered, as many clients as one process has.
const maxVerified = 4096

// user is a new User each time, whose groups are shared.
func (v *verified) user(chain []*x509.Certificate, pool *x509.CertPool, now time.Time) (*User, error) {
	hash := sha256.New()
	for _, c := range chain {
		hash.Write(c.Raw)
	}
	var key [sha256.Size]byte
	hash.Sum(key[:0])

	v.mu.Lock()
	known, ok := v.chains[key]
	v.mu.Unlock()
	if !ok || now.Before(known.from) || now.After(known.to) || !known.pool.Equal(pool) {
		var err error
		if known, err = vouch(chain, pool, now); err != nil {
			return nil, err
		}
		v.mu.Lock()
		if len(v.chains) >= maxVerified {
			clear(v.chains)
		}
		v.chains[key] = known
		v.mu.Unlock()
	}
	user := known.user
	return &user, nil
}

func vouch(chain []*x509.Certificate, pool *x509.CertPool, now time.Time) (vouched, error) {
	leaf, intermediates := chain[0], x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots:         pool,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return vouched{}, fmt.Errorf("verify client certificate of %q: %w", leaf.Subject.CommonName, err)
	}
	out := vouched{pool: pool.Clone(), from: leaf.NotBefore, to: leaf.NotAfter, user: User{
		Name:   leaf.Subject.CommonName,
		Groups: leaf.Subject.Organization,
		Extra:  map[string][]string{ExtraCredentialID: {fmt.Sprintf("X509SHA256=%x", sha256.Sum256(leaf.Raw))}},
	}}
	for _, c := range paths[0] {
		if c.NotBefore.After(out.from) {
			out.from = c.NotBefore
		}
		if c.NotAfter.Before(out.to) {
			out.to = c.NotAfter
		}
	}
	return out, nil
}
