package opa

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"
)

func stringBuiltins() map[string]builtin {
	return map[string]builtin{
		"sprintf":                  arity(2, sprintf),
		"trace":                    arity(1, trace),
		"internal.print":           arity(1, show),
		"strings.any_prefix_match": arity(2, anyMatch(strings.HasPrefix)),
		"strings.any_suffix_match": arity(2, anyMatch(strings.HasSuffix)),
		"strings.count":            ofStrings(2, func(s []string) (term, error) { return number(int64(strings.Count(s[0], s[1]))), nil }),
		"strings.reverse":          ofStrings(1, func(s []string) (term, error) { return reverse(s[0]), nil }),
		"indexof_n":                ofStrings(2, indexes),
	}
}

// sprintf is Go's, as in OPA: integers and floats as such, strings as such, the rest as Rego writes it.
func sprintf(_ *evaluation, args []term) (term, error) {
	format, err := operand[string](args, 0)
	if err != nil {
		return nil, err
	}
	list, err := operand[array](args, 1)
	if err != nil {
		return nil, err
	}
	longest := 64
	values := make([]any, len(list))
	for i, t := range list {
		switch t := t.(type) {
		case json.Number:
			values[i] = printable(t)
		case string:
			values[i] = t
		default:
			values[i] = text(t)
		}
		if s, ok := values[i].(string); ok {
			longest = max(longest, len(s))
		}
	}
	if printedAtMost(format, longest) > maxResult {
		return nil, errTooLarge
	}
	return fmt.Sprintf(format, values...), nil
}

// printable is n as sprintf's verbs take it.
func printable(n json.Number) any {
	if i, err := n.Int64(); err == nil {
		return i
	}
	if len(n) < 1000 {
		if b, ok := new(big.Int).SetString(string(n), 10); ok {
			return b
		}
	}
	if f, err := n.Float64(); err == nil {
		return f
	}
	return string(n)
}

// printedAtMost bounds what a format can print of arguments of at most longest bytes: %999999d and %[1]s times many
// are how a few bytes make gigabytes.
func printedAtMost(format string, longest int) int {
	total, width := len(format), 0
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			continue
		}
		total += 4*longest + len("%!v(string=)")
		for i++; i < len(format); i++ {
			c := format[i]
			if c >= '0' && c <= '9' {
				width = min(width*10+int(c-'0'), maxResult)
				continue
			}
			total, width = total+width, 0
			if c == '*' {
				total += 1_000_000
			}
			if !strings.ContainsRune("+-# .[]*", rune(c)) {
				break
			}
		}
		total, width = total+width, 0
		if total > maxResult {
			break
		}
	}
	return total
}

func trace(c *evaluation, args []term) (term, error) {
	note, err := operand[string](args, 0)
	if err != nil {
		return nil, err
	}
	c.log(note)
	return true, nil
}

// show is print: each operand is the set of values that its expression has; empty is undefined.
func show(c *evaluation, args []term) (term, error) {
	operands, err := operand[array](args, 0)
	if err != nil {
		return nil, err
	}
	lines := []string{""}
	for i, o := range operands {
		values, ok := members(o)
		if !ok {
			return nil, errors.New("print takes sets")
		}
		words := []string{"<undefined>"}
		if len(values) > 0 {
			words = words[:0]
			for _, v := range values {
				if s, ok := v.(string); ok {
					words = append(words, s)
				} else {
					words = append(words, text(v))
				}
			}
		}
		var next []string
		for _, line := range lines {
			for _, w := range words {
				if i > 0 {
					w = line + " " + w
				}
				if next = append(next, w); len(next) > 64 {
					return nil, errTooLarge
				}
			}
		}
		lines = next
	}
	for _, line := range lines {
		c.log(line)
	}
	return nil, nil
}

func anyMatch(matches func(s, part string) bool) builtin {
	return func(_ *evaluation, args []term) (term, error) {
		texts, err := words(args, 0)
		if err != nil {
			return nil, err
		}
		parts, err := words(args, 1)
		if err != nil {
			return nil, err
		}
		if len(texts)*len(parts) > 1<<22 {
			return nil, errTooLarge
		}
		return slices.ContainsFunc(texts, func(s string) bool {
			return slices.ContainsFunc(parts, func(p string) bool { return matches(s, p) })
		}), nil
	}
}

func reverse(s string) string {
	out := make([]byte, 0, len(s))
	for len(s) > 0 {
		r, n := utf8.DecodeLastRuneInString(s)
		out = utf8.AppendRune(out, r)
		s = s[:len(s)-n]
	}
	return string(out)
}

// indexes counts in runes, and finds overlapping ones too.
func indexes(s []string) (term, error) {
	if s[1] == "" {
		return nil, errors.New("empty search character")
	}
	out := array{}
	rest, at := s[0], 0
	for rest != "" {
		if strings.HasPrefix(rest, s[1]) {
			out = append(out, number(int64(at)))
		}
		_, n := utf8.DecodeRuneInString(rest)
		rest, at = rest[n:], at+1
	}
	return out, nil
}
