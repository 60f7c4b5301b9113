package opa

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

func numberBuiltins() map[string]builtin {
	return map[string]builtin{
		"units.parse":        ofStrings(1, parseUnits),
		"units.parse_bytes":  ofStrings(1, parseBytes),
		"semver.is_valid":    whether(func(s string) bool { _, err := parseVersion(s); return err == nil }),
		"semver.compare":     ofStrings(2, compareVersions),
		"numbers.range_step": arity(3, rangeStep),
	}
}

// power is 1000 to the n, or 1024 to the n.
func power(base int64, n int) *big.Rat {
	return new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(n)), nil))
}

// multiple is what a unit's letters ("k", "mi") stand for.
func multiple(unit string) (*big.Rat, bool) {
	base := int64(1000)
	if len(unit) == 2 && unit[1] == 'i' {
		unit, base = unit[:1], 1024
	}
	if i := strings.Index("kmgtpe", unit); i >= 0 && len(unit) == 1 {
		return power(base, i+1), true
	}
	return nil, false
}

// amount splits a number from its unit. An exponent that is too long to compute with is refused.
func amount(s string) (num, unit string, err error) {
	if strings.Contains(s, " ") {
		return "", "", errors.New("spaces not allowed in resource strings")
	}
	digit := func(i int) bool { return i < len(s) && s[i] >= '0' && s[i] <= '9' }
	i := 0
	for ; i < len(s); i++ {
		switch {
		case digit(i), s[i] == '.', s[i] == '+', s[i] == '-':
			continue
		case s[i] == 'e' || s[i] == 'E':
			exponent := i + 1
			if exponent < len(s) && (s[exponent] == '+' || s[exponent] == '-') {
				exponent++
			} else if !digit(exponent) {
				break
			}
			end := exponent
			for digit(end) {
				end++
			}
			if end-exponent > 6 {
				return "", "", errors.New("exponent too large")
			}
			i = exponent - 1
			continue
		}
		break
	}
	if i == 0 {
		return "", "", errors.New("no amount provided")
	}
	return s[:i], s[i:], nil
}

// parseUnits tells m (a thousandth) from M; otherwise case doesn't matter after the first letter.
func parseUnits(s []string) (term, error) {
	num, unit, err := amount(strings.ReplaceAll(s[0], `"`, ""))
	if err != nil {
		return nil, err
	}
	if len(unit) > 1 {
		unit = unit[:1] + strings.ToLower(unit[1:])
	}
	times, ok := big.NewRat(1, 1), true
	switch unit {
	case "":
	case "m":
		times.SetFloat64(0.001)
	default:
		times, ok = multiple(strings.ToLower(unit))
	}
	if !ok {
		return nil, fmt.Errorf("unit %s not recognized", unit)
	}
	n, ok := rational(num)
	if !ok {
		return nil, errors.New("could not parse amount to a number")
	}
	if n.Mul(n, times); n.IsInt() {
		return json.Number(n.Num().String()), nil
	}
	return json.Number(n.FloatString(10)), nil
}

// rational parses what is cheap enough to compute exactly: a rational number with an exponent of 999999 has a
// million digits.
func rational(s string) (*big.Rat, bool) {
	if f, ok := new(big.Float).SetString(s); !ok || len(s) > 1000 || f.MantExp(nil) > 4096 || f.MantExp(nil) < -4096 {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

func parseBytes(s []string) (term, error) {
	num, unit, err := amount(strings.ReplaceAll(strings.ToLower(s[0]), `"`, ""))
	if err != nil {
		return nil, err
	}
	times := big.NewRat(1, 1)
	if unit != "" {
		var ok bool
		if times, ok = multiple(strings.TrimSuffix(unit, "b")); !ok {
			return nil, fmt.Errorf("byte unit %s not recognized", unit)
		}
	}
	n, ok := new(big.Float).SetString(num)
	if !ok || n.MantExp(nil) > 4096 {
		return nil, errors.New("could not parse byte amount to a number")
	}
	by, _ := times.Num().Float64()
	total, _ := n.Mul(n, new(big.Float).SetInt64(int64(by))).Int(nil)
	return json.Number(total.String()), nil
}

type version struct {
	numbers [3]int64
	pre     []string
}

func parseVersion(s string) (v version, err error) {
	identifiers := func(s string) bool {
		ok, _ := regexp.MatchString(`^[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*$`, s)
		return ok || s == ""
	}
	s, meta, _ := strings.Cut(strings.TrimPrefix(s, "v"), "+")
	s, pre, _ := strings.Cut(s, "-")
	numbers := strings.Split(s, ".")
	if len(numbers) != 3 || !identifiers(meta) || !identifiers(pre) {
		return v, errors.New("not a valid SemVer")
	}
	for i, n := range numbers {
		if v.numbers[i], err = strconv.ParseInt(n, 10, 64); err != nil {
			return v, err
		}
	}
	if pre != "" {
		v.pre = strings.Split(pre, ".")
	}
	return v, nil
}

func compareVersions(s []string) (term, error) {
	a, err := parseVersion(s[0])
	if err != nil {
		return nil, err
	}
	b, err := parseVersion(s[1])
	if err != nil {
		return nil, err
	}
	return number(int64(a.compare(b))), nil
}

func (v version) compare(w version) int {
	for i := range v.numbers {
		if v.numbers[i] != w.numbers[i] {
			return sign(v.numbers[i] > w.numbers[i])
		}
	}
	if len(v.pre) == 0 || len(w.pre) == 0 {
		return btoi(len(v.pre) == 0) - btoi(len(w.pre) == 0) // a release is above what precedes it
	}
	for i := range min(len(v.pre), len(w.pre)) {
		a, b := v.pre[i], w.pre[i]
		if a == b {
			continue
		}
		x, errA := strconv.Atoi(a)
		y, errB := strconv.Atoi(b)
		switch {
		case errA == nil && errB == nil:
			if x != y {
				return sign(x > y)
			}
		case errA == nil || errB == nil:
			return sign(errB == nil)
		default:
			return sign(a > b)
		}
	}
	return btoi(len(v.pre) > len(w.pre)) - btoi(len(v.pre) < len(w.pre))
}

func sign(greater bool) int { return 2*btoi(greater) - 1 }

func rangeStep(_ *evaluation, args []term) (term, error) {
	from, err := intOperand(args, 0)
	if err != nil {
		return nil, err
	}
	to, err := intOperand(args, 1)
	if err != nil {
		return nil, err
	}
	step, err := intOperand(args, 2)
	if err != nil {
		return nil, err
	}
	if step <= 0 {
		return nil, errors.New("step must be a positive integer")
	}
	down := from > to
	distance := uint64(to - from)
	if down {
		distance = uint64(from - to)
	}
	n := distance / uint64(step)
	if n >= maxExpand {
		return nil, errTooLarge
	}
	out := make(array, n+1)
	for i := range out {
		if down {
			out[i] = number(int64(from - i*step))
		} else {
			out[i] = number(int64(from + i*step))
		}
	}
	return out, nil
}
