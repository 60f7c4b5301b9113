package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
)

// Servers are the addresses of the control plane's members, as a node knows them. Safe for concurrent use.
type Servers struct {
	mu        sync.Mutex
	addresses []string
}

// NewServers begins with some addresses; one that answers is enough.
func NewServers(addresses []string) *Servers { return &Servers{addresses: slices.Clone(addresses)} }

// Addresses are those known now, the one that answered last at first.
func (s *Servers) Addresses() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.addresses)
}

// Set replaces what is known. None at all is no news.
func (s *Servers) Set(addresses []string) {
	if len(addresses) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(s.addresses), func(a string) bool { return !slices.Contains(addresses, a) })
	for _, a := range addresses {
		if !slices.Contains(kept, a) {
			kept = append(kept, a)
		}
	}
	s.addresses = kept
}

// Dial connects to the first that answers, beginning with the one that did last.
func (s *Servers) Dial(ctx context.Context, dial func(ctx context.Context, address string) (net.Conn, error)) (net.Conn, error) {
	var errs []error
	for _, address := range s.Addresses() {
		conn, err := dial(ctx, address)
		if err == nil {
			s.prefer(address)
			return conn, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return nil, errors.New("no server of the cluster is known")
	}
	return nil, fmt.Errorf("%w: %w", errNoServer, errors.Join(errs...))
}

var errNoServer = errors.New("no server of the cluster answers")

func (s *Servers) prefer(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.addresses, address); i > 0 {
		s.addresses = slices.Insert(slices.Delete(s.addresses, i, i+1), 0, address)
	}
}
