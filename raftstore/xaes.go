package raftstore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// XAES-256-GCM (c2sp.org/XAES-256-GCM): AES-256-GCM under a key derived from the data key and the
// first half of a nonce of 192 bits. So long a nonce may be drawn at random for ever: no counter has
// to survive a crash, and no two messages share one. See DESIGN.md.

const (
	dataKeySize = 32
	nonceSize   = 24
	sealTag     = 16
)

type xaes struct {
	block cipher.Block
	k1    [aes.BlockSize]byte
}

func newXAES(key []byte) (*xaes, error) {
	if len(key) != dataKeySize {
		return nil, fmt.Errorf("%w: a data key of %d bytes, %d are needed", ErrKey, len(key), dataKeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	block.Encrypt(x.k1[:], x.k1[:]) // CMAC's first subkey
	carry := byte(0)
	for i := len(x.k1) - 1; i >= 0; i-- {
		next := x.k1[i] >> 7
		x.k1[i] = x.k1[i]<<1 | carry
		carry = next
	}
	x.k1[len(x.k1)-1] ^= carry * 0b10000111
	return x, nil
}

// derive returns the cipher of every nonce that begins with these 12 bytes.
func (x *xaes) derive(half []byte) cipher.AEAD {
	key := make([]byte, 0, dataKeySize)
	for i := byte(1); i <= 2; i++ {
		var m [aes.BlockSize]byte
		m[1], m[2] = i, 'X'
		copy(m[4:], half)
		for j := range m {
			m[j] ^= x.k1[j]
		}
		x.block.Encrypt(m[:], m[:])
		key = append(key, m[:]...)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the size of the key is right
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size of GCM
	}
	return aead
}

// sealer seals a run of messages. It begins at a random nonce and counts on from there, so that the
// run costs one derivation. For one goroutine; a run holds far fewer than 2³² messages.
type sealer struct {
	id    uint32 // of the data key; 0: it does not seal
	aead  cipher.AEAD
	nonce [nonceSize]byte
	// scratch is for whoever puts together what is sealed.
	scratch []byte
}

func newSealer(id uint32, x *xaes) *sealer {
	s := &sealer{id: id}
	if x != nil {
		_, _ = rand.Read(s.nonce[:]) // never fails
		s.aead = x.derive(s.nonce[:12])
	}
	return s
}

// next moves on to a nonce of its own.
func (s *sealer) next() []byte {
	low := binary.BigEndian.Uint64(s.nonce[16:]) + 1
	binary.BigEndian.PutUint64(s.nonce[16:], low)
	if low == 0 {
		binary.BigEndian.PutUint32(s.nonce[12:], binary.BigEndian.Uint32(s.nonce[12:])+1)
	}
	return s.nonce[:]
}

// blob appends data to b, as a Blob that is bound to its place.
func (s *sealer) blob(b []byte, place string, data []byte) []byte {
	if b == nil {
		b = make([]byte, 0, len(data)+blobOverhead)
	}
	if s.id == 0 {
		x := blob{data: data, crc: blobSum(place, data)}
		return x.append(b)
	}
	b = putBytes(putVarint(b, 1, uint64(s.id)), 2, s.next())
	b = protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.BytesType), uint64(len(data)+sealTag))
	return s.aead.Seal(b, s.nonce[12:], data, []byte(place))
}
