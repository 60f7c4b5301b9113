// Command policypeers is the peers of the table policies: the label policy as a CEL expression and as a Rego rule, each
// prepared beforehand and evaluated over an object that is decoded already. It has a module of its own so that its
// requirements change nothing that is measured.
//
// It prints a JSON object: microseconds by name.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"slices"
	"time"

	"cel.dev/cel-go/cel"
	"github.com/open-policy-agent/opa/v1/rego"
)

func main() {
	var object map[string]any
	err := json.Unmarshal([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"shop","labels":{"app":"web","owner":"jane","tier":"front"}},"spec":{"containers":[{"name":"web","image":"registry.example.com/web:1"}]}}`), &object)
	if err != nil {
		log.Fatal(err)
	}
	r := map[string]float64{}
	for name, prepare := range map[string]func(map[string]any) (func() error, error){"cel": celLabel, "opa": opaLabel} {
		call, err := prepare(object)
		if err != nil {
			log.Fatalf("%s: %v", name, err)
		}
		took, err := timed(call)
		if err != nil {
			log.Fatalf("%s: %v", name, err)
		}
		r[name+"/p50"], r[name+"/p99"] = took[len(took)/2], took[len(took)*99/100]
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}

var errRefused = errors.New("the object was refused")

func celLabel(object map[string]any) (func() error, error) {
	env, err := cel.NewEnv(cel.Variable("object", cel.DynType))
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(`has(object.metadata.labels) && "owner" in object.metadata.labels`)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	program, err := env.Program(ast)
	if err != nil {
		return nil, err
	}
	return func() error {
		v, _, err := program.Eval(map[string]any{"object": object})
		if err == nil && v.Value() != true {
			err = errRefused
		}
		return err
	}, nil
}

func opaLabel(object map[string]any) (func() error, error) {
	ctx := context.Background()
	query, err := rego.New(rego.Query("data.labels.deny"), rego.Module("labels.rego", `package labels

deny contains msg if {
	not input.request.object.metadata.labels.owner
	msg := "missing required labels: owner"
}
`)).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	input := map[string]any{"request": map[string]any{"operation": "CREATE", "object": object}}
	return func() error {
		results, err := query.Eval(ctx, rego.EvalInput(input))
		if err == nil && (len(results) != 1 || len(results[0].Expressions[0].Value.([]any)) != 0) {
			err = errRefused
		}
		return err
	}, nil
}

// timed returns sorted durations in microseconds, of about three seconds.
func timed(fn func() error) ([]float64, error) {
	var took []float64
	for begin := time.Now(); time.Since(begin) < 3*time.Second; {
		start := time.Now()
		if err := fn(); err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(start).Nanoseconds())/1000)
	}
	slices.Sort(took)
	return took, nil
}
