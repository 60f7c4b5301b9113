package opa

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
)

func cryptoBuiltins() map[string]builtin {
	out := map[string]builtin{
		"crypto.hmac.equal": ofStrings(2, func(s []string) (term, error) {
			return hmac.Equal([]byte(s[0]), []byte(s[1])), nil
		}),
	}
	for name, h := range map[string]func() hash.Hash{"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New} {
		out["crypto.hmac."+name] = ofStrings(2, func(s []string) (term, error) {
			mac := hmac.New(h, []byte(s[1]))
			mac.Write([]byte(s[0]))
			return hex.EncodeToString(mac.Sum(nil)), nil
		})
		if name == "sha512" {
			continue // Rego has no crypto.sha512
		}
		out["crypto."+name] = ofStrings(1, func(s []string) (term, error) {
			d := h()
			d.Write([]byte(s[0]))
			return hex.EncodeToString(d.Sum(nil)), nil
		})
	}
	return out
}
