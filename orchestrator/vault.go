package orchestrator

import (
	"context"

	"github.com/pintle/pintle/raftstore"
)

// vault seals the cluster's private keys in the data folder, as the stored state is sealed: where there is a
// KeyProvider. Keys that were kept before there was one, or under another, are sealed anew when they are read. It is
// a pki.Vault.
type vault struct{ provider raftstore.KeyProvider }

func (v vault) Seal(name string, key []byte) ([]byte, error) {
	if v.provider == nil {
		return key, nil
	}
	return raftstore.Seal(context.Background(), v.provider, name, key)
}

func (v vault) Open(name string, kept []byte) (key []byte, stale bool, err error) {
	by, sealed := raftstore.SealedBy(kept)
	if !sealed {
		return kept, v.provider != nil, nil
	}
	key, err = raftstore.Unseal(context.Background(), v.provider, name, kept)
	return key, err == nil && by != v.provider.Name(), err
}
