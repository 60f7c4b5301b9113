package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// Labels is a label selector.
type Labels []requirement

type requirement struct {
	key    string
	values []string
	op     string // "=", "!=", "exists", "absent"
}

// ParseLabels reads what kubectl takes: a=b, a==b, a!=b, a in (b,c), a notin (b,c), a, !a.
func ParseLabels(s string) (Labels, error) {
	var out Labels
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		end, depth := len(s), 0
		for i, c := range s {
			if c == '(' {
				depth++
			} else if c == ')' {
				depth--
			} else if c == ',' && depth == 0 {
				end = i
				break
			}
		}
		r, err := parseRequirement(strings.TrimSpace(s[:end]))
		if err != nil {
			return nil, err
		}
		out = append(out, r)
		s = strings.TrimPrefix(s[end:], ",")
	}
	return out, nil
}

func parseRequirement(s string) (requirement, error) {
	if list, ok := strings.CutSuffix(s, ")"); ok {
		head, values, ok := strings.Cut(list, "(")
		words := strings.Fields(head)
		if ok && len(words) == 2 && (words[1] == "in" || words[1] == "notin") {
			r := requirement{key: words[0], op: map[string]string{"in": "=", "notin": "!="}[words[1]]}
			for _, v := range strings.Split(values, ",") {
				r.values = append(r.values, strings.TrimSpace(v))
			}
			return r, nil
		}
	} else if key, value, ok := strings.Cut(s, "!="); ok {
		return requirement{strings.TrimSpace(key), []string{strings.TrimSpace(value)}, "!="}, nil
	} else if key, value, ok := strings.Cut(s, "="); ok {
		return requirement{strings.TrimSpace(key), []string{strings.TrimSpace(strings.TrimPrefix(value, "="))}, "="}, nil
	} else if key, ok := strings.CutPrefix(s, "!"); ok && !strings.ContainsAny(key, " ()") {
		return requirement{key: key, op: "absent"}, nil
	} else if s != "" && !strings.ContainsAny(s, " ()<>") {
		return requirement{key: s, op: "exists"}, nil
	}
	return requirement{}, fmt.Errorf("selector %q can't be read", s)
}

// Matches says whether an object with these labels is selected.
func (l Labels) Matches(labels map[string]string) bool {
	for _, r := range l {
		v, has := labels[r.key]
		var ok bool
		switch r.op {
		case "exists":
			ok = has
		case "absent":
			ok = !has
		case "=":
			ok = has && slices.Contains(r.values, v)
		case "!=":
			ok = !has || !slices.Contains(r.values, v)
		}
		if !ok {
			return false
		}
	}
	return true
}

// fields is a field selector: paths and the values that they must have, or must not.
type fields []requirement

func parseFields(s string) (fields, error) {
	var out fields
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		r, err := parseRequirement(part)
		if err != nil || r.op != "=" && r.op != "!=" || len(r.values) != 1 {
			return nil, fmt.Errorf("field selector %q can't be read", part)
		}
		out = append(out, r)
	}
	return out, nil
}

func (f fields) match(object map[string]any) bool {
	for _, r := range f {
		var at any = object
		for step := range strings.SplitSeq(r.key, ".") {
			m, _ := at.(map[string]any)
			at = m[step]
		}
		value := ""
		if at != nil {
			value = fmt.Sprint(at)
		}
		if (value == r.values[0]) != (r.op == "=") {
			return false
		}
	}
	return true
}
