package devicecel

import (
	"fmt"
	"math"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Quantity is a quantity as a CEL value.
type Quantity struct{ resource.Quantity }

func quantityType() *cel.Type { return cel.ObjectType("kubernetes.Quantity") }

// ConvertToNative implements ref.Val, as do the methods below.
func (q Quantity) ConvertToNative(t reflect.Type) (any, error) {
	if t.Kind() == reflect.String {
		return q.String(), nil
	}
	return nil, fmt.Errorf("a quantity is no %v", t)
}
func (q Quantity) ConvertToType(t ref.Type) ref.Val {
	switch t.TypeName() {
	case quantityType().TypeName():
		return q
	case types.TypeType.TypeName():
		return quantityType()
	}
	return types.NewErr("type conversion error from 'Quantity' to '%s'", t.TypeName())
}
func (q Quantity) Equal(other ref.Val) ref.Val {
	o, ok := other.(Quantity)
	return types.Bool(ok && q.Cmp(o.Quantity) == 0)
}
func (q Quantity) Type() ref.Type { return quantityType() }
func (q Quantity) Value() any     { return q }

func quantityFunctions() []cel.EnvOption {
	kind := quantityType()
	unary := func(f func(Quantity) ref.Val) cel.OverloadOpt {
		return cel.UnaryBinding(func(v ref.Val) ref.Val {
			if q, ok := v.(Quantity); ok {
				return f(q)
			}
			return types.MaybeNoSuchOverloadErr(v)
		})
	}
	// binary takes a quantity or a whole number on the right.
	binary := func(f func(a, b resource.Quantity) ref.Val) cel.OverloadOpt {
		return cel.BinaryBinding(func(v, w ref.Val) ref.Val {
			a, ok := v.(Quantity)
			if !ok {
				return types.MaybeNoSuchOverloadErr(v)
			}
			switch b := w.(type) {
			case Quantity:
				return f(a.Quantity, b.Quantity)
			case types.Int:
				return f(a.Quantity, *resource.NewQuantity(int64(b), resource.DecimalExponent))
			}
			return types.MaybeNoSuchOverloadErr(w)
		})
	}
	parse := func(v ref.Val) ref.Val {
		s, ok := v.(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(v)
		}
		q, err := resource.ParseQuantity(string(s))
		if err != nil {
			return types.WrapErr(err)
		}
		return Quantity{q}
	}
	sum := func(sign int) cel.OverloadOpt {
		return binary(func(a, b resource.Quantity) ref.Val {
			out := a.DeepCopy()
			if sign < 0 {
				out.Sub(b)
			} else {
				out.Add(b)
			}
			return Quantity{out}
		})
	}
	one, two, number, text := []*cel.Type{kind}, []*cel.Type{kind, kind}, []*cel.Type{kind, types.IntType}, []*cel.Type{types.StringType}
	return []cel.EnvOption{
		cel.Function("quantity", cel.Overload("string_to_quantity", text, kind, cel.UnaryBinding(parse))),
		cel.Function("isQuantity", cel.Overload("is_quantity_string", text, types.BoolType, cel.UnaryBinding(func(v ref.Val) ref.Val {
			return types.Bool(!types.IsError(parse(v)))
		}))),
		cel.Function("sign", cel.MemberOverload("quantity_sign", one, types.IntType, unary(func(q Quantity) ref.Val { return types.Int(q.Sign()) }))),
		cel.Function("isInteger", cel.MemberOverload("quantity_is_integer", one, types.BoolType, unary(func(q Quantity) ref.Val {
			_, ok := q.AsInt64()
			return types.Bool(ok)
		}))),
		cel.Function("asInteger", cel.MemberOverload("quantity_get_int", one, types.IntType, unary(func(q Quantity) ref.Val {
			if n, ok := q.AsInt64(); ok {
				return types.Int(n)
			}
			return types.NewErr("cannot convert value to integer")
		}))),
		cel.Function("asApproximateFloat", cel.MemberOverload("quantity_get_float", one, types.DoubleType, unary(func(q Quantity) ref.Val {
			f := q.AsApproximateFloat64()
			if math.IsInf(f, 0) || math.IsNaN(f) {
				return types.NewErr("cannot convert value to float")
			}
			return types.Double(f)
		}))),
		cel.Function("add", cel.MemberOverload("quantity_add", two, kind, sum(1)), cel.MemberOverload("quantity_add_int", number, kind, sum(1))),
		cel.Function("sub", cel.MemberOverload("quantity_sub", two, kind, sum(-1)), cel.MemberOverload("quantity_sub_int", number, kind, sum(-1))),
		cel.Function("isLessThan", cel.MemberOverload("quantity_is_less_than", two, types.BoolType, binary(func(a, b resource.Quantity) ref.Val { return types.Bool(a.Cmp(b) < 0) }))),
		cel.Function("isGreaterThan", cel.MemberOverload("quantity_is_greater_than", two, types.BoolType, binary(func(a, b resource.Quantity) ref.Val { return types.Bool(a.Cmp(b) > 0) }))),
		cel.Function("compareTo", cel.MemberOverload("quantity_compare_to", two, types.IntType, binary(func(a, b resource.Quantity) ref.Val { return types.Int(a.Cmp(b)) }))),
	}
}
