package opa

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// builtin is a function that Rego calls and the WebAssembly target leaves to its host. An error makes the
// expression undefined, as OPA's evaluation does when it isn't strict.
type builtin func(c *evaluation, args []term) (term, error)

// Bounds of what one call of a built-in may make or do: a guest chooses the arguments.
const (
	maxResult = 4 << 20 // bytes of one result
	maxRegex  = 4 << 10 // bytes of a pattern
	maxMatch  = 8 << 20 // bytes of a pattern times bytes of a text
	maxExpand = 1 << 16 // addresses of net.cidr_expand, numbers of numbers.range_step
)

var (
	errUndefined = errors.New("undefined")
	errTooLarge  = errors.New("the result is larger than a built-in may make")
)

// tables is what the adapter implements, by OPA's names. See also Config.Builtins.
func tables() map[string]builtin {
	all := map[string]builtin{}
	for _, t := range []map[string]builtin{stringBuiltins(), regexBuiltins(), encodingBuiltins(), timeBuiltins(),
		numberBuiltins(), objectBuiltins(), netBuiltins(), cryptoBuiltins()} {
		maps.Copy(all, t)
	}
	return all
}

// arity is checked before a built-in looks at its arguments.
func arity(n int, f builtin) builtin {
	return func(c *evaluation, args []term) (term, error) {
		if len(args) != n {
			return nil, fmt.Errorf("%d arguments, not %d", n, len(args))
		}
		return f(c, args)
	}
}

func operand[T term](args []term, i int) (T, error) {
	t, ok := args[i].(T)
	if !ok {
		return t, fmt.Errorf("operand %d must be %T", i+1, t)
	}
	return t, nil
}

func intOperand(args []term, i int) (int, error) {
	n, err := operand[json.Number](args, i)
	if err != nil {
		return 0, err
	}
	v, ok := integer(n)
	if !ok {
		return 0, fmt.Errorf("operand %d must be an integer", i+1)
	}
	return v, nil
}

// members is an array's or a set's elements.
func members(t term) ([]term, bool) {
	switch t := t.(type) {
	case array:
		return t, true
	case set:
		return t, true
	}
	return nil, false
}

// words is a string, or an array or set of strings.
func words(args []term, i int) ([]string, error) {
	if s, ok := args[i].(string); ok {
		return []string{s}, nil
	}
	list, ok := members(args[i])
	if !ok {
		return nil, fmt.Errorf("operand %d must be a string, a set or an array", i+1)
	}
	out := make([]string, len(list))
	for j, e := range list {
		if out[j], ok = e.(string); !ok {
			return nil, fmt.Errorf("operand %d must hold strings", i+1)
		}
	}
	return out, nil
}

// ofStrings makes a built-in of a function of strings.
func ofStrings(n int, f func(s []string) (term, error)) builtin {
	return arity(n, func(_ *evaluation, args []term) (term, error) {
		s := make([]string, n)
		for i := range args {
			var err error
			if s[i], err = operand[string](args, i); err != nil {
				return nil, err
			}
		}
		return f(s)
	})
}

// whether makes a built-in that tests a string and is false of anything else.
func whether(f func(string) bool) builtin {
	return arity(1, func(_ *evaluation, args []term) (term, error) {
		s, ok := args[0].(string)
		return ok && f(s), nil
	})
}
