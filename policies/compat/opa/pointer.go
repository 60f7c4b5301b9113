package opa

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// attributePath is a patch's path: a JSON pointer, or an array of keys.
func attributePath(o object, name string) ([]term, error) {
	t, ok := o.get(name)
	if !ok {
		return nil, fmt.Errorf("missing '%s' attribute", name)
	}
	switch t := t.(type) {
	case string:
		if t == "" {
			return nil, nil
		}
		parts := strings.Split(strings.TrimLeft(t, "/"), "/")
		path := make([]term, len(parts))
		for i, s := range parts {
			path[i] = strings.ReplaceAll(strings.ReplaceAll(s, "~1", "/"), "~0", "~")
		}
		return path, nil
	case array:
		return t, nil
	}
	return nil, errors.New("a path must be a string or an array")
}

var errNoPath = errors.New("the path does not exist")

// position is a key as an index into an array of n elements; n itself is behind the last one.
func position(key term, n int) (int, error) {
	s, ok := key.(string)
	if ok && s == "-" {
		return n, nil
	}
	if num, isNumber := key.(json.Number); isNumber {
		s = string(num)
	} else if !ok {
		return 0, errors.New("invalid type for indexing")
	}
	i, isInt := integer(json.Number(s))
	if !isInt || ok && s != "0" && strings.HasPrefix(s, "0") {
		return 0, errors.New("invalid index")
	}
	return i, nil
}

// child finds the value under a key.
func child(t, key term) (term, error) {
	switch t := t.(type) {
	case object:
		if v, ok := t.get(key); ok {
			return v, nil
		}
	case set:
		if _, ok := t.find(key); ok {
			return key, nil
		}
	case array:
		i, err := position(key, len(t))
		if err != nil {
			return nil, err
		}
		if i >= 0 && i < len(t) {
			return t[i], nil
		}
	}
	return nil, errNoPath
}

func lookup(t term, path []term) (term, error) {
	for _, key := range path {
		var err error
		if t, err = child(t, key); err != nil {
			return nil, err
		}
	}
	if t == nil {
		return nil, errNoPath
	}
	return t, nil
}

// edit puts value where path leads, or removes what is there when value is nil. It changes nothing: what differs is
// made anew. The document itself, removed, is nil.
func edit(t term, path []term, value term) (term, error) {
	if len(path) == 0 {
		if t == nil && value == nil {
			return nil, errNoPath
		}
		return value, nil
	}
	key := path[0]
	if len(path) > 1 {
		old, err := child(t, key)
		if err != nil {
			return nil, err
		}
		changed, err := edit(old, path[1:], value)
		if err != nil {
			return nil, err
		}
		return replace(t, key, changed), nil
	}
	switch t := t.(type) {
	case object:
		if value != nil {
			return replace(t, key, value), nil
		}
		if i, ok := t.find(key); ok {
			return slices.Delete(slices.Clone(t), i, i+1), nil
		}
	case set:
		if value != nil {
			if compare(key, value) != 0 {
				return nil, errors.New("a set's key is the element itself")
			}
			return newSet(append(slices.Clone(t), value)), nil
		}
		if i, ok := t.find(key); ok {
			return slices.Delete(slices.Clone(t), i, i+1), nil
		}
	case array:
		i, err := position(key, len(t))
		if err != nil {
			return nil, err
		}
		if value != nil && i >= 0 && i <= len(t) {
			return slices.Insert(slices.Clone(t), i, value), nil
		}
		if value == nil && i >= 0 && i < len(t) {
			return slices.Delete(slices.Clone(t), i, i+1), nil
		}
	}
	return nil, errNoPath
}

// replace puts value in the place of what is under key; an object may lack it.
func replace(t, key, value term) term {
	switch t := t.(type) {
	case object:
		i, ok := t.find(key)
		if !ok {
			return object(slices.Insert(slices.Clone(t), i, pair{key, value}))
		}
		t = slices.Clone(t)
		t[i].value = value
		return t
	case set:
		i, _ := t.find(key)
		return newSet(append(slices.Delete(slices.Clone(t), i, i+1), value))
	case array:
		i, _ := position(key, len(t))
		t = slices.Clone(t)
		t[i] = value
		return t
	}
	return t
}
