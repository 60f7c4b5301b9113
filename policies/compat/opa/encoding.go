package opa

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
)

func encodingBuiltins() map[string]builtin {
	return map[string]builtin{
		"base64url.encode_no_pad": ofStrings(1, func(s []string) (term, error) {
			return base64.RawURLEncoding.EncodeToString([]byte(s[0])), nil
		}),
		"hex.encode": ofStrings(1, func(s []string) (term, error) { return hex.EncodeToString([]byte(s[0])), nil }),
		"hex.decode": ofStrings(1, func(s []string) (term, error) {
			b, err := hex.DecodeString(s[0])
			return string(b), err
		}),
		"urlquery.encode": ofStrings(1, func(s []string) (term, error) { return url.QueryEscape(s[0]), nil }),
		"urlquery.decode": ofStrings(1, func(s []string) (term, error) {
			out, err := url.QueryUnescape(s[0])
			return out, err
		}),
		"urlquery.encode_object":    arity(1, encodeQuery),
		"urlquery.decode_object":    ofStrings(1, decodeQuery),
		"json.is_valid":             whether(func(s string) bool { return json.Valid([]byte(s)) }),
		"json.marshal_with_options": arity(2, marshalWithOptions),
	}
}

func encodeQuery(_ *evaluation, args []term) (term, error) {
	o, err := operand[object](args, 0)
	if err != nil {
		return nil, err
	}
	query := url.Values{}
	for _, p := range o {
		key, ok := p.key.(string)
		if !ok {
			key = text(p.key)
		}
		list, err := words([]term{p.value}, 0)
		if err != nil {
			return nil, errors.New("values must be string, array[string], or set[string]")
		}
		query[key] = append(query[key], list...)
	}
	return query.Encode(), nil
}

func decodeQuery(s []string) (term, error) {
	query, err := url.ParseQuery(s[0])
	if err != nil {
		return nil, err
	}
	var pairs []pair
	for k, v := range query {
		pairs = append(pairs, pair{k, stringsOf(v)})
	}
	return newObject(pairs), nil
}

func marshalWithOptions(_ *evaluation, args []term) (term, error) {
	options, err := operand[object](args, 1)
	if err != nil {
		return nil, err
	}
	prefix, indent, implied := "", "\t", false
	var pretty *bool
	for _, p := range options {
		s, isString := p.value.(string)
		switch b, isBool := p.value.(bool); {
		case p.key == "prefix" && isString:
			prefix, implied = s, true
		case p.key == "indent" && isString:
			indent, implied = s, true
		case p.key == "pretty" && isBool:
			pretty = &b
		default:
			return nil, fmt.Errorf("option %s: unknown, or of another type", text(p.key))
		}
	}
	b, err := json.Marshal(toJSON(args[0]))
	if err != nil {
		return nil, err
	}
	if pretty == nil {
		pretty = &implied
	}
	if !*pretty {
		return string(b), nil
	}
	if (len(prefix)+len(indent)+1)*len(b) > maxResult {
		return nil, errTooLarge
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, prefix, indent); err != nil {
		return nil, err
	}
	return prefix + out.String(), nil
}
