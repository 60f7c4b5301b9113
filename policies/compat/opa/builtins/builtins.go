// Package builtins has all of OPA's built-in functions, for the adapter policies/compat/opa:
//
//	opa.New(opa.Config{Builtins: builtins.Lookup})
//
// It is a module of its own, since it links OPA, and it knows nothing of the adapter: functions take and return Rego
// terms as text.
package builtins

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
	opabuiltins "github.com/open-policy-agent/opa/v1/topdown/builtins"
)

// Lookup gives a function by its name in Rego; nil if OPA has none. What it returns may be called by several
// goroutines at once. No result is undefined; an error makes the expression undefined.
//
// Functions that reach the network (http.send, net.lookup_ip_addr) do so: the adapter asks for them only for policies
// that are granted them.
func Lookup(name string) func(ctx context.Context, args [][]byte) ([]byte, error) {
	f := topdown.GetBuiltin(name)
	if f == nil {
		return nil
	}
	return func(ctx context.Context, args [][]byte) ([]byte, error) {
		operands := make([]*ast.Term, len(args))
		for i, a := range args {
			var err error
			if operands[i], err = ast.ParseTerm(string(a)); err != nil {
				return nil, fmt.Errorf("operand %d of %s: %w", i+1, name, err)
			}
		}
		cancel := topdown.NewCancel()
		stop := context.AfterFunc(ctx, cancel.Cancel)
		defer stop()
		bctx := topdown.BuiltinContext{
			Context: ctx,
			Cancel:  cancel,
			Time:    ast.NumberTerm(json.Number(strconv.FormatInt(time.Now().UnixNano(), 10))),
			Metrics: metrics.New(),
			Cache:   opabuiltins.Cache{},
			Seed:    rand.New(rand.NewSource(1)), // the same for every call: decisions must not differ by replica
		}
		var out []byte
		err := f(bctx, operands, func(t *ast.Term) error {
			if t != nil {
				out = appendTerm(nil, t)
			}
			return nil
		})
		return out, err
	}
}

// appendTerm writes a term as the adapter reads it: JSON, with sets as {1, 2} and set().
func appendTerm(b []byte, t *ast.Term) []byte {
	list := func(open string, n int, shut string, item func(i int)) {
		b = append(b, open...)
		for i := range n {
			if i > 0 {
				b = append(b, ", "...)
			}
			item(i)
		}
		b = append(b, shut...)
	}
	switch v := t.Value.(type) {
	case ast.String:
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(string(v)) // a string can't fail
		b = append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
	case *ast.Array:
		list("[", v.Len(), "]", func(i int) { b = appendTerm(b, v.Elem(i)) })
	case ast.Set:
		if v.Len() == 0 {
			return append(b, "set()"...)
		}
		elems := v.Slice()
		list("{", len(elems), "}", func(i int) { b = appendTerm(b, elems[i]) })
	case ast.Object:
		keys := v.Keys()
		list("{", len(keys), "}", func(i int) {
			b = append(appendTerm(b, keys[i]), ": "...)
			b = appendTerm(b, v.Get(keys[i]))
		})
	default:
		b = append(b, v.String()...)
	}
	return b
}
