package authn

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// keyID names a public key by its hash, so that it needs no registry and survives restarts.
func keyID(key *ecdsa.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

type jwk struct {
	Use       string `json:"use"`
	Type      string `json:"kty"`
	KeyID     string `json:"kid"`
	Algorithm string `json:"alg"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	Y         string `json:"y"`
}

// JWKS is the document at /openid/v1/jwks: the public keys with which others can check tokens.
func (i *Issuer) JWKS() ([]byte, error) {
	keys := []jwk{}
	for _, key := range append([]*ecdsa.PublicKey{&i.cfg.Key.PublicKey}, i.cfg.OldKeys...) {
		point, err := key.Bytes()
		if err != nil {
			return nil, fmt.Errorf("encode public key: %w", err)
		}
		enc := base64.RawURLEncoding
		keys = append(keys, jwk{
			Use: "sig", Type: "EC", KeyID: keyID(key), Algorithm: "ES256", Curve: "P-256",
			X: enc.EncodeToString(point[1:33]), Y: enc.EncodeToString(point[33:65]),
		})
	}
	return json.Marshal(map[string]any{"keys": keys})
}

// Discovery is the document at /.well-known/openid-configuration. jwksURL is where JWKS is.
func (i *Issuer) Discovery(jwksURL string) ([]byte, error) {
	return json.Marshal(map[string]any{
		"issuer":                                i.cfg.Issuer,
		"jwks_uri":                              jwksURL,
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"},
	})
}
