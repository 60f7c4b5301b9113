package devicecel

import (
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
	resourcev1 "k8s.io/api/resource/v1"
)

// Selector is a compiled expression.
type Selector struct {
	expression string
	program    cel.Program
}

// environment is made once, and must not be changed.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	base, err := cel.NewEnv(cel.DefaultUTCTimeZone(true), cel.CrossTypeNumericComparisons(true), cel.OptionalTypes(),
		ext.Strings(ext.StringsVersion(2)), ext.Sets(), ext.Bindings(ext.BindingsVersion(0)))
	if err != nil {
		return nil, err
	}
	options := []cel.EnvOption{cel.CustomTypeProvider(provider{base.CELTypeProvider()}), cel.Variable("device", deviceType())}
	options = append(options, semverFunctions()...)
	return base.Extend(append(options, quantityFunctions()...)...)
})

// Compile checks an expression: it must be of type bool.
func Compile(expression string) (*Selector, error) {
	if len(expression) > resourcev1.CELSelectorExpressionMaxLength {
		return nil, fmt.Errorf("must have at most %d bytes", resourcev1.CELSelectorExpressionMaxLength)
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("make the CEL environment: %w", err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, fmt.Errorf("compilation failed: %w", issues.Err())
	}
	if kind := ast.OutputType(); !kind.IsExactType(types.BoolType) && !kind.IsExactType(types.DynType) {
		return nil, fmt.Errorf("must evaluate to bool, not to %s", kind)
	}
	program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(resourcev1.CELSelectorExpressionMaxCost))
	if err != nil {
		return nil, fmt.Errorf("make a program: %w", err)
	}
	return &Selector{expression: expression, program: program}, nil
}

// String is the expression.
func (s *Selector) String() string { return s.expression }

// Matches evaluates the expression on a device.
func (s *Selector) Matches(d *Device) (bool, error) {
	result, _, err := s.program.Eval(map[string]any{"device": object{d}})
	if err != nil {
		return false, fmt.Errorf("runtime error: %w", err)
	}
	yes, ok := result.Value().(bool)
	if !ok {
		return false, fmt.Errorf("result has type %s, not bool", result.Type().TypeName())
	}
	return yes, nil
}

// cached bounds a Cache.
const cached = 1024

// Cache compiles each expression once. The zero value is ready; safe for concurrent use.
type Cache struct {
	mu  sync.Mutex
	all map[string]compiled
}

type compiled struct {
	selector *Selector
	err      error
}

// Selector is Compile, remembered.
func (c *Cache) Selector(expression string) (*Selector, error) {
	c.mu.Lock()
	have, ok := c.all[expression]
	c.mu.Unlock()
	if ok {
		return have.selector, have.err
	}
	have.selector, have.err = Compile(expression)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil || len(c.all) >= cached {
		c.all = map[string]compiled{}
	}
	c.all[expression] = have
	return have.selector, have.err
}
