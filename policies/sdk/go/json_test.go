package pintle

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// decode reads a value into what encoding/json makes of it.
func decode(v Value) any {
	switch v.Kind() {
	case '{':
		m := map[string]any{}
		for key, value := range v.Members() {
			m[key] = decode(value)
		}
		return m
	case '[':
		l := []any{}
		for e := range v.Elements() {
			l = append(l, decode(e))
		}
		return l
	case '"':
		return v.String()
	case 't', 'f':
		return v.True()
	case '0':
		n, _ := v.Float()
		return n
	}
	return nil
}

// What is JSON reads as encoding/json reads it; what isn't is read without leaving it.
func FuzzValueReadsLikeEncodingJSON(f *testing.F) {
	for _, text := range []string{
		`{"a": [1, -2.5, true, false, null, "x"], "b": {"c": {}}, "d": []}`, ` [ ] `, `"\u00e9\ud83d\ude00\n\"\\\/"`,
		`{"a\u0062": "}]{["}`, `[[[]],[{}]]`, `{"a"`, `{"a":`, `["\`, `"\u12`, `[1,]`, `{,}`, `-`, ``, `{"a":1}}`, `"\ud800"`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v := ParseJSON([]byte(text))
		got := decode(v)
		v.Get("a").Get("b").Raw()
		var want any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			return
		}
		if strings.Contains(text, "\ufffd") || strings.ToValidUTF8(text, "") != text || repeats(text) {
			return // encoding/json repairs what is no UTF-8, and takes the last of two members
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v, want %#v", text, got, want)
		}
	})
}

// repeats says that numbers are beyond float64, or that an object may have a member twice.
func repeats(text string) bool {
	d := json.NewDecoder(strings.NewReader(text))
	seen := map[string]bool{}
	for {
		token, err := d.Token()
		if err != nil {
			return false
		}
		if s, ok := token.(string); ok {
			if seen[s] {
				return true
			}
			seen[s] = true
		}
	}
}

func TestGetFindsWhatIsThere(t *testing.T) {
	v := ParseJSON([]byte(`{"x": {"get": "no"}, "a": null, "\u0067et": {"n": -12, "f": 1.5, "s": "a\tb", "t": true}, "get": "second"}`))
	if n, ok := v.Get("get").Get("n").Int(); !ok || n != -12 {
		t.Errorf("n is %d, %v", n, ok)
	}
	if v.Get("a").Exists() || v.Get("b").Exists() || v.Get("get").Get("n").Get("x").Exists() {
		t.Error("there is what isn't")
	}
	if s := v.Get("get").Get("s").String(); s != "a\tb" {
		t.Errorf("s is %q", s)
	}
	if _, ok := v.Get("get").Get("f").Int(); ok {
		t.Error("1.5 is a whole number")
	}
	if raw := string(v.Get("get").Raw()); raw != `{"n": -12, "f": 1.5, "s": "a\tb", "t": true}` {
		t.Errorf("raw is %s", raw)
	}
}

func TestPodTemplateOfWhatMakesPods(t *testing.T) {
	for kind, object := range map[string]string{
		"Pod": `{"spec": 1}`, "PodTemplate": `{"template": {"spec": 1}}`, "Job": `{"spec": {"template": {"spec": 1}}}`,
		"CronJob": `{"spec": {"jobTemplate": {"spec": {"template": {"spec": 1}}}}}`,
	} {
		if n, _ := PodTemplate(kind, ParseJSON([]byte(object))).Get("spec").Int(); n != 1 {
			t.Errorf("%s: no pod is found", kind)
		}
	}
}
