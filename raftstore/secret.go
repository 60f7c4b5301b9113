package raftstore

import (
	"bytes"
	"context"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Small secrets that live beside a store, such as the host program's own keys, are sealed as a backup is: each
// under a data key of its own, which the KeyProvider wraps. A sealed one is a line and a checked frame with the
// message Sealed.
const sealedLine = "pintle sealed 1\n"

// Seal seals data under a new data key that p wraps. place says what it is, "ca.key" say: Unseal refuses it under
// any other, so that nothing can be put in another's place.
func Seal(ctx context.Context, p KeyProvider, place string, data []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	key, err := newDataKey(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", place, err)
	}
	x, err := newXAES(key.secret)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", place, err)
	}
	msg := putMessage(nil, 1, key.encode())
	msg = putMessage(msg, 2, newSealer(key.id, x).blob(nil, place, data))
	return appendChecked([]byte(sealedLine), msg), nil
}

// SealedBy says whether Seal wrote that, and the name of the KeyProvider that wrapped its key: "" if it is damaged.
func SealedBy(b []byte) (provider string, sealed bool) {
	if !bytes.HasPrefix(b, []byte(sealedLine)) {
		return "", false
	}
	if key, _, err := parseSealed(b); err == nil {
		provider = key.provider
	}
	return provider, true
}

// Unseal returns what Seal was given. Errors: ErrKey when p (nil: none) does not unwrap its key, ErrCorrupt when it
// is damaged, was sealed for another place, or is not sealed at all.
func Unseal(ctx context.Context, p KeyProvider, place string, sealed []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	data, err := unseal(ctx, p, place, sealed)
	if err != nil {
		return nil, fmt.Errorf("unseal %s: %w", place, err)
	}
	return data, nil
}

func unseal(ctx context.Context, p KeyProvider, place string, sealed []byte) ([]byte, error) {
	key, blob, err := parseSealed(sealed)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, fmt.Errorf("%w: it is sealed with a key that %q wraps: set Config.KeyProvider", ErrKey, key.provider)
	}
	if err := key.unwrap(ctx, p); err != nil {
		return nil, err
	}
	ring := &keyring{path: place, current: key.id, all: map[uint32]*xaes{}}
	if err := ring.learn(key); err != nil {
		return nil, err
	}
	open := ring.opener()
	return open.blob(blob, place)
}

func parseSealed(b []byte) (key *dataKey, blob []byte, err error) {
	rest, ok := bytes.CutPrefix(b, []byte(sealedLine))
	if !ok {
		return nil, nil, fmt.Errorf("%w: it is not sealed", ErrCorrupt)
	}
	msg, size, ok := readChecked(rest)
	if !ok || size != len(rest) {
		return nil, nil, fmt.Errorf("%w: %w", ErrCorrupt, errSum)
	}
	err = eachField(msg, func(num protowire.Number, _ uint64, bs []byte) (err error) {
		switch num {
		case 1:
			key, err = decodeDataKey(bs)
		case 2:
			blob = bs
		default:
			return unknownField("Sealed", num)
		}
		return err
	})
	if err == nil && key == nil {
		err = fmt.Errorf("%w: its data key is missing", ErrCorrupt)
	}
	return key, blob, err
}
