package orchestrator

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// warm signs once, before the key is shared. crypto/ecdsa keeps a converted copy of each key that it has used;
// where two requests used the key for the first time together, the race detector reported that cache. It also
// finds a key that can't sign.
func warm(key *ecdsa.PrivateKey) error {
	digest := sha256.Sum256(nil)
	if _, err := ecdsa.SignASN1(rand.Reader, key, digest[:]); err != nil {
		return fmt.Errorf("orchestrator: service account key: %w", err)
	}
	return nil
}
