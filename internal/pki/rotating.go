package pki

import (
	"crypto/tls"
	"errors"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Rotating issues a certificate when it is first asked and again once a third of its life is
// left. It needs no goroutine: a handshake that finds the certificate old makes the next one, so
// it can't be missed by a sleeping machine. Safe for concurrent use.
type Rotating struct {
	issue func() (Pair, error)
	clock clock.PassiveClock

	mu      sync.Mutex // guards what follows; held while issuing, so that one handshake does it
	current *tls.Certificate
	pair    Pair
	retry   time.Time // no new attempt before, after a failure
}

// NewRotating makes a source of certificates from issue, a CA's usually:
// func() (Pair, error) { return ca.Issue(request) }. A nil clock is the real one.
func NewRotating(issue func() (Pair, error), c clock.PassiveClock) (*Rotating, error) {
	if issue == nil {
		return nil, errors.New("rotating certificate: issue is nil")
	}
	if c == nil {
		c = clock.RealClock{}
	}
	return &Rotating{issue: issue, clock: c}, nil
}

// Rotating issues certificates of this CA for a request, by the CA's clock.
func (c *CA) Rotating(r Request) *Rotating {
	return &Rotating{issue: func() (Pair, error) { return c.Issue(r) }, clock: c.clock}
}

// Certificate is the current certificate. When a new one can't be made the old one is served for
// as long as it is good, and an attempt is made each minute.
func (r *Rotating) Certificate() (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refreshLocked(); err != nil {
		return nil, err
	}
	return r.current, nil
}

// Pair is the current certificate as PEM.
func (r *Rotating) Pair() (Pair, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refreshLocked(); err != nil {
		return Pair{}, err
	}
	return r.pair, nil
}

// GetCertificate is for a server's tls.Config.
func (r *Rotating) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return r.Certificate()
}

// GetClientCertificate is for a client's tls.Config.
func (r *Rotating) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return r.Certificate()
}

func (r *Rotating) refreshLocked() error {
	now := r.clock.Now()
	if r.current != nil {
		life := r.pair.NotAfter.Sub(r.pair.NotBefore)
		if now.Before(r.pair.NotAfter.Add(-life/3)) || now.Before(r.retry) {
			return nil
		}
	}
	pair, err := r.issue()
	var cert tls.Certificate
	if err == nil {
		cert, err = pair.TLS()
	}
	if err != nil {
		if r.current != nil && now.Before(r.pair.NotAfter) {
			r.retry = now.Add(time.Minute)
			return nil
		}
		return err
	}
	r.current, r.pair, r.retry = &cert, pair, time.Time{}
	return nil
}
