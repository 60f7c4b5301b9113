package devicecel

import (
	"cmp"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Semver is a version by semver.org 2.0.0; what comes after a + takes no part in comparisons.
type Semver struct {
	Major, Minor, Patch uint64
	Pre                 []string
	text                string
}

// ParseSemver reads one. With normalize a leading v, missing minor and patch numbers and leading zeros are allowed.
func ParseSemver(text string, normalize bool) (Semver, error) {
	bad := func(why string) (Semver, error) {
		return Semver{}, fmt.Errorf("%q is no semantic version: %s", text, why)
	}
	rest, build, hasBuild := strings.Cut(text, "+")
	if normalize {
		rest = strings.TrimPrefix(rest, "v")
	}
	core, pre, hasPre := strings.Cut(rest, "-")
	numbers := strings.Split(core, ".")
	for normalize && len(numbers) < 3 {
		numbers = append(numbers, "0")
	}
	if len(numbers) != 3 {
		return bad("it must have three numbers")
	}
	var n [3]uint64
	for i, s := range numbers {
		if len(s) > 1 && s[0] == '0' && !normalize {
			return bad("a number must not begin with 0")
		}
		if !only(s, false) {
			return bad("its first three parts must be numbers")
		}
		var err error
		if n[i], err = strconv.ParseUint(s, 10, 64); err != nil {
			return bad("a number is too large")
		}
	}
	v := Semver{Major: n[0], Minor: n[1], Patch: n[2], text: text}
	if hasPre {
		v.Pre = strings.Split(pre, ".")
	}
	for _, p := range v.Pre {
		if !only(p, true) || len(p) > 1 && p[0] == '0' && only(p, false) {
			return bad("a part after - is none")
		}
	}
	if hasBuild {
		for _, p := range strings.Split(build, ".") {
			if !only(p, true) {
				return bad("a part after + is none")
			}
		}
	}
	return v, nil
}

// only says whether s consists of digits, and of letters and hyphens if they may be there; an empty one doesn't.
func only(s string, letters bool) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && !(letters && (c == '-' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')) {
			return false
		}
	}
	return s != ""
}

// Compare is -1, 0 or 1.
func (v Semver) Compare(w Semver) int {
	if c := cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Patch, w.Patch)); c != 0 {
		return c
	}
	if len(v.Pre) == 0 || len(w.Pre) == 0 { // a version without comes after all that lead to it
		return cmp.Compare(len(w.Pre), len(v.Pre))
	}
	for i := range min(len(v.Pre), len(w.Pre)) {
		a, b := v.Pre[i], w.Pre[i]
		numA, numB := only(a, false), only(b, false)
		c := 0
		switch {
		case numA && numB:
			c = cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
		case numA != numB:
			c = 1
			if numA {
				c = -1
			}
		default:
			c = strings.Compare(a, b)
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(v.Pre), len(w.Pre))
}

func semverType() *cel.Type { return cel.ObjectType("kubernetes.Semver") }

// ConvertToNative implements ref.Val, as do the methods below.
func (v Semver) ConvertToNative(t reflect.Type) (any, error) {
	if t.Kind() == reflect.String {
		return v.text, nil
	}
	return nil, fmt.Errorf("a version is no %v", t)
}
func (v Semver) ConvertToType(t ref.Type) ref.Val {
	switch t.TypeName() {
	case semverType().TypeName():
		return v
	case types.TypeType.TypeName():
		return semverType()
	}
	return types.NewErr("type conversion error from 'Semver' to '%s'", t.TypeName())
}
func (v Semver) Equal(other ref.Val) ref.Val {
	w, ok := other.(Semver)
	return types.Bool(ok && v.Compare(w) == 0)
}
func (v Semver) Type() ref.Type { return semverType() }
func (v Semver) Value() any     { return v }

func semverFunctions() []cel.EnvOption {
	kind := semverType()
	parse := func(text ref.Val, normalize ref.Val) ref.Val {
		s, ok := text.(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(text)
		}
		v, err := ParseSemver(string(s), normalize == types.True)
		if err != nil {
			return types.WrapErr(err)
		}
		return v
	}
	is := func(text ref.Val, normalize ref.Val) ref.Val {
		return types.Bool(!types.IsError(parse(text, normalize)))
	}
	number := func(name string, of func(Semver) uint64) cel.EnvOption {
		return cel.Function(name, cel.MemberOverload("semver_"+name, []*cel.Type{kind}, types.IntType, cel.UnaryBinding(func(v ref.Val) ref.Val {
			s, ok := v.(Semver)
			if !ok {
				return types.MaybeNoSuchOverloadErr(v)
			}
			if n := of(s); n <= 1<<63-1 {
				return types.Int(n)
			}
			return types.NewErr("%s is too large", name)
		})))
	}
	compare := func(result func(int) ref.Val) cel.OverloadOpt {
		return cel.BinaryBinding(func(a, b ref.Val) ref.Val {
			v, ok := a.(Semver)
			w, ok2 := b.(Semver)
			if !ok || !ok2 {
				return types.MaybeNoSuchOverloadErr(b)
			}
			return result(v.Compare(w))
		})
	}
	two, text, both := []*cel.Type{kind, kind}, []*cel.Type{types.StringType}, []*cel.Type{types.StringType, types.BoolType}
	strict := func(f func(a, b ref.Val) ref.Val) cel.OverloadOpt {
		return cel.UnaryBinding(func(v ref.Val) ref.Val { return f(v, types.False) })
	}
	return []cel.EnvOption{
		cel.Function("semver", cel.Overload("string_to_semver", text, kind, strict(parse)), cel.Overload("string_bool_to_semver", both, kind, cel.BinaryBinding(parse))),
		cel.Function("isSemver", cel.Overload("is_semver_string", text, types.BoolType, strict(is)), cel.Overload("is_semver_string_bool", both, types.BoolType, cel.BinaryBinding(is))),
		number("major", func(v Semver) uint64 { return v.Major }),
		number("minor", func(v Semver) uint64 { return v.Minor }),
		number("patch", func(v Semver) uint64 { return v.Patch }),
		cel.Function("isLessThan", cel.MemberOverload("semver_is_less_than", two, types.BoolType, compare(func(c int) ref.Val { return types.Bool(c < 0) }))),
		cel.Function("isGreaterThan", cel.MemberOverload("semver_is_greater_than", two, types.BoolType, compare(func(c int) ref.Val { return types.Bool(c > 0) }))),
		cel.Function("compareTo", cel.MemberOverload("semver_compare_to", two, types.IntType, compare(func(c int) ref.Val { return types.Int(c) }))),
	}
}
