package raftstore

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// keyring holds the data keys of one folder, as the file KEYS keeps them wrapped. A folder without
// that file is not sealed; a folder has more than one key only while what is at rest moves from one
// to the next. The zero keyring seals nothing.
type keyring struct {
	path string

	// changing is held while the keys are changed, everything sealed anew included.
	changing sync.Mutex

	mu       sync.RWMutex
	provider KeyProvider
	keys     []*dataKey // those that KEYS has
	current  uint32     // what is written is sealed with it; 0: not at all
	// mixed says that something at rest may not be sealed although there is a current key.
	mixed bool
	// all also has the keys that were dropped since: a reader may still hold what they sealed.
	all map[uint32]*xaes
}

// dataKey is what KEYS says of a key.
type dataKey struct {
	id       uint32
	provider string // KeyProvider.Name
	wrapped  []byte
	check    []byte // says whether the unwrapped key is the right one
	secret   []byte // not in the file
}

// How long a KeyProvider may take, all its calls for one purpose together.
const providerTimeout = 30 * time.Second

func openKeys(path string) (*keyring, error) {
	r := &keyring{path: path, all: map[uint32]*xaes{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open keys: %w", err)
	}
	msg, size, ok := readChecked(b)
	if !ok || size != len(b) {
		return nil, fmt.Errorf("%w: %s fails its checksum; bring it back from a copy of this folder, or restore a backup in another", ErrCorrupt, path)
	}
	err = eachField(msg, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			k, err := decodeDataKey(bs)
			r.keys = append(r.keys, k)
			return err
		case 2:
			r.current = uint32(v)
		case 3:
			r.mixed = v == 1
		default:
			return unknownField("Keys", num)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open keys %s: %w", path, err)
	}
	return r, nil
}

func (k *dataKey) encode() []byte {
	b := putVarint(nil, 1, uint64(k.id))
	b = putString(b, 2, k.provider)
	b = putBytes(b, 3, k.wrapped)
	return putBytes(b, 4, k.check)
}

func decodeDataKey(b []byte) (*dataKey, error) {
	k := &dataKey{}
	err := eachField(b, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			k.id = uint32(v)
		case 2:
			k.provider = string(bs)
		case 3:
			k.wrapped = bytes.Clone(bs)
		case 4:
			k.check = bytes.Clone(bs)
		default:
			return unknownField("DataKey", num)
		}
		return nil
	})
	if err == nil && k.id == 0 {
		err = fmt.Errorf("%w: a data key without id", ErrCorrupt)
	}
	return k, err
}

// unwrap opens a data key, and refuses a wrong one.
func (k *dataKey) unwrap(ctx context.Context, p KeyProvider) error {
	secret, err := p.Unwrap(ctx, k.wrapped)
	if err != nil {
		return fmt.Errorf("%w: the data key is wrapped by %q, and the KeyProvider %q does not unwrap it: %w", ErrKey, k.provider, p.Name(), err)
	}
	if len(secret) != dataKeySize || !bytes.Equal(keyCheck(secret), k.check) {
		return fmt.Errorf("%w: the data key is wrapped by %q, and what the KeyProvider %q makes of it is another key", ErrKey, k.provider, p.Name())
	}
	k.secret = secret
	return nil
}

func (k *dataKey) wrap(ctx context.Context, p KeyProvider) error {
	wrapped, err := p.Wrap(ctx, k.secret)
	if err != nil {
		return fmt.Errorf("%w: the KeyProvider %q does not wrap the data key: %w", ErrKey, p.Name(), err)
	}
	if bytes.Contains(wrapped, k.secret) {
		return fmt.Errorf("%w: the KeyProvider %q returns what it should wrap", ErrKey, p.Name())
	}
	k.provider, k.wrapped = p.Name(), wrapped
	// Tried at once: what a provider wraps and cannot unwrap would be lost for ever.
	return (&dataKey{provider: k.provider, wrapped: wrapped, check: k.check}).unwrap(ctx, p)
}

// keyCheck commits to a key and says nothing about it.
func keyCheck(secret []byte) []byte {
	b, err := hkdf.Key(sha256.New, secret, nil, "pintle raftstore data key check", 16)
	if err != nil {
		panic(err) // 16 bytes are not too many
	}
	return b
}

func newDataKey(ctx context.Context, p KeyProvider) (*dataKey, error) {
	b := make([]byte, dataKeySize+4)
	_, _ = rand.Read(b) // never fails
	// A random id tells a key that is missing from one that is wrong.
	k := &dataKey{id: binary.BigEndian.Uint32(b[dataKeySize:]) | 1, secret: b[:dataKeySize:dataKeySize]}
	k.check = keyCheck(k.secret)
	return k, k.wrap(ctx, p)
}

