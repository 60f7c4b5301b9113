package opa

import (
	"cmp"
	"encoding/json"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// term is a Rego value: null, bool, json.Number, string, array, object or set. A term is never changed once made.
type term any

type null struct{}

type array []term

// object holds its pairs sorted by key.
type object []pair

type pair struct{ key, value term }

// set holds its elements sorted, each once.
type set []term

// rank orders the types as OPA does.
func rank(t term) int {
	switch t.(type) {
	case null:
		return 0
	case bool:
		return 1
	case json.Number:
		return 2
	case string:
		return 3
	case array:
		return 4
	case object:
		return 5
	default:
		return 6
	}
}

// compare is OPA's order of values: by type, then by value.
func compare(a, b term) int {
	if c := cmp.Compare(rank(a), rank(b)); c != 0 {
		return c
	}
	switch a := a.(type) {
	case bool:
		return cmp.Compare(btoi(a), btoi(b.(bool)))
	case json.Number:
		return compareNumbers(a, b.(json.Number))
	case string:
		return strings.Compare(a, b.(string))
	case array:
		return slices.CompareFunc(a, b.(array), compare)
	case set:
		return slices.CompareFunc(a, b.(set), compare)
	case object:
		return slices.CompareFunc(a, b.(object), func(p, q pair) int {
			if c := compare(p.key, q.key); c != 0 {
				return c
			}
			return compare(p.value, q.value)
		})
	}
	return 0
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func compareNumbers(a, b json.Number) int {
	if i, err := a.Int64(); err == nil {
		if j, err := b.Int64(); err == nil {
			return cmp.Compare(i, j)
		}
	}
	return float(a).Cmp(float(b))
}

// float is n as OPA computes with it. A big.Float rounds, so that a huge exponent costs nothing.
func float(n json.Number) *big.Float {
	f, ok := new(big.Float).SetString(string(n))
	if !ok {
		return new(big.Float)
	}
	return f
}

// integer is n as an int, and whether it is one.
func integer(n json.Number) (int, bool) {
	i, err := strconv.Atoi(string(n))
	return i, err == nil
}

func number(i int64) json.Number { return json.Number(strconv.FormatInt(i, 10)) }

// newSet takes elems over.
func newSet(elems []term) set {
	slices.SortFunc(elems, compare)
	return slices.CompactFunc(elems, func(a, b term) bool { return compare(a, b) == 0 })
}

// newObject takes pairs over; of two with one key the later one counts.
func newObject(pairs []pair) object {
	slices.SortStableFunc(pairs, func(a, b pair) int { return compare(a.key, b.key) })
	out := pairs[:0]
	for _, p := range pairs {
		if n := len(out); n > 0 && compare(out[n-1].key, p.key) == 0 {
			out[n-1] = p
			continue
		}
		out = append(out, p)
	}
	return out
}

func (o object) find(key term) (int, bool) {
	return slices.BinarySearchFunc(o, key, func(p pair, k term) int { return compare(p.key, k) })
}

func (o object) get(key term) (term, bool) {
	if i, ok := o.find(key); ok {
		return o[i].value, true
	}
	return nil, false
}

func (s set) find(elem term) (int, bool) { return slices.BinarySearchFunc(s, elem, compare) }

func stringsOf(list []string) array {
	out := make(array, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// ofJSON turns what encoding/json decodes (with numbers kept) into a term.
func ofJSON(v any) term {
	switch v := v.(type) {
	case nil:
		return null{}
	case []any:
		out := make(array, len(v))
		for i, e := range v {
			out[i] = ofJSON(e)
		}
		return out
	case map[string]any:
		pairs := make([]pair, 0, len(v))
		for k, e := range v {
			pairs = append(pairs, pair{k, ofJSON(e)})
		}
		return newObject(pairs)
	}
	return v
}

// toJSON is the reverse: a set becomes an array, and a key that is no string becomes its text.
func toJSON(t term) any {
	switch t := t.(type) {
	case null:
		return nil
	case array:
		return jsonList(t)
	case set:
		return jsonList(t)
	case object:
		out := make(map[string]any, len(t))
		for _, p := range t {
			k, ok := p.key.(string)
			if !ok {
				k = text(p.key)
			}
			out[k] = toJSON(p.value)
		}
		return out
	}
	return t
}

func jsonList(list []term) []any {
	out := make([]any, len(list))
	for i, e := range list {
		out[i] = toJSON(e)
	}
	return out
}
