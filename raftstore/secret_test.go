package raftstore

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestASecretIsReadBackAtItsPlaceAndWithItsKeyAlone(t *testing.T) {
	right, wrong := goldenKey(t, 1), goldenKey(t, 2)
	secret := []byte("the key of the CA")
	sealed, err := Seal(t.Context(), right, "ca.key", secret)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, secret) {
		t.Error("it can be read")
	}
	if by, ok := SealedBy(sealed); !ok || by != right.Name() {
		t.Errorf("sealed by %q, %v", by, ok)
	}
	if _, ok := SealedBy(secret); ok {
		t.Error("what is plain counts as sealed")
	}
	if got, err := Unseal(t.Context(), right, "ca.key", sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := Unseal(t.Context(), FirstKey(wrong, right), "ca.key", sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("with the old key as the second: %q, %v", got, err)
	}
	for what, err := range map[string]error{
		"with another key": second(Unseal(t.Context(), wrong, "ca.key", sealed)),
		"without a key":    second(Unseal(t.Context(), nil, "ca.key", sealed)),
	} {
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "ca.key") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"at another place": second(Unseal(t.Context(), right, "other.key", sealed)),
		"what is plain":    second(Unseal(t.Context(), right, "ca.key", secret)),
		"cut short":        second(Unseal(t.Context(), right, "ca.key", sealed[:len(sealed)-1])),
	} {
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 4
		if got, err := Unseal(t.Context(), right, "ca.key", bad); err == nil {
			t.Fatalf("byte %d was changed: %q", i, got)
		}
	}
}

func second[T any](_ T, err error) error { return err }
