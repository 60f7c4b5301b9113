package opa

import (
	"fmt"
	"net"
)

func netBuiltins() map[string]builtin {
	return map[string]builtin{
		"net.cidr_is_valid": whether(func(s string) bool { _, _, err := net.ParseCIDR(s); return err == nil }),
		"net.cidr_expand":   ofStrings(1, expand),
		"net.cidr_contains_matches": arity(2, func(_ *evaluation, args []term) (term, error) {
			return containsMatches(args[0], args[1])
		}),
	}
}

func expand(s []string) (term, error) {
	ip, network, err := net.ParseCIDR(s[0])
	if err != nil {
		return nil, err
	}
	ones, bits := network.Mask.Size()
	if bits-ones > 16 {
		return nil, errTooLarge
	}
	out := make([]term, 0, 1<<(bits-ones))
	for ip = ip.Mask(network.Mask); network.Contains(ip); {
		out = append(out, ip.String())
		i := len(ip) - 1
		for ; i >= 0; i-- {
			if ip[i]++; ip[i] != 0 {
				break
			}
		}
		if i < 0 {
			break
		}
	}
	return newSet(out), nil
}

// indexed is a network or an address, and what names it in the result.
type indexed struct{ cidr, index term }

func networks(t term) ([]indexed, error) {
	var out []indexed
	add := func(cidr, index term) error {
		if list, ok := cidr.(array); ok && len(list) > 0 {
			cidr = list[0]
		}
		if _, ok := cidr.(string); !ok {
			return fmt.Errorf("element must be string or non-empty array")
		}
		out = append(out, indexed{cidr, index})
		return nil
	}
	switch t := t.(type) {
	case string:
		return []indexed{{t, t}}, nil
	case array:
		for i, e := range t {
			if err := add(e, number(int64(i))); err != nil {
				return nil, err
			}
		}
	case set:
		for _, e := range t {
			if err := add(e, e); err != nil {
				return nil, err
			}
		}
	case object:
		for _, p := range t {
			if err := add(p.value, p.key); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func containsMatches(a, b term) (term, error) {
	outer, err := networks(a)
	if err != nil {
		return nil, err
	}
	inner, err := networks(b)
	if err != nil {
		return nil, err
	}
	if len(outer)*len(inner) > 1<<18 {
		return nil, errTooLarge
	}
	out := []term{}
	for _, o := range outer {
		for _, i := range inner {
			ok, err := contains(o.cidr.(string), i.cidr.(string))
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, array{o.index, i.index})
			}
		}
	}
	return newSet(out), nil
}

// contains says whether a network contains an address or all of another network.
func contains(a, b string) (bool, error) {
	_, outer, err := net.ParseCIDR(a)
	if err != nil {
		return false, err
	}
	if ip := net.ParseIP(b); ip != nil {
		return outer.Contains(ip), nil
	}
	_, inner, err := net.ParseCIDR(b)
	if err != nil {
		return false, err
	}
	last := append(net.IP{}, inner.IP...)
	for i := range last {
		last[i] |= ^inner.Mask[i]
	}
	return outer.Contains(inner.IP) && outer.Contains(last), nil
}
