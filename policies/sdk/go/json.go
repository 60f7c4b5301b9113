package pintle

import (
	"bytes"
	"iter"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/pintle/pintle/policies/sdk/go/internal/wire"
)

// Value is a JSON value, read where it lies, or none: what isn't there, or is no JSON. It is where the value's text begins;
// what lies in it is looked at when it is asked for, which makes reading a few fields of a large object cheap. The host's
// JSON is well formed; of other text nothing is said but that reading it stays within it.
type Value struct {
	text []byte // from the value on, to the end of all that there is
}

// ParseJSON reads a text.
func ParseJSON(text []byte) Value { return Value{space(text)} }

func space(text []byte) []byte {
	for len(text) > 0 && (text[0] == ' ' || text[0] == '\n' || text[0] == '\t' || text[0] == '\r') {
		text = text[1:]
	}
	return text
}

// pastString is how long the string is at whose quote text begins.
func pastString(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return len(text)
}

func past(text []byte) int {
	if len(text) == 0 {
		return 0
	}
	switch text[0] {
	case '"':
		return pastString(text)
	case '{', '[':
		depth := 0
		for i := 0; i < len(text); i++ {
			switch text[i] {
			case '"':
				i += pastString(text[i:]) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return len(text)
	}
	i := 0
	for i < len(text) && text[i] > ' ' && text[i] != ',' && text[i] != '}' && text[i] != ']' {
		i++
	}
	return i
}

// member finds the key, between its quotes, and the value with which text begins.
func member(text []byte) (key, value []byte, ok bool) {
	text = space(text)
	if len(text) == 0 || text[0] != '"' {
		return nil, nil, false
	}
	n := pastString(text)
	key, text = text[1:max(n-1, 1)], space(text[n:])
	if len(text) == 0 || text[0] != ':' {
		return nil, nil, false
	}
	text = space(text[1:])
	return key, text, len(text) > 0
}

// after is what follows a value, behind the comma; nil when nothing does.
func after(value []byte) []byte {
	if text := space(value[past(value):]); len(text) > 0 && text[0] == ',' {
		return text[1:]
	}
	return nil
}

// Kind is '{', '[', '"', 't', 'f', 'n', '0' for a number, or 0 for no value.
func (v Value) Kind() byte {
	if len(v.text) == 0 {
		return 0
	}
	if c := v.text[0]; c != '-' && (c < '0' || c > '9') {
		return c
	}
	return '0'
}

// Exists says whether there is a value.
func (v Value) Exists() bool { return len(v.text) > 0 }

// Raw is the value's text.
func (v Value) Raw() []byte { return v.text[:past(v.text)] }

// True says whether the value is true.
func (v Value) True() bool { return v.Kind() == 't' }

// False says whether the value is there and false.
func (v Value) False() bool { return v.Kind() == 'f' }

// Get is an object's member, or no value. A member that is null is none.
func (v Value) Get(name string) Value {
	if v.Kind() != '{' {
		return Value{}
	}
	for rest := v.text[1:]; ; {
		key, value, ok := member(rest)
		if !ok {
			return Value{}
		}
		if wire.String(key) == name || bytes.IndexByte(key, '\\') >= 0 && unescape(key) == name {
			if value[0] == 'n' {
				return Value{}
			}
			return Value{value}
		}
		rest = after(value)
	}
}

// Members walks an object; of what is none, nothing.
func (v Value) Members() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		if v.Kind() != '{' {
			return
		}
		for rest := v.text[1:]; ; {
			key, value, ok := member(rest)
			if !ok || !yield(unescape(key), Value{value}) {
				return
			}
			rest = after(value)
		}
	}
}

// Elements walks an array; of what is none, nothing.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind() != '[' {
			return
		}
		for rest := space(v.text[1:]); past(rest) > 0; rest = space(after(rest)) {
			if !yield(Value{rest}) {
				return
			}
		}
	}
}

// Text is the string that the value is, and whether it is one.
func (v Value) Text() (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	n := pastString(v.text)
	return unescape(v.text[1:max(n-1, 1)]), true
}

// String is the string that the value is; empty for anything else.
func (v Value) String() string {
	s, _ := v.Text()
	return s
}

// Int is the whole number that the value is, and whether it is one.
func (v Value) Int() (int64, bool) {
	if v.Kind() != '0' {
		return 0, false
	}
	n, err := strconv.ParseInt(wire.String(v.Raw()), 10, 64)
	return n, err == nil
}

// Float is the number that the value is, and whether it is one.
func (v Value) Float() (float64, bool) {
	if v.Kind() != '0' {
		return 0, false
	}
	n, err := strconv.ParseFloat(wire.String(v.Raw()), 64)
	return n, err == nil
}

// unescape takes the text between two quotes. Without a backslash it is the string, where it lies.
func unescape(text []byte) string {
	if bytes.IndexByte(text, '\\') < 0 {
		return wire.String(text)
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 >= len(text) {
			out = append(out, text[i])
			continue
		}
		i++
		switch c := text[i]; c {
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case 'r':
			out = append(out, '\r')
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'u':
			u := hex4(text[i+1:])
			i += min(4, len(text)-i-1)
			if rest := text[i+1:]; utf16.IsSurrogate(u) && len(rest) >= 6 && rest[0] == '\\' && rest[1] == 'u' {
				if both := utf16.DecodeRune(u, hex4(rest[2:])); both != utf8.RuneError {
					u, i = both, i+6
				}
			}
			out = utf8.AppendRune(out, u)
		default:
			out = append(out, c)
		}
	}
	return wire.String(out)
}

func hex4(text []byte) rune {
	if len(text) < 4 {
		return utf8.RuneError
	}
	n, err := strconv.ParseUint(wire.String(text[:4]), 16, 32)
	if err != nil {
		return utf8.RuneError
	}
	return rune(n)
}

// PodTemplate is the pod that an object of the given kind is or makes by its template, with its metadata and spec; no value:
// it makes none.
func PodTemplate(kind string, object Value) Value {
	switch kind {
	case "Pod":
		return object
	case "PodTemplate":
		return object.Get("template")
	case "CronJob":
		return object.Get("spec").Get("jobTemplate").Get("spec").Get("template")
	}
	return object.Get("spec").Get("template")
}
