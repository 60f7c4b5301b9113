package raftstore

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

// The two vectors of the specification, c2sp.org/XAES-256-GCM.
func TestTheCipherIsXAES256GCM(t *testing.T) {
	for _, c := range []struct {
		key        byte
		place, out string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		x, err := newXAES(bytes.Repeat([]byte{c.key}, dataKeySize))
		if err != nil {
			t.Fatal(err)
		}
		nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
		got := x.derive(nonce[:12]).Seal(nil, nonce[12:], []byte("XAES-256-GCM"), []byte(c.place))
		if hex.EncodeToString(got) != c.out {
			t.Errorf("key %d: %x, want %s", c.key, got, c.out)
		}
	}
}

func testRing(t *testing.T, id uint32) *keyring {
	t.Helper()
	r := &keyring{current: id, all: map[uint32]*xaes{}}
	if err := r.learn(&dataKey{id: id, secret: bytes.Repeat([]byte{byte(id)}, dataKeySize)}); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestABlobIsReadBackAtItsPlaceAlone(t *testing.T) {
	for name, ring := range map[string]*keyring{"plain": {}, "sealed": testRing(t, 5)} {
		t.Run(name, func(t *testing.T) {
			seal := ring.sealer()
			for _, data := range [][]byte{nil, []byte("v"), bytes.Repeat([]byte("v"), 5000)} {
				b := seal.blob(nil, "here", data)
				if name == "sealed" && bytes.Contains(b, []byte("vvvvvvvv")) {
					t.Fatal("it can be read")
				}
				open := ring.opener()
				got, err := open.blob(b, "here")
				if err != nil || !bytes.Equal(got, data) || got == nil {
					t.Fatalf("%q, %v", got, err)
				}
				if _, err := open.blob(b, "there"); !errors.Is(err, ErrCorrupt) {
					t.Fatal("it was opened at another place:", err)
				}
				for i := range b {
					for bit := range 8 {
						bad := bytes.Clone(b)
						bad[i] ^= 1 << bit
						if got, err := open.blob(bad, "here"); err == nil && (name == "sealed" || !bytes.Equal(got, data)) {
							t.Fatalf("bit %d of byte %d was flipped, and it was opened as %q", bit, i, got)
						}
					}
				}
			}
		})
	}
}

func TestNoNonceIsUsedTwice(t *testing.T) {
	ring := testRing(t, 5)
	seen := map[string]bool{}
	for range 200 { // as many crashes, which forget every counter
		seal := ring.sealer()
		for range 300 {
			x, err := parseBlob(seal.blob(nil, "", nil))
			if err != nil || seen[string(x.nonce)] {
				t.Fatal(err, "or a nonce that was used before")
			}
			seen[string(x.nonce)] = true
		}
	}
	// A carry stays within the counter.
	s := newSealer(1, ring.all[5])
	copy(s.nonce[12:], bytes.Repeat([]byte{0xff}, 12))
	half := bytes.Clone(s.nonce[:12])
	if n := s.next(); !bytes.Equal(n[:12], half) || !bytes.Equal(n[12:], make([]byte, 12)) {
		t.Fatalf("%x", n)
	}
}

func TestWhatIsNotSealedIsRefusedWhereEverythingIs(t *testing.T) {
	ring := testRing(t, 5)
	b := newSealer(0, nil).blob(nil, "here", []byte("forged"))
	open := ring.opener()
	if _, err := open.blob(b, "here"); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	ring.mixed = true // it is being sealed
	open = ring.opener()
	if _, err := open.blob(b, "here"); err != nil {
		t.Fatal(err)
	}
}
