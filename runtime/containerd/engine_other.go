//go:build !linux

package containerd

import (
	"context"
	"errors"

	"github.com/pintle/pintle/runtime"
)

// Engine can't exist on this operating system.
type Engine struct{ runtime.Engine }

var _ runtime.Engine = (*Engine)(nil)

// New returns an error: containerd needs Linux.
func New(Config) (*Engine, error) {
	return nil, errors.New("containerd: this engine needs Linux; use the wasm engine here")
}

// StopDaemon does nothing.
func (*Engine) StopDaemon(context.Context) error { return nil }

// Teardown does nothing.
func (*Engine) Teardown(context.Context) error { return nil }
