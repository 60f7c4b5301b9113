package pintle

import (
	"iter"

	"github.com/pintle/pintle/policies/sdk/go/internal/wire"
)

// Pairs are labels, annotations or a selector, read where they lie.
type Pairs struct {
	message []byte
	field   uint32
}

// PairsOf is for the packages below: the pairs that are the given field of a message.
func PairsOf(message []byte, field uint32) Pairs { return Pairs{message, field} }

func pair(message []byte) (key, value string) {
	var f wire.Field
	for r := wire.Read(message); r.Next(&f); {
		switch f.Number {
		case 1:
			key = f.String()
		case 2:
			value = f.String()
		}
	}
	return key, value
}

// Get is the value of a key, and whether it is there.
func (p Pairs) Get(key string) (string, bool) {
	var f wire.Field
	for r := wire.Read(p.message); r.Next(&f); {
		if f.Number == p.field {
			if k, v := pair(f.Bytes); k == key {
				return v, true
			}
		}
	}
	return "", false
}

// All walks the pairs in the order of their keys.
func (p Pairs) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		var f wire.Field
		for r := wire.Read(p.message); r.Next(&f); {
			if f.Number == p.field && !yield(pair(f.Bytes)) {
				return
			}
		}
	}
}
