package raftstore

import (
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"
)

// blob is the message Blob: some bytes at rest. It is bound to its place (which bucket and key, which
// file), so that bytes that turn up elsewhere are found out.
type blob struct {
	key   uint32 // of the keyring; 0: not sealed
	nonce []byte
	data  []byte
	crc   uint32 // of place and data, where there is no key
}

// blobOverhead is the most that a Blob is larger than its data.
const blobOverhead = 6 + 2 + nonceSize + 6 + sealTag + 5

// append writes a blob that is not sealed.
func (b *blob) append(to []byte) []byte {
	return putFixed32(putBytes(to, 3, b.data), 4, b.crc)
}

// parseBlob aliases b.
func parseBlob(b []byte) (blob, error) {
	var x blob
	sum := false
	err := eachField(b, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			x.key = uint32(v)
		case 2:
			x.nonce = bs
		case 3:
			x.data = bs
		case 4:
			x.crc, sum = uint32(v), true
		default:
			return unknownField("Blob", num)
		}
		return nil
	})
	if err == nil && x.key == 0 && !sum {
		err = fmt.Errorf("%w: a value without checksum", ErrCorrupt)
	}
	return x, err
}

func blobSum(place string, data []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(place), castagnoli), castagnoli, data)
}

// errSum says that bytes are not what was written there.
var errSum = errors.New("the checksum is wrong")

// plain returns the data of a blob that is not sealed; it aliases b.
func (b *blob) plain(place string) ([]byte, error) {
	if b.crc != blobSum(place, b.data) {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, errSum)
	}
	return b.data, nil
}
