package opa

import (
	"errors"
	"fmt"
	"slices"
)

func objectBuiltins() map[string]builtin {
	return map[string]builtin{
		"json.patch":     arity(2, patch),
		"object.keys":    arity(1, keys),
		"object.subset":  arity(2, subset),
		"object.union_n": arity(1, unionN),
		"array.reverse":  arity(1, reverseArray),
	}
}

func keys(_ *evaluation, args []term) (term, error) {
	o, err := operand[object](args, 0)
	if err != nil {
		return nil, err
	}
	out := make(set, len(o))
	for i, p := range o {
		out[i] = p.key
	}
	return out, nil
}

func reverseArray(_ *evaluation, args []term) (term, error) {
	a, err := operand[array](args, 0)
	if err != nil {
		return nil, err
	}
	a = slices.Clone(a)
	slices.Reverse(a)
	return a, nil
}

// subset says whether the second lies within the first: objects by keys, sets by elements, arrays as a run; a set
// lies within an array when each of its elements does.
func subset(_ *evaluation, args []term) (term, error) {
	switch super := args[0].(type) {
	case object:
		if sub, ok := args[1].(object); ok {
			return within(super, sub), nil
		}
	case set:
		if sub, ok := args[1].(set); ok {
			return withinSet(super, sub), nil
		}
	case array:
		switch sub := args[1].(type) {
		case array:
			return withinArray(super, sub), nil
		case set:
			return withinSet(newSet(slices.Clone(super)), sub), nil
		}
	}
	return nil, errors.New("both arguments object.subset must be of the same type or array and set")
}

func within(super, sub object) bool {
	for _, p := range sub {
		v, ok := super.get(p.key)
		if !ok {
			return false
		}
		switch w := p.value.(type) {
		case object:
			if v, ok := v.(object); ok {
				if !within(v, w) {
					return false
				}
				continue
			}
		case set:
			if v, ok := v.(set); ok {
				if !withinSet(v, w) {
					return false
				}
				continue
			}
		case array:
			if v, ok := v.(array); ok {
				if !withinArray(v, w) {
					return false
				}
				continue
			}
		}
		if compare(v, p.value) != 0 {
			return false
		}
	}
	return true
}

func withinSet(super, sub set) bool {
	for _, e := range sub {
		if _, ok := super.find(e); !ok {
			return false
		}
	}
	return true
}

func withinArray(super, sub array) bool {
	if len(sub)*len(super) > 1<<22 {
		return false
	}
	for i := 0; i+len(sub) <= len(super); i++ {
		if slices.EqualFunc(super[i:i+len(sub)], sub, func(a, b term) bool { return compare(a, b) == 0 }) {
			return true
		}
	}
	return false
}

func unionN(_ *evaluation, args []term) (term, error) {
	list, err := operand[array](args, 0)
	if err != nil {
		return nil, err
	}
	out := object{}
	for _, t := range list {
		o, ok := t.(object)
		if !ok {
			return nil, errors.New("operand 1 must be array of objects")
		}
		out = merge(out, o)
	}
	return out, nil
}

// merge lets what is in b win, and merges where both have an object.
func merge(a, b object) object {
	pairs := slices.Clone(a)
	for _, p := range b {
		if old, ok := a.get(p.key); ok {
			o, isObject := old.(object)
			if q, ok := p.value.(object); ok && isObject {
				p.value = merge(o, q)
			}
		}
		pairs = append(pairs, p)
	}
	return newObject(pairs)
}

// patch is json.patch: RFC 6902, where a path may also be an array of keys, and sets are reached by their elements.
func patch(_ *evaluation, args []term) (term, error) {
	operations, err := operand[array](args, 1)
	if err != nil {
		return nil, err
	}
	target := args[0]
	for _, t := range operations {
		o, ok := t.(object)
		if !ok {
			return nil, errors.New("an operation must be an object")
		}
		if target, err = applyOperation(target, o); err != nil {
			return nil, err
		}
	}
	return target, nil
}

func applyOperation(target term, o object) (term, error) {
	path, err := attributePath(o, "path")
	if err != nil {
		return nil, err
	}
	op, _ := o.get("op")
	value, hasValue := o.get("value")
	switch op {
	case "add", "replace", "test":
		if !hasValue {
			return nil, errors.New("missing 'value' attribute")
		}
	case "move", "copy":
		from, err := attributePath(o, "from")
		if err != nil {
			return nil, err
		}
		if value, err = lookup(target, from); err != nil {
			return nil, err
		}
		if op == "move" {
			if target, err = edit(target, from, nil); err != nil {
				return nil, err
			}
		}
	}
	switch op {
	case "add", "move", "copy":
		return edit(target, path, value)
	case "remove":
		return edit(target, path, nil)
	case "replace":
		if target, err = edit(target, path, nil); err != nil {
			return nil, err
		}
		return edit(target, path, value)
	case "test":
		found, err := lookup(target, path)
		if err == nil && compare(found, value) != 0 {
			err = errors.New("test failed")
		}
		return target, err
	}
	return nil, fmt.Errorf("unrecognized op %s", text(op))
}
