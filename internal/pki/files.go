package pki

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/utils/clock"
)

// Load returns the CA that is kept in dir, and makes and keeps one when there is none. Only one
// process at a time may own dir. With dir "" nothing is kept. v seals the key; nil: it is kept as it is.
func Load(dir, name string, c clock.PassiveClock, v Vault) (*CA, error) {
	if dir == "" {
		return NewCA(name, c)
	}
	certFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	certPEM, certErr := os.ReadFile(certFile)
	keyPEM, keyErr := ReadKeyFile(keyFile, v)
	switch {
	case certErr == nil && keyErr == nil:
		ca, err := ParseCA(certPEM, keyPEM, c)
		if err != nil {
			return nil, fmt.Errorf("load CA from %s: %w", dir, err)
		}
		return ca, nil
	case certErr == nil:
		// A CA that lost its key must not be replaced in silence: every client would be locked out.
		return nil, fmt.Errorf("load CA: %w", keyErr)
	case !errors.Is(certErr, fs.ErrNotExist):
		return nil, fmt.Errorf("load CA: %w", certErr)
	}
	ca, err := NewCA(name, c)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep CA: %w", err)
	}
	// The certificate comes last: a crash between the two leaves a key without a certificate,
	// which the next start replaces.
	if err := WriteKeyFile(keyFile, ca.keyPEM, v); err != nil {
		return nil, fmt.Errorf("keep CA: %w", err)
	}
	if err := WriteFile(certFile, ca.certPEM, 0o644); err != nil {
		return nil, fmt.Errorf("keep CA: %w", err)
	}
	return ca, nil
}

// LoadKey returns the key in file, and makes and keeps one when there is none: the key of service
// account tokens. With file "" nothing is kept. v seals it; nil: it is kept as it is.
func LoadKey(file string, v Vault) (*ecdsa.PrivateKey, error) {
	if file == "" {
		return NewKey()
	}
	data, err := ReadKeyFile(file, v)
	if err == nil {
		key, err := ParseKey(data)
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", file, err)
		}
		return key, nil
	}
	// Only a file that isn't there is made: a vault may have its own reasons to say that something isn't.
	if _, statErr := os.Stat(file); !errors.Is(statErr, fs.ErrNotExist) {
		return nil, fmt.Errorf("load key: %w", err)
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	if data, err = MarshalKey(key); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("keep key: %w", err)
	}
	if err := WriteKeyFile(file, data, v); err != nil {
		return nil, fmt.Errorf("keep key: %w", err)
	}
	return key, nil
}

// WriteFile replaces a file so that a crash leaves the old content or the new, never a part.
func WriteFile(name string, data []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	// Not every file system can sync a folder; the rename is done either way.
	_ = d.Sync()
	return d.Close()
}
