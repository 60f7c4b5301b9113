package raftstore

import (
	"encoding/binary"
	"hash/crc32"
)

// A checked frame holds one message of store.proto in a file: its length and the CRC-32C of it, both
// little-endian uint32, and the message.
const checkedHeader = 4 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendChecked(b, msg []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(msg)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(msg, castagnoli))
	return append(b, msg...)
}

// beginChecked leaves room for the header of a frame whose message is appended next; endChecked, with
// where it began, fills it in.
func beginChecked(b []byte) []byte { return append(b, 0, 0, 0, 0, 0, 0, 0, 0) }

func endChecked(b []byte, start int) {
	msg := b[start+checkedHeader:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(msg)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(msg, castagnoli))
}

// readChecked returns the message of the frame at the start of b, and the frame's size. It is false
// where no sound frame is. The message aliases b.
func readChecked(b []byte) (msg []byte, size int, ok bool) {
	if len(b) < checkedHeader {
		return nil, 0, false
	}
	n := int64(binary.LittleEndian.Uint32(b))
	// No message here is empty, and a hole in a file would look like an empty one.
	if n == 0 || n > maxRecord || n > int64(len(b)-checkedHeader) {
		return nil, 0, false
	}
	msg = b[checkedHeader : checkedHeader+n]
	if binary.LittleEndian.Uint32(b[4:]) != crc32.Checksum(msg, castagnoli) {
		return nil, 0, false
	}
	return msg, checkedHeader + int(n), true
}
