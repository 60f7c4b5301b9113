package scheduler

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// Explanation is one decision with everything that led to it, to be shown as JSON.
type Explanation struct {
	Pod     string `json:"pod"` // namespace/name
	Profile string `json:"profile"`
	// Node is the decision, Error why there is none.
	Node        string            `json:"node,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Error       string            `json:"error,omitempty"`
	// Group and Queue say what the pod waits for beside a node of its own: its PodGroup, and its namespace's Queue. Nil: it has none.
	Group *GroupExplanation `json:"group,omitempty"`
	Queue *QueueExplanation `json:"queue,omitempty"`
	// Nodes are all nodes, by name: what is said of them is of the pod alone.
	Nodes []NodeExplanation `json:"nodes"`
}

// NodeExplanation is what each plugin says of one node.
type NodeExplanation struct {
	Name string `json:"name"`
	// Refusals are the plugins that refuse it, each with its reasons, in the profile's order: all of them, not only the
	// first, which a pod's event counts. Policies have the name "Policy", a refused reservation "Reserve".
	Refusals []Refusal `json:"refusals,omitempty"`
	// Scores are the plugins' of a node that none refuses, Total their weighted sum.
	Scores []PluginScore `json:"scores,omitempty"`
	Total  int64         `json:"total"`
	Pods   int           `json:"pods"` // fewer of them win a tie, then the name
}

// Refusal is one plugin's.
type Refusal struct {
	Plugin  string   `json:"plugin"`
	Reasons []string `json:"reasons"`
}

// PluginScore is one plugin's score of one node.
type PluginScore struct {
	Plugin string `json:"plugin"`
	Raw    int64  `json:"raw"`
	Score  int64  `json:"score"` // in its range
	Weight int64  `json:"weight"`
}

// Explain makes the decision that Decide would, with what every plugin says of every node. It records nothing.
func (d *Decider) Explain(ctx context.Context, pod *framework.Pod) *Explanation {
	q := &question{profile: d.profile(pod.Spec.SchedulerName), policies: d.policies, pod: pod, s: d.state}
	out := &Explanation{Pod: pod.Namespace + "/" + pod.Name, Profile: q.profile.Name}
	var prepared []framework.Prepared
	for i := range q.profile.Plugins {
		prepared = append(prepared, q.profile.prepare(i, pod, d.state))
	}
	var left []int
	var nodes []*framework.Node
	for at, n := range d.state.Nodes() {
		e := NodeExplanation{Name: n.Name, Pods: len(n.Pods)}
		for i := range prepared {
			if prepared[i].Filter == nil {
				continue
			}
			if reasons := prepared[i].Filter(n); len(reasons) > 0 {
				e.Refusals = append(e.Refusals, Refusal{q.profile.Plugins[i].Name(), reasons})
			}
		}
		out.Nodes = append(out.Nodes, e)
		if len(e.Refusals) == 0 {
			left, nodes = append(left, at), append(nodes, n)
		}
	}
	if said, err := d.policies.ask(ctx, pod, nodes, d.state); err == nil && said != nil {
		kept := 0
		for i, v := range said {
			e := &out.Nodes[left[i]]
			if v.reason != "" {
				e.Refusals = append(e.Refusals, Refusal{policyPlugin, []string{v.reason}})
				continue
			}
			e.Scores = append(e.Scores, PluginScore{policyPlugin, v.score, v.score, 1})
			e.Total += v.score
			left[kept], nodes[kept] = left[i], nodes[i]
			kept++
		}
		left, nodes = left[:kept], nodes[:kept]
	}
	for i := range prepared {
		p := &prepared[i]
		if p.Score == nil || len(nodes) == 0 {
			continue
		}
		raw := make([]int64, len(nodes))
		for j, n := range nodes {
			raw[j] = p.Score(n)
		}
		scores := append([]int64(nil), raw...)
		scale(p, scores)
		for j := range nodes {
			e := &out.Nodes[left[j]]
			e.Scores = append(e.Scores, PluginScore{q.profile.Plugins[i].Name(), raw[j], scores[j], p.Weight})
			e.Total += scores[j] * p.Weight
		}
	}
	decision, err := d.Decide(ctx, pod)
	if err != nil {
		out.Error = err.Error()
	}
	out.Node, out.Annotations = decision.Node, decision.Annotations
	return out
}

// explain counts why the plugins, and Reservers, refuse the nodes: a node counts for the first plugin that refuses it.
func explain(q *question) *FitError {
	nodes := q.s.Nodes()
	out := &FitError{Nodes: len(nodes), Reasons: map[string]int{}, Plugins: map[string]bool{}}
	prepared := make([]framework.Prepared, len(q.profile.Plugins))
	refusals := make([]int, len(prepared))
	for i := range q.profile.Plugins {
		prepared[i] = q.profile.prepare(i, q.pod, q.s)
		if why := prepared[i].Refusal; why != "" && len(nodes) > 0 {
			out.Reasons[why], out.Refusal = len(nodes), why
			out.Plugins[q.profile.Plugins[i].Name()] = true
			return out
		}
	}
	nearest := miss{}
nodes:
	for _, n := range nodes {
		for i := range prepared {
			if prepared[i].Filter == nil {
				continue
			}
			reasons := prepared[i].Filter(n)
			if len(reasons) == 0 {
				continue
			}
			for _, reason := range reasons {
				out.Reasons[reason]++
			}
			refusals[i]++
			if misser, ok := q.profile.Plugins[i].(framework.Misser); ok && len(reasons) == 1 && !refusedBy(prepared[i+1:], n) {
				nearest.consider(misser, q.pod, n)
			}
			continue nodes
		}
		if reason, ok := q.refused[n.Name]; ok {
			out.Reasons[reason]++
			out.Plugins["Reserve"] = true
		}
	}
	for i, count := range refusals {
		if count > 0 {
			out.Plugins[q.profile.Plugins[i].Name()] = true
		}
	}
	out.Nearest = nearest.String()
	return out
}

func refusedBy(prepared []framework.Prepared, n *framework.Node) bool {
	for i := range prepared {
		if prepared[i].Filter != nil && len(prepared[i].Filter(n)) > 0 {
			return true
		}
	}
	return false
}

// miss is the node that would do if it had a little more.
type miss struct {
	node   string
	name   corev1.ResourceName
	amount int64
	share  float64 // of what the pod asks for
}

func (m *miss) consider(misser framework.Misser, pod *framework.Pod, n *framework.Node) {
	name, amount := misser.Missing(pod, n)
	if amount <= 0 {
		return
	}
	share := float64(amount) / float64(max(1, pod.Request.Of(name)))
	if m.node == "" || share < m.share {
		*m = miss{n.Name, name, amount, share}
	}
}

func (m *miss) String() string {
	if m.node == "" {
		return ""
	}
	amount := resource.NewQuantity(m.amount, resource.DecimalSI)
	switch m.name {
	case corev1.ResourceCPU:
		amount = resource.NewMilliQuantity(m.amount, resource.DecimalSI)
	case corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		amount = resource.NewQuantity(m.amount, resource.BinarySI)
	}
	return fmt.Sprintf("short of %s %s on %s", amount, m.name, m.node)
}
