package raftstore

import (
	"encoding/binary"
	"hash/crc32"
)

// A frame holds one message of store.proto in a file: its length and the CRC-32C of it, both
// little-endian uint32, and the message.
const frameHeader = 4 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendFrame(b, msg []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(msg)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(msg, castagnoli))
	return append(b, msg...)
}

// beginFrame leaves room for the header of a frame whose message is appended next; endFrame, with
// where it began, fills it in.
func beginFrame(b []byte) []byte { return append(b, 0, 0, 0, 0, 0, 0, 0, 0) }

func endFrame(b []byte, start int) {
	msg := b[start+frameHeader:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(msg)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(msg, castagnoli))
}

// readFrame returns the message of the frame at the start of b, and the frame's size. It is false
// where no sound frame is. The message aliases b.
func readFrame(b []byte) (msg []byte, size int, ok bool) {
	if len(b) < frameHeader {
		return nil, 0, false
	}
	n := int64(binary.LittleEndian.Uint32(b))
	// No message here is empty, and a hole in a file would look like an empty one.
	if n == 0 || n > maxRecord || n > int64(len(b)-frameHeader) {
		return nil, 0, false
	}
	msg = b[frameHeader : frameHeader+n]
	if binary.LittleEndian.Uint32(b[4:]) != crc32.Checksum(msg, castagnoli) {
		return nil, 0, false
	}
	return msg, frameHeader + int(n), true
}