// unlock unwraps the keys. It writes KEYS if another provider than before answers for them.
func (r *keyring) unlock(p KeyProvider) error {
	if err := r.read(p); err != nil {
		return err
	}
	for _, k := range r.keys {
		if k.provider != p.Name() {
			ctx, cancel := context.WithTimeout(context.Background(), providerTimeout)
			defer cancel()
			return r.rewrap(ctx, p)
		}
	}
	return nil
}

// read unwraps the keys and writes nothing.
func (r *keyring) read(p KeyProvider) error {
	r.provider = p
	if len(r.keys) == 0 {
		return nil
	}
	if p == nil {
		return fmt.Errorf("%w: %s is sealed with a data key that %q wraps: set Config.KeyProvider", ErrKey, filepath.Dir(r.path), r.keys[0].provider)
	}
	ctx, cancel := context.WithTimeout(context.Background(), providerTimeout)
	defer cancel()
	for _, k := range r.keys {
		if err := k.unwrap(ctx, p); err != nil {
			return err
		}
		if err := r.learn(k); err != nil {
			return err
		}
	}
	return nil
}

func (r *keyring) learn(k *dataKey) error {
	x, err := newXAES(k.secret)
	r.all[k.id] = x
	return err
}

// saveLocked writes KEYS, or removes it when there is nothing left to know.
func (r *keyring) saveLocked() error {
	if len(r.keys) == 0 {
		if err := removeSynced(r.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove keys: %w", err)
		}
		return nil
	}
	if err := writeFileSynced(r.path, appendChecked(nil, r.encode())); err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	return nil
}

func (r *keyring) encode() []byte {
	var b []byte
	for _, k := range r.keys {
		b = putMessage(b, 1, k.encode())
	}
	b = putVarint(b, 2, uint64(r.current))
	if r.mixed {
		b = putVarint(b, 3, 1)
	}
	return b
}

// sealer begins a run with the current key.
func (r *keyring) sealer() *sealer {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return newSealer(r.current, r.all[r.current])
}

func (r *keyring) currentKey() uint32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.current
}

// sealedBy is the provider that answers for this folder, or nil if it is not sealed. What is in
// memory is not at rest, but its backups are.
func (r *keyring) sealedBy() KeyProvider {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.current == 0 && r.path != "" {
		return nil
	}
	return r.provider
}

func (r *keyring) find(id uint32) *xaes {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.all[id]
}

// opener opens blobs. It remembers the last cipher, because what was sealed in one run is mostly
// read in one. For one goroutine.
type opener struct {
	ring   *keyring
	strict bool // whoever put something unsealed here is not us
	id     uint32
	half   [12]byte
	aead   cipher.AEAD
}

func (r *keyring) opener() opener { return opener{ring: r, strict: r.strict()} }

func (r *keyring) strict() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.current != 0 && !r.mixed
}

// blob returns what a Blob holds, in memory of its own.
func (o *opener) blob(b []byte, place string) ([]byte, error) {
	x, err := parseBlob(b)
	if err != nil {
		return nil, err
	}
	if x.key == 0 {
		if o.strict {
			return nil, fmt.Errorf("%w: something is not sealed where everything is", ErrCorrupt)
		}
		data, err := x.plain(place)
		return append(make([]byte, 0, len(data)), data...), err
	}
	return o.open(x.key, x.nonce, x.data, []byte(place))
}

func (o *opener) open(id uint32, nonce, sealed, place []byte) ([]byte, error) {
	if len(nonce) != nonceSize || len(sealed) < sealTag {
		return nil, fmt.Errorf("%w: a sealed value of %d bytes with a nonce of %d", ErrCorrupt, len(sealed), len(nonce))
	}
	if o.aead == nil || o.id != id || !bytes.Equal(o.half[:], nonce[:12]) {
		x := o.ring.find(id)
		if x == nil {
			return nil, fmt.Errorf("%w: something is sealed with data key %08x, which %s does not hold: bring that file back "+
				"from a copy of the folder, or restore a backup in another", ErrKey, id, o.ring.path)
		}
		o.id, o.aead = id, x.derive(nonce)
		copy(o.half[:], nonce)
	}
	data, err := o.aead.Open(make([]byte, 0, len(sealed)), nonce[12:], sealed, place)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, errSum)
	}
	return data, nil
}
