package kubescheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// cycle is what one instance's host functions know while a pod is being placed. The guest's own cycle state lives in
// the guest; prefilter forgets it.
type cycle struct {
	e     *evaluator
	run   *placing // nil outside Place
	known *known

	node   string // that is being looked at
	row    uint32
	passed []int // candidates that are scored

	waiting []abi.Waiting // in Permit
	reject  []string

	// What the guest says.
	reason       string
	names        map[string]bool // nil: all
	normalized   map[string]int32
	nominated    string
	readFiltered bool
	scores       []int32
}

func (c *cycle) begin(run *placing, k *known) {
	*c = cycle{e: c.e, run: run, known: k}
}

// call asks an extension point.
func (c *cycle) call(ctx context.Context, in *guest.Instance, point string) (uint64, error) {
	c.reason = ""
	v, err := in.Call(ctx, point)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", point, err)
	}
	return v, nil
}

// status asks an extension point that answers with a status alone. One that the module lacks succeeds.
func (c *cycle) status(ctx context.Context, in *guest.Instance, point string) (int32, error) {
	if !c.e.has[point] {
		return success, nil
	}
	v, err := c.call(ctx, in, point)
	return int32(uint32(v)), err
}

// prefilter begins the guest's cycle, and says whether filter is to be asked. A refusal of the pod refuses every node.
func (c *cycle) prefilter(ctx context.Context, in *guest.Instance) (more bool, err error) {
	c.names = nil
	code, err := c.status(ctx, in, "prefilter")
	switch {
	case err != nil:
		return false, err
	case code == success:
		return true, nil
	case code == skip:
		return false, nil
	case !refuses(code):
		return false, statusError("prefilter", code, c.reason)
	}
	if c.run != nil {
		v := c.run.reason(c.reason, "pod was refused before any node was looked at")
		for i := range c.run.Verdicts {
			c.run.Verdicts[i], c.run.codes[i] = v, code
		}
	}
	return false, nil
}

// ask asks an extension point about a candidate.
func (c *cycle) ask(ctx context.Context, in *guest.Instance, point string, candidate int) (uint64, error) {
	if !c.e.has[point] {
		return 0, nil
	}
	c.row = c.run.Rows[candidate]
	c.node = c.run.Nodes.Name(c.row)
	return c.call(ctx, in, point)
}

// filter fills the verdicts of some candidates.
func (c *cycle) filter(ctx context.Context, in *guest.Instance, from, to int) error {
	run := c.run
	for i := from; i < to; i++ {
		if c.names != nil && !c.names[run.Nodes.Name(run.Rows[i])] {
			run.Verdicts[i] = run.reason("", "node is filtered out by the prefilter result")
			run.codes[i] = unresolvable
			continue
		}
		v, err := c.ask(ctx, in, "filter", i)
		if err != nil {
			return err
		}
		switch code := int32(uint32(v)); {
		case code == success:
			run.Verdicts[i], run.codes[i] = 0, code
		case refuses(code):
			run.Verdicts[i], run.codes[i] = run.reason(c.reason, "node(s) were refused by the policy"), code
		default:
			return statusError("filter", code, c.reason)
		}
	}
	return nil
}

// prescore says whether score is to be asked.
func (c *cycle) prescore(ctx context.Context, in *guest.Instance) (more bool, err error) {
	code, err := c.status(ctx, in, "prescore")
	if err == nil && code != success && code != skip {
		err = statusError("prescore", code, c.reason)
	}
	return code == success, err
}

// score fills the scores of some of those that passed.
func (c *cycle) score(ctx context.Context, in *guest.Instance, from, to int) error {
	for i := from; i < to; i++ {
		if n := i - from; n > 0 && n%chunk == 0 {
			in.Renew()
		}
		v, err := c.ask(ctx, in, "score", c.passed[i])
		if err != nil {
			return err
		}
		if code := int32(uint32(v)); code != success {
			return statusError("score", code, c.reason)
		}
		c.scores[i] = int32(uint32(v >> 32))
	}
	return nil
}

// normalize lets the guest put all scores into proportion. A guest that sets none leaves them as they are.
func (c *cycle) normalize(ctx context.Context, in *guest.Instance) error {
	c.normalized = nil
	code, err := c.status(ctx, in, "normalizescore")
	if err != nil {
		return err
	}
	if code != success {
		return statusError("normalizescore", code, c.reason)
	}
	if len(c.normalized) == 0 {
		return nil
	}
	for i, at := range c.passed {
		name := c.run.Nodes.Name(c.run.Rows[at])
		score, ok := c.normalized[name]
		if !ok {
			return fmt.Errorf("normalizescore answers without a score for node %s", name)
		}
		c.scores[i] = score
	}
	return nil
}

// scoreList is the scores by node, as JSON.
func (c *cycle) scoreList() []byte {
	b := []byte{'{'}
	for i, at := range c.passed {
		if i >= len(c.scores) {
			break
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(quoted(b, c.run.Nodes.Name(c.run.Rows[at])), ':')
		b = strconv.AppendInt(b, int64(c.scores[i]), 10)
	}
	return append(b, '}')
}

// statusMap is filter's answers by node, as JSON.
func (run *placing) statusMap() []byte {
	b := []byte{'{'}
	for i, row := range run.Rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(quoted(b, run.Nodes.Name(row)), ':')
		b = strconv.AppendInt(b, int64(run.codes[i]), 10)
	}
	return append(b, '}')
}

// filteredNames is the names of the nodes that are scored, as JSON.
func (c *cycle) filteredNames() []byte {
	if c.run == nil {
		return append(quoted([]byte{'['}, c.node), ']')
	}
	if c.run.filtered == nil {
		b := []byte{'['}
		for i, at := range c.passed {
			if i > 0 {
				b = append(b, ',')
			}
			b = quoted(b, c.run.Nodes.Name(c.run.Rows[at]))
		}
		c.run.filtered = append(b, ']')
	}
	return c.run.filtered
}

func quoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			q, _ := json.Marshal(s)
			return append(b, q...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
