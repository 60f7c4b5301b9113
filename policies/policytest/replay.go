package policytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/abi"
)

// Decision is what a policy decided about a request.
type Decision struct {
	Request Request
	Err     error                  // the policy failed
	Admit   *abi.AdmissionResponse // of an admission policy
	Nodes   []NodeDecision         // of a scheduling policy, in the order of the candidates
	Spent   abi.Spent
}

// NodeDecision is what a scheduling policy decided about a node.
type NodeDecision struct {
	Node   string
	Reason string // why it is refused; empty: it passes
	Score  int32
}

// Decide asks one policy of a host about one request.
func Decide(ctx context.Context, h *policies.Host, name string, q Request) Decision {
	d := Decision{Request: q}
	if q.Admission != nil {
		d.Admit, d.Spent, d.Err = h.Admit(ctx, name, q.Admission)
		return d
	}
	p := q.Placement
	if d.Spent, d.Err = h.Place(ctx, name, p); d.Err != nil {
		return d
	}
	for i, row := range p.Rows {
		n := NodeDecision{Node: p.Nodes.Name(row), Score: p.Scores[i]}
		if v := p.Verdicts[i]; v != 0 {
			n.Reason = p.Reasons[v-1]
			if n.Reason == "" {
				n.Reason = "refused"
			}
		}
		d.Nodes = append(d.Nodes, n)
	}
	return d
}

// Replay runs a module, as the policy that spec says, on requests, in a host of its own. Requests of the other kind
// are left out. An error means that the module can't be run; a call that failed is a Decision.
func Replay(ctx context.Context, cfg policies.Config, wasm []byte, spec abi.Policy, requests []Request) (decisions []Decision, err error) {
	h, err := policies.New(cfg)
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- h.Run(run) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	if spec.Name == "" {
		spec.Name = "replayed"
	}
	spec.Module = "replayed"
	if _, err := h.Load(ctx, spec.Module, wasm); err != nil {
		return nil, err
	}
	if err := h.Set(ctx, spec); err != nil {
		return nil, err
	}
	for _, q := range requests {
		if (q.Admission != nil) == (spec.Kind == abi.Admission) {
			decisions = append(decisions, Decide(ctx, h, spec.Name, q))
		}
	}
	return decisions, nil
}

// String is the decision for a person, several lines; what it cost isn't part of it.
func (d Decision) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", d.Request.Name)
	switch {
	case d.Err != nil:
		fmt.Fprintf(&b, "FAILED: %v\n", d.Err)
	case d.Admit != nil:
		writeAdmission(&b, d.Admit)
	default:
		passed := 0
		for _, n := range d.Nodes {
			if n.Reason == "" {
				passed++
			}
		}
		fmt.Fprintf(&b, "%d of %d nodes pass\n", passed, len(d.Nodes))
		for _, n := range d.Nodes {
			if n.Reason == "" {
				fmt.Fprintf(&b, "  %s: %d\n", n.Node, n.Score)
			} else {
				fmt.Fprintf(&b, "  %s: refused: %s\n", n.Node, n.Reason)
			}
		}
	}
	return b.String()
}

func writeAdmission(b *strings.Builder, r *abi.AdmissionResponse) {
	if r.Allowed {
		b.WriteString("allowed\n")
	} else {
		code := r.Code
		if code == 0 {
			code = 403
		}
		fmt.Fprintf(b, "refused (%s): %s\n", strings.TrimSpace(fmt.Sprint(code, " ", r.Reason)), r.Message)
	}
	if r.Allowed && r.Message != "" {
		fmt.Fprintf(b, "  message: %s\n", r.Message)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(b, "  warning: %s\n", w)
	}
	for _, a := range r.Audit {
		fmt.Fprintf(b, "  audit: %s=%s\n", a.Key, a.Value)
	}
	if len(r.Patch) > 0 {
		what := map[abi.PatchType]string{abi.JSONPatch: "JSON patch", abi.MergePatch: "merge patch", abi.WholeObject: "object"}[r.PatchType]
		fmt.Fprintf(b, "  %s: %s\n", what, strings.ToValidUTF8(string(r.Patch), "\uFFFD"))
	}
}

// Diff shows the requests about which two runs over the same requests decided differently; empty: about none.
func Diff(before, after []Decision) string {
	var b strings.Builder
	for i := range max(len(before), len(after)) {
		var was, is string
		if i < len(before) {
			was = before[i].String()
		}
		if i < len(after) {
			is = after[i].String()
		}
		if was == is {
			continue
		}
		old, now := strings.Split(strings.TrimSpace(was), "\n"), strings.Split(strings.TrimSpace(is), "\n")
		fmt.Fprintf(&b, "@@ request %d\n", i+1)
		for _, l := range old {
			if !slices.Contains(now, l) {
				fmt.Fprintf(&b, "-%s\n", l)
			}
		}
		for _, l := range now {
			if !slices.Contains(old, l) {
				fmt.Fprintf(&b, "+%s\n", l)
			}
		}
	}
	return b.String()
}
