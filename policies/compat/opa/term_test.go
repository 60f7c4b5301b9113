package opa

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestTermsAreReadAndWritten(t *testing.T) {
	for in, want := range map[string]string{
		`null`:                           `null`,
		` [1, -2.5e3,true,"a\n\u00e9"] `: `[1, -2.5e3, true, "a\u000aé"]`,
		`{"b":1,"a":{}}`:                 `{"a": {}, "b": 1}`,
		`{3,1,2,1.0,1}`:                  `{1, 2, 3}`,
		`set()`:                          `set()`,
		`{{1,2},{"x":set()},[]}`:         `{[], {"x": set()}, {1, 2}}`,
		`{1:2,[1]:3}`:                    `{1: 2, [1]: 3}`,
	} {
		v, err := decode([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := string(encode(nil, v)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	for _, in := range []string{``, `{`, `[1`, `[1,]`, `{1:}`, `"a`, `1 2`, `-`, `tru`, `{"a":1,2}`, strings.Repeat("[", 5000)} {
		if v, err := decode([]byte(in)); err == nil {
			t.Errorf("%.20s: %v", in, v)
		}
	}
}

func TestTermsHaveOPAsOrder(t *testing.T) {
	ordered := []string{`null`, `false`, `true`, `-1`, `1`, `1e3`, `123456789012345678901234567890`, `""`, `"a"`, `[]`, `[1]`, `[1, 2]`, `[2]`,
		`{}`, `{"a": 1}`, `{"a": 2}`, `{"b": 0}`, `set()`, `{1}`, `{1, 2}`}
	var terms []term
	for _, s := range ordered {
		v, err := decode([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		terms = append(terms, v)
	}
	for i := range terms {
		for j := range terms {
			if got, want := compare(terms[i], terms[j]), btoi(i > j)-btoi(i < j); got != want {
				t.Errorf("%s against %s: %d", ordered[i], ordered[j], got)
			}
		}
	}
}

// What a guest may ask with few bytes must not cost the host much.
func TestBuiltinsAreBounded(t *testing.T) {
	c := &evaluation{ctx: context.Background(), e: &evaluator{adapter: New(Config{})}}
	for name, args := range map[string][]string{
		"sprintf":                   {`"%0999999999d"`, `[1]`},
		"net.cidr_expand":           {`"10.0.0.0/8"`},
		"numbers.range_step":        {`0`, `1000000000`, `1`},
		"units.parse":               {`"1e999999"`},
		"units.parse_bytes":         {`"1e999999"`},
		"regex.replace":             {`"` + strings.Repeat("a", 1<<20) + `"`, `"(a|aa|aaa)*b"`, `"x"`},
		"json.marshal_with_options": {`[` + strings.Repeat("1,", 1000) + `1]`, `{"indent": "` + strings.Repeat(" ", 1<<20) + `"}`},
	} {
		terms := make([]term, len(args))
		for i, a := range args {
			var err error
			if terms[i], err = decode([]byte(a)); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		v, err := c.e.adapter.table[name](c, terms)
		if err == nil {
			t.Errorf("%s: %.40s", name, text(v))
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
}

func FuzzTermsAreReadWithoutHarm(f *testing.F) {
	f.Add([]byte(`{"a": [1, {2, 3}], "b": set()}`))
	f.Add([]byte(`{{}, {1: 2}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(encode(nil, v))
		if err != nil || compare(v, again) != 0 {
			t.Errorf("%q: %v, %v", b, again, err)
		}
		_ = text(v)
	})
}

// Built-ins take whatever a guest hands over.
func FuzzBuiltinsTakeAnything(f *testing.F) {
	names := make([]string, 0, 64)
	for name := range tables() {
		names = append(names, name)
	}
	f.Add(uint(0), []byte(`["%v", [1]]`))
	f.Add(uint(1), []byte(`[{"a": 1}, [{"op": "add", "path": "/a", "value": 1}]]`))
	c := &evaluation{ctx: context.Background(), e: &evaluator{adapter: New(Config{})}}
	f.Fuzz(func(t *testing.T, _ uint, b []byte) {
		v, err := decode(b)
		args, ok := v.(array)
		if err != nil || !ok {
			return
		}
		for _, name := range names {
			if v, err := c.e.adapter.table[name](c, args); err == nil && v != nil {
				if b := encode(nil, v); len(b) > 64<<20 {
					t.Errorf("%s: %d bytes", name, len(b))
				}
			}
		}
	})
}
