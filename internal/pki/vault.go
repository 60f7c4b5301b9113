package pki

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Vault changes private keys on their way to the disk and back: it seals them. Nil leaves them as they are. name is
// that of the file.
type Vault interface {
	Seal(name string, key []byte) ([]byte, error)
	// Open returns what Seal was given; stale says that the file is to be written anew.
	Open(name string, kept []byte) (key []byte, stale bool, err error)
}

const modeKey fs.FileMode = 0o600

// ReadKeyFile reads the private key that WriteKeyFile wrote, and writes it anew where the vault says so.
func ReadKeyFile(file string, v Vault) ([]byte, error) {
	kept, err := os.ReadFile(file)
	if err != nil || v == nil {
		return kept, err
	}
	key, stale, err := v.Open(filepath.Base(file), kept)
	if err == nil && stale {
		err = WriteKeyFile(file, key, v)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

// WriteKeyFile replaces a file by a private key, for its owner alone.
func WriteKeyFile(file string, key []byte, v Vault) (err error) {
	if v != nil {
		if key, err = v.Seal(filepath.Base(file), key); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return WriteFile(file, key, modeKey)
}
