package opa

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds how deeply values nest: a guest chooses what it hands over.
const maxDepth = 1000

// text is t as Rego writes it, which is what sprintf and print show.
func text(t term) string { return string(appendText(nil, t, strconv.AppendQuote)) }

// encode is t as the guest's opa_value_parse reads it: JSON, with sets beside it.
func encode(b []byte, t term) []byte { return appendText(b, t, appendJSONString) }

func appendText(b []byte, t term, quote func([]byte, string) []byte) []byte {
	switch t := t.(type) {
	case null:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, t)
	case json.Number:
		return append(b, t...)
	case string:
		return quote(b, t)
	case array:
		return appendList(b, '[', t, ']', quote)
	case set:
		if len(t) == 0 {
			return append(b, "set()"...)
		}
		return appendList(b, '{', t, '}', quote)
	case object:
		b = append(b, '{')
		for i, p := range t {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(appendText(b, p.key, quote), ": "...)
			b = appendText(b, p.value, quote)
		}
		return append(b, '}')
	}
	return b
}

func appendList(b []byte, open byte, list []term, shut byte, quote func([]byte, string) []byte) []byte {
	b = append(b, open)
	for i, e := range list {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendText(b, e, quote)
	}
	return append(b, shut)
}

func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			if r, n := utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			b = append(append(b, s[start:i]...), `\ufffd`...)
		} else if c == '"' || c == '\\' {
			b = append(append(b, s[start:i]...), '\\', c)
		} else {
			b = fmt.Appendf(append(b, s[start:i]...), `\u%04x`, c)
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}

// decode reads what opa_value_dump writes.
func decode(b []byte) (term, error) {
	p := parser{in: b}
	t, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.in) {
		return nil, p.errorf("more than one value")
	}
	return t, nil
}

type parser struct {
	in []byte
	at int
}

func (p *parser) errorf(format string, args ...any) error {
	return fmt.Errorf("the module's value at byte %d: %s", p.at, fmt.Sprintf(format, args...))
}

func (p *parser) space() {
	for p.at < len(p.in) && (p.in[p.at] == ' ' || p.in[p.at] == '\n' || p.in[p.at] == '\t' || p.in[p.at] == '\r') {
		p.at++
	}
}

// next is the next byte after white space, 0 at the end.
func (p *parser) next() byte {
	if p.space(); p.at < len(p.in) {
		return p.in[p.at]
	}
	return 0
}

func (p *parser) word(w string) bool {
	if len(p.in)-p.at < len(w) || string(p.in[p.at:p.at+len(w)]) != w {
		return false
	}
	p.at += len(w)
	return true
}

func (p *parser) value(depth int) (term, error) {
	if depth > maxDepth {
		return nil, p.errorf("nested more than %d deep", maxDepth)
	}
	switch c := p.next(); {
	case c == '"':
		return p.str()
	case c == '[':
		p.at++
		list, err := p.list(']', depth)
		return array(list), err
	case c == '{':
		p.at++
		return p.braces(depth)
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case p.word("null"):
		return null{}, nil
	case p.word("true"):
		return true, nil
	case p.word("false"):
		return false, nil
	case p.word("set()"):
		return set{}, nil
	}
	return nil, p.errorf("no value")
}

func (p *parser) number() (term, error) {
	start := p.at
	for p.at < len(p.in) {
		switch c := p.in[p.at]; {
		case c >= '0' && c <= '9', c == '-', c == '+', c == '.', c == 'e', c == 'E':
			p.at++
			continue
		}
		break
	}
	n := json.Number(p.in[start:p.at])
	if !json.Valid(p.in[start:p.at]) {
		return nil, p.errorf("no number: %q", string(n))
	}
	return n, nil
}

func (p *parser) str() (string, error) {
	start, plain := p.at, true
	for p.at++; p.at < len(p.in); p.at++ {
		switch p.in[p.at] {
		case '\\':
			plain = false
			p.at++
		case '"':
			p.at++
			if plain {
				return string(p.in[start+1 : p.at-1]), nil
			}
			var s string
			if err := json.Unmarshal(p.in[start:p.at], &s); err != nil {
				return "", p.errorf("%v", err)
			}
			return s, nil
		}
	}
	return "", p.errorf("a string without end")
}

func (p *parser) list(shut byte, depth int) ([]term, error) {
	list := []term{}
	if p.next() == shut {
		p.at++
		return list, nil
	}
	for {
		t, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
		if done, err := p.separator(shut); done || err != nil {
			return list, err
		}
	}
}

// separator passes a comma, or says that the list has ended.
func (p *parser) separator(shut byte) (bool, error) {
	switch p.next() {
	case ',':
		p.at++
		return false, nil
	case shut:
		p.at++
		return true, nil
	}
	return false, p.errorf("neither ',' nor %q", shut)
}

var errNoColon = errors.New("no ':' after a key")

// braces reads an object or a set, past its '{'.
func (p *parser) braces(depth int) (term, error) {
	if p.next() == '}' {
		p.at++
		return object{}, nil
	}
	first, err := p.value(depth + 1)
	if err != nil {
		return nil, err
	}
	if p.next() != ':' {
		elems := []term{first}
		if done, err := p.separator('}'); done || err != nil {
			return newSet(elems), err
		}
		more, err := p.list('}', depth)
		return newSet(append(elems, more...)), err
	}
	var pairs []pair
	for key := first; ; {
		if p.next() != ':' {
			return nil, p.errorf("%v", errNoColon)
		}
		p.at++
		value, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, pair{key, value})
		if done, err := p.separator('}'); done || err != nil {
			return newObject(pairs), err
		}
		if key, err = p.value(depth + 1); err != nil {
			return nil, err
		}
	}
}
