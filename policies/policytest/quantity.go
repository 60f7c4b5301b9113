package policytest

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/pintle/pintle/policies/abi"
)

// amounts are resources as Kubernetes writes them: {"cpu": "1500m", "memory": "1Gi"}.
type amounts map[string]json.RawMessage

// milli is the amounts in thousandths, by name.
func (a amounts) milli() (map[string]int64, error) {
	m := make(map[string]int64, len(a))
	for name, raw := range a {
		v, err := parseQuantity(strings.Trim(string(raw), `"`))
		if err != nil {
			return nil, fmt.Errorf("resource %s: %w", name, err)
		}
		m[name] = v
	}
	return m, nil
}

var suffixes = map[string]*big.Rat{
	"n": big.NewRat(1, 1e9), "u": big.NewRat(1, 1e6), "m": big.NewRat(1, 1e3), "": big.NewRat(1, 1), "k": big.NewRat(1e3, 1),
	"M": big.NewRat(1e6, 1), "G": big.NewRat(1e9, 1), "T": big.NewRat(1e12, 1), "P": big.NewRat(1e15, 1), "E": big.NewRat(1e18, 1),
	"Ki": big.NewRat(1<<10, 1), "Mi": big.NewRat(1<<20, 1), "Gi": big.NewRat(1<<30, 1), "Ti": big.NewRat(1<<40, 1),
	"Pi": big.NewRat(1<<50, 1), "Ei": big.NewRat(1<<60, 1),
}

// parseQuantity reads a quantity of Kubernetes in thousandths, rounded up.
func parseQuantity(s string) (int64, error) {
	end := len(strings.TrimRight(s, "numkKMGTPEi"))
	number, suffix := s[:end], s[end:]
	scale, ok := suffixes[suffix]
	r, valid := new(big.Rat).SetString(number)
	if !ok || !valid || len(s) > 40 || strings.ContainsAny(number, "/_xXpP") {
		return 0, fmt.Errorf("%q is no quantity", s)
	}
	if _, exponent, ok := strings.Cut(strings.ToLower(number), "e"); ok {
		if n, err := strconv.Atoi(exponent); err != nil || n < -30 || n > 30 {
			return 0, fmt.Errorf("%q is no quantity", s)
		}
	}
	r.Mul(r, scale).Mul(r, big.NewRat(1000, 1))
	q, rest := new(big.Int).QuoRem(r.Num(), r.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		q.Add(q, big.NewInt(1))
	}
	if !q.IsInt64() {
		return 0, fmt.Errorf("%q is more than can be counted in thousandths", s)
	}
	return q.Int64(), nil
}

func formatQuantity(milli int64) string {
	if milli%1000 == 0 {
		return strconv.FormatInt(milli/1000, 10)
	}
	return strconv.FormatInt(milli, 10) + "m"
}

// sorted is m as a list by name.
func sorted(m map[string]int64) []abi.Quantity {
	qs := make([]abi.Quantity, 0, len(m))
	for name, v := range m {
		qs = append(qs, abi.Quantity{Name: name, Milli: v})
	}
	slices.SortFunc(qs, func(a, b abi.Quantity) int { return strings.Compare(a.Name, b.Name) })
	return qs
}
