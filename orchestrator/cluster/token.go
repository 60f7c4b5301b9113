package cluster

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

// Token invites a machine. It names the cluster by the hash of its CA's public key, so that the machine
// tells the cluster from an impostor before it says anything, and carries the id and the secret of one
// invitation, in the form of Kubernetes' bootstrap tokens.
type Token struct {
	// CA is the SHA-256 of the CA's SubjectPublicKeyInfo, as kubeadm pins it.
	CA         [sha256.Size]byte
	ID, Secret string
}

const tokenPrefix = "pintle1"

var (
	tokenID     = regexp.MustCompile(`^[a-z0-9]{6}$`)
	tokenSecret = regexp.MustCompile(`^[a-z0-9]{16}$`)
)

// NewToken makes an invitation to the cluster of ca. It is worth nothing until the cluster knows its
// secret.
func NewToken(ca *x509.Certificate) (Token, error) {
	id, err := randomText(6)
	if err != nil {
		return Token{}, err
	}
	secret, err := randomText(16)
	if err != nil {
		return Token{}, err
	}
	return Token{CA: Pin(ca), ID: id, Secret: secret}, nil
}

// Pin is what a Token holds of a CA.
func Pin(ca *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(ca.RawSubjectPublicKeyInfo) }

// ParseToken reads what String wrote.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 4 || parts[0] != tokenPrefix {
		return Token{}, errors.New("a join token reads " + tokenPrefix + ".<hash of the CA>.<id>.<secret>: make one with Orchestrator.JoinToken")
	}
	var t Token
	pin, err := hex.DecodeString(parts[1])
	if err != nil || len(pin) != len(t.CA) {
		return Token{}, fmt.Errorf("join token: the hash of the CA is not %d hexadecimal bytes", len(t.CA))
	}
	copy(t.CA[:], pin)
	t.ID, t.Secret = parts[2], parts[3]
	if !tokenID.MatchString(t.ID) || !tokenSecret.MatchString(t.Secret) {
		return Token{}, errors.New("join token: the id has 6 and the secret 16 characters of a-z and 0-9")
	}
	return t, nil
}

// String is the token's text. Who has it may join.
func (t Token) String() string {
	return strings.Join([]string{tokenPrefix, hex.EncodeToString(t.CA[:]), t.ID, t.Secret}, ".")
}

func randomText(n int) (string, error) {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, n)
	for i := range out {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", fmt.Errorf("make a token: %w", err)
		}
		out[i] = alphabet[k.Int64()]
	}
	return string(out), nil
}
