package builtins_test

import (
	"context"
	"testing"

	"github.com/pintle/pintle/policies/compat/opa/builtins"
)

func TestFunctionsTakeAndReturnTextOfTerms(t *testing.T) {
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"yaml.unmarshal", `{"a": [1, null]}`, []string{`"a: [1, null]"`}},
		{"union", `{1, 2}`, []string{`{{1}, {2}}`}},
		{"intersection", `set()`, []string{`{{1}, {2}}`}},
		{"upper", `"A\"<\n"`, []string{`"a\"<\n"`}},
		{"graph.reachable_paths", `{["a", "b"]}`, []string{`{"a": ["b"], "b": []}`, `{"a"}`}},
	} {
		args := make([][]byte, len(c.args))
		for i, a := range c.args {
			args[i] = []byte(a)
		}
		got, err := builtins.Lookup(c.name)(context.Background(), args)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.want)
		}
	}
}

func TestWhatIsUndefinedHasNoResult(t *testing.T) {
	if got, err := builtins.Lookup("to_number")(context.Background(), [][]byte{[]byte(`"x"`)}); err == nil || got != nil {
		t.Errorf("%s, %v", got, err)
	}
	if builtins.Lookup("no.such") != nil {
		t.Error("a function that OPA lacks is there")
	}
}
