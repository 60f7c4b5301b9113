package scheduler

import (
	"fmt"
	"slices"
	"strings"
)

// FitError says why no node can hold a pod.
type FitError struct {
	Nodes   int            // how many there are
	Reasons map[string]int // how many of them gave each reason
	// Plugins are those that refused a node. What may help them decides when the pod is tried again.
	Plugins map[string]bool
	// Refusal is why no node will do, whatever it is; "": each has its own reasons.
	Refusal string
	// Preemption says why no node can be cleared for the pod, "" when one is.
	Preemption string
	// Policy is what policies say to that.
	Policy string
	// Nearest is the node that would do if it had a little more, as "short of 1 nvidia.com/gpu on node-7"; "" if none would.
	Nearest string
}

// Error reads as kube-scheduler's message, its reasons ordered by count, most frequent first.
func (e *FitError) Error() string {
	if e.Nodes == 0 {
		return e.with("no nodes available to schedule pods")
	}
	if e.Refusal != "" {
		return e.with(fmt.Sprintf("0/%d nodes are available: %s.", e.Nodes, e.Refusal))
	}
	reasons := e.byCount()
	for i, reason := range reasons {
		n := e.Reasons[reason]
		if n == 1 && strings.HasPrefix(reason, "nodes ") {
			reason = "node" + reason[len("nodes"):]
		}
		reasons[i] = fmt.Sprintf("%d %s", n, reason)
	}
	return e.with(fmt.Sprintf("0/%d nodes are available: %s.", e.Nodes, strings.Join(reasons, ", ")))
}

// byCount are the reasons, most frequent first.
func (e *FitError) byCount() []string {
	reasons := make([]string, 0, len(e.Reasons))
	for reason := range e.Reasons {
		reasons = append(reasons, reason)
	}
	slices.SortFunc(reasons, func(a, b string) int {
		if e.Reasons[a] != e.Reasons[b] {
			return e.Reasons[b] - e.Reasons[a]
		}
		return strings.Compare(a, b)
	})
	return reasons
}

func (e *FitError) with(message string) string {
	for _, more := range []string{e.Preemption, e.Policy} {
		if more != "" {
			message += " " + more
		}
	}
	if e.Nearest != "" {
		message += " Nearest: " + e.Nearest + "."
	}
	return message
}
