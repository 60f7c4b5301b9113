package opa

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

func regexBuiltins() map[string]builtin {
	return map[string]builtin{
		"regex.split": ofStrings(2, func(s []string) (term, error) {
			re, err := pattern(s[0], s[1])
			if err != nil {
				return nil, err
			}
			return stringsOf(re.Split(s[1], -1)), nil
		}),
		"regex.find_n":         arity(3, findN),
		"regex.replace":        ofStrings(3, replacePattern),
		"regex.template_match": ofStrings(4, templateMatch),
		"glob.quote_meta":      ofStrings(1, func(s []string) (term, error) { return quoteGlob(s[0]), nil }),
	}
}

// pattern compiles p for a text that isn't too long for it: Go's matching is linear, and a host function can't be
// interrupted.
func pattern(p, text string) (*regexp.Regexp, error) {
	if len(p) > maxRegex || len(p)*len(text) > maxMatch {
		return nil, errTooLarge
	}
	return regexp.Compile(p)
}

func findN(_ *evaluation, args []term) (term, error) {
	p, err := operand[string](args, 0)
	if err != nil {
		return nil, err
	}
	s, err := operand[string](args, 1)
	if err != nil {
		return nil, err
	}
	n, err := intOperand(args, 2)
	if err != nil {
		return nil, err
	}
	re, err := pattern(p, s)
	if err != nil {
		return nil, err
	}
	return stringsOf(re.FindAllString(s, n)), nil
}

// replacePattern expands $1 and ${name}, and starts anew after each match.
func replacePattern(s []string) (term, error) {
	re, err := pattern(s[1], s[0])
	if err != nil {
		return nil, err
	}
	rest, out := s[0], []byte(nil)
	for {
		match := re.FindStringSubmatchIndex(rest)
		if match == nil {
			break
		}
		out = re.ExpandString(append(out, rest[:match[0]]...), s[2], rest, match)
		if match[1] == 0 {
			return nil, errors.New("the pattern matches nothing, over and over")
		}
		if rest = rest[match[1]:]; len(out) > maxResult {
			return nil, errTooLarge
		}
	}
	return string(append(out, rest...)), nil
}

// templateMatch takes a template whose patterns stand between two delimiters; the rest is taken literally.
func templateMatch(s []string) (term, error) {
	template, open, shut := s[0], s[2], s[3]
	if len(open) != 1 || len(shut) != 1 {
		return nil, errors.New("a delimiter has to be one character")
	}
	var p strings.Builder
	p.WriteByte('^')
	start, depth := 0, 0
	for i := range len(template) {
		switch template[i] {
		case open[0]:
			if depth == 0 {
				p.WriteString(regexp.QuoteMeta(template[start:i]))
				start = i + 1
			}
			depth++
		case shut[0]:
			if depth--; depth < 0 {
				return nil, fmt.Errorf("unbalanced braces in %q", template)
			}
			if depth == 0 {
				p.WriteString("(" + template[start:i] + ")")
				start = i + 1
			}
		}
	}
	if depth != 0 {
		return nil, fmt.Errorf("unbalanced braces in %q", template)
	}
	p.WriteString(regexp.QuoteMeta(template[start:]) + "$")
	re, err := pattern(p.String(), s[1])
	if err != nil {
		return nil, err
	}
	return re.MatchString(s[1]), nil
}

func quoteGlob(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(`*?\[]{}`, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
