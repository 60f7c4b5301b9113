package raftstore

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// KeyProvider keeps the key that wraps the store's data key: a file, a TPM, a KMS. It is asked when
// a folder is opened and when keys change, never for a read or a write. Its methods may be called
// from any goroutine.
type KeyProvider interface {
	// Name identifies the wrapping key. It is stored beside what was wrapped and shown in errors, so
	// it holds no secret; a folder whose data key was wrapped under another name is wrapped anew.
	Name() string
	// Wrap encrypts a data key, of 32 bytes.
	Wrap(ctx context.Context, key []byte) ([]byte, error)
	// Unwrap returns what Wrap was given, or an error when it does not know the wrapping key.
	Unwrap(ctx context.Context, wrapped []byte) ([]byte, error)
}

// FileKey is a KeyProvider with a wrapping key in a file of 32 random bytes, which only its owner may
// read. It protects disks that are taken away or handed in for repair, if the file is elsewhere.
// Whoever loses the file loses the data.
func FileKey(path string) (KeyProvider, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w: bring the key file back; for a new store, make one with CreateFileKey", ErrKey, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no file", ErrKey, path)
	}
	if checkMode && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s can be read by others (mode %04o): chmod 600", ErrKey, path, info.Mode().Perm())
	}
	key, err := io.ReadAll(io.LimitReader(f, dataKeySize+1))
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrKey, path, err)
	}
	if len(key) != dataKeySize {
		return nil, fmt.Errorf("%w: %s must hold %d bytes", ErrKey, path, dataKeySize)
	}
	return newFileKey(key)
}

// CreateFileKey makes the file of a FileKey, with a new key, where none is.
func CreateFileKey(path string) (KeyProvider, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("%w: %s is there already", ErrKey, path)
	}
	key := make([]byte, dataKeySize)
	_, _ = rand.Read(key) // never fails
	if err := writeFileSynced(path, key); err != nil {
		return nil, fmt.Errorf("create key: %w", err)
	}
	return newFileKey(key)
}

type fileKey struct {
	name string
	aead cipher.AEAD
}

func newFileKey(key []byte) (KeyProvider, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte("pintle raftstore file key "), key...))
	return &fileKey{name: "file:" + hex.EncodeToString(sum[:8]), aead: aead}, nil
}

func (k *fileKey) Name() string { return k.name }

// Wrap draws its nonce at random: a wrapping key sees a handful of data keys in its life.
func (k *fileKey) Wrap(_ context.Context, key []byte) ([]byte, error) {
	nonce := make([]byte, k.aead.NonceSize(), k.aead.NonceSize()+len(key)+k.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails
	return k.aead.Seal(nonce, nonce, key, []byte(k.name)), nil
}

func (k *fileKey) Unwrap(_ context.Context, wrapped []byte) ([]byte, error) {
	n := k.aead.NonceSize()
	if len(wrapped) < n {
		return nil, errors.New("the wrapped key is cut short")
	}
	key, err := k.aead.Open(nil, wrapped[:n], wrapped[n:], []byte(k.name))
	if err != nil {
		return nil, errors.New("it was wrapped with another key")
	}
	return key, nil
}

// FirstKey is a KeyProvider that wraps with the first of its providers and unwraps with whichever
// can: give it the new and the old one, to change the wrapping key of a folder when it is opened.
func FirstKey(first KeyProvider, others ...KeyProvider) KeyProvider {
	return firstKey(append([]KeyProvider{first}, others...))
}

type firstKey []KeyProvider

func (k firstKey) Name() string { return k[0].Name() }

func (k firstKey) Wrap(ctx context.Context, key []byte) ([]byte, error) { return k[0].Wrap(ctx, key) }

func (k firstKey) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	var errs []string
	for _, p := range k {
		key, err := p.Unwrap(ctx, wrapped)
		if err == nil {
			return key, nil
		}
		errs = append(errs, p.Name()+": "+err.Error())
	}
	return nil, errors.New(strings.Join(errs, "; "))
}
