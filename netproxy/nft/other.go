//go:build !linux

package nft

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/pintle/pintle/netproxy/services"
)

// Proxy does nothing here; New never returns one.
type Proxy struct{}

// Available says why nftables can't be used.
func Available() error { return fmt.Errorf("%w on %s", ErrUnsupported, runtime.GOOS) }

// New returns ErrUnsupported.
func New(Config) (*Proxy, error) { return nil, Available() }

// Apply returns ErrUnsupported.
func (*Proxy) Apply(context.Context, []services.Change) error { return Available() }

// Used returns ErrUnsupported.
func (*Proxy) Used([]*services.Service) (map[services.Key]time.Time, error) { return nil, Available() }

// Teardown returns nil.
func (*Proxy) Teardown() error { return nil }

// Close returns nil.
func (*Proxy) Close() error { return nil }
