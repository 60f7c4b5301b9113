package raftstore

import (
	"context"
	"net"
)

// Network carries connections between members. The host program authenticates them (mutual TLS,
// say); the store multiplexes raft's calls and its own over them, by the first byte of each.
//
// Conns must honour deadlines. All methods may be called at the same time. Run closes the Network
// when it ends.
type Network interface {
	// Accept waits for a connection from another member.
	Accept() (net.Conn, error)
	// Dial connects to the member at the address, which is its Config.Address.
	Dial(ctx context.Context, address string) (net.Conn, error)
	// Close ends Accept. It may be called more than once.
	Close() error
}
