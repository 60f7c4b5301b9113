package raftstoretest

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"github.com/pintle/pintle/raftstore"
)

// Key is a KeyProvider that every process of a test has. It guards nothing.
func Key() raftstore.KeyProvider { return testKey{} }

type testKey struct{}

func (testKey) Name() string { return "test" }

func (testKey) Wrap(_ context.Context, key []byte) ([]byte, error) {
	sum := sha256.Sum256(key)
	return append(masked(key), sum[:]...), nil
}

func (testKey) Unwrap(_ context.Context, wrapped []byte) ([]byte, error) {
	if len(wrapped) < sha256.Size {
		return nil, fmt.Errorf("a wrapped key of %d bytes", len(wrapped))
	}
	n := len(wrapped) - sha256.Size
	key := masked(wrapped[:n])
	if sum := sha256.Sum256(key); subtle.ConstantTimeCompare(sum[:], wrapped[n:]) != 1 {
		return nil, fmt.Errorf("not wrapped by this key")
	}
	return key, nil
}

func masked(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = b[i] ^ 0x5a
	}
	return out
}
