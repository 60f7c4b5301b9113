package scheduler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	builtin "github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

// Preemption, as Kubernetes documents it: a pod that fits nowhere may take the place of pods of lower
// priority. On every node where those stand in its way, the fewest victims are chosen whose end makes
// room; of the nodes the one where that hurts least. The victims are deleted gracefully, and the pod is
// nominated to the node until it is scheduled, there or elsewhere, or a more important pod is nominated to it.

// maxCandidates bounds how many nodes are weighed against each other.
const maxCandidates = 100

// Reasons why a node can't be cleared, in Kubernetes' words.
const (
	noVictims  = "No preemption victims found for incoming pod"
	notHelpful = "Preemption is not helpful for scheduling"
)

// candidate is a node, and the pods that must leave it.
type candidate struct {
	node      *framework.Node
	victims   []*framework.Pod // most important first
	violating int              // how many of them a PodDisruptionBudget protects
}

// leaving are the victims' UIDs.
func (c *candidate) leaving() map[types.UID]bool {
	out := make(map[types.UID]bool, len(c.victims))
	for _, p := range c.victims {
		out[p.UID] = true
	}
	return out
}

// budget is a PodDisruptionBudget with its selector parsed.
type budget struct {
	namespace string
	selector  labels.Selector
	allowed   int32
	disrupted map[string]metav1.Time
}

func newBudget(b *policyv1.PodDisruptionBudget) budget {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		selector = labels.Nothing() // validation refuses it
	}
	return budget{namespace: b.Namespace, selector: selector, allowed: b.Status.DisruptionsAllowed, disrupted: b.Status.DisruptedPods}
}

// mayPreempt says why a pod must not preempt now, "" if it may. nominated is the node that is being
// cleared for it already, nil if none is.
func mayPreempt(pod *framework.Pod, nominated *framework.Node) string {
	if p := pod.Spec.PreemptionPolicy; p != nil && *p == corev1.PreemptNever {
		return "preemption: not eligible due to preemptionPolicy=Never."
	}
	if nominated != nil {
		for _, p := range nominated.Pods {
			if p.DeletionTimestamp != nil && priority(p) < priority(pod) {
				return "preemption: not eligible due to a terminating pod on the nominated node."
			}
		}
	}
	return ""
}

// preempt chooses the node to clear; nil with a message when none would do. It changes s while it tries,
// and leaves it as it was.
func preempt(ctx context.Context, plugins []framework.Plugin, policies *policyView, pod *framework.Pod, s *framework.State, budgets []budget) (*candidate, string, error) {
	var candidates []*candidate
	reasons := map[string]int{}
	// What no end of a pod changes is asked once.
	var lasting []framework.Prepared
	var hinters []framework.Hinter
	changing := make([]framework.Plugin, 0, len(plugins))
	var amounts *framework.Prepared // of NodeResourcesFit, if nothing but amounts can be in the pod's way beside what is lasting
	others := 0
	for _, plugin := range plugins {
		if h, ok := plugin.(framework.Hinter); ok {
			hinters = append(hinters, h)
		}
		if p := plugin.Prepare(pod, s); !p.Lasting {
			changing = append(changing, plugin)
			if _, ok := plugin.(builtin.NodeResourcesFit); ok {
				amounts = &p
			} else if p.Filter != nil {
				others++
			}
		} else if p.Filter != nil {
			lasting = append(lasting, p)
		}
	}
	if others > 0 {
		amounts = nil
	}
	for _, n := range slices.Clone(s.Nodes()) {
		if len(candidates) == maxCandidates {
			break
		}
		if slices.ContainsFunc(lasting, func(p framework.Prepared) bool { return len(p.Filter(n)) > 0 }) {
			reasons[notHelpful]++
			continue
		}
		if slices.ContainsFunc(hinters, func(h framework.Hinter) bool { return !h.Helps(pod, n) }) {
			reasons[noVictims]++
			continue
		}
		clear := func() *candidate { return clear1(changing, pod, s, n, budgets) }
		if amounts != nil {
			clear = func() *candidate { return clearAmounts(amounts.Filter, pod, n, budgets) }
		}
		if c := clear(); c != nil {
			candidates = append(candidates, c)
		} else {
			reasons[noVictims]++
		}
	}
	if policies.has(pod.Pod, hookPlace) && len(candidates) > 0 {
		nodes := make([]*framework.Node, len(candidates))
		for i, c := range candidates {
			nodes[i] = c.node
		}
		said, err := policies.ask(ctx, pod, nodes, s)
		if err != nil {
			return nil, "", err
		}
		for i, v := range said {
			if v.reason != "" {
				reasons[v.reason]++
				candidates = slices.DeleteFunc(candidates, func(c *candidate) bool { return c.node == nodes[i] })
			}
		}
	}
	if len(candidates) == 0 {
		return nil, "preemption: " + (&FitError{Nodes: len(s.Nodes()), Reasons: reasons}).Error(), nil
	}
	return slices.MinFunc(candidates, hurts), "", nil
}

// clear1 finds the fewest pods of lower priority whose end lets the pod onto the node; nil if none would.
func clear1(plugins []framework.Plugin, pod *framework.Pod, s *framework.State, n *framework.Node, budgets []budget) *candidate {
	if pods, _ := n.Below(priority(pod)); pods == 0 {
		return nil
	}
	var lower []*framework.Pod
	for _, p := range n.Pods {
		if priority(p) < priority(pod) {
			lower = append(lower, p)
		}
	}
	if len(lower) == 0 {
		return nil
	}
	slices.SortFunc(lower, importance)
	name := n.Name
	for _, p := range lower {
		s.RemovePod(p.UID)
	}
	c := &candidate{node: n}
	defer func() {
		for _, p := range lower {
			s.SetPod(p, name)
		}
	}()
	if !fits(plugins, pod, s, n) {
		return nil
	}
	violating, others := protected(lower, budgets)
	spare := func(pods []*framework.Pod, violates bool) {
		for _, p := range pods {
			s.SetPod(p, name)
			if fits(plugins, pod, s, n) {
				continue
			}
			s.RemovePod(p.UID)
			c.victims = append(c.victims, p)
			if violates {
				c.violating++
			}
		}
	}
	spare(violating, true)
	spare(others, false)
	if len(c.victims) == 0 {
		return nil // what keeps the pod off isn't there any more: the next attempt sees it
	}
	slices.SortFunc(c.victims, importance)
	return c
}

// clearAmounts is clear1 for a pod in whose way there are only amounts of resources: nothing need be tried with the state.
func clearAmounts(filter func(*framework.Node) []string, pod *framework.Pod, n *framework.Node, budgets []budget) *candidate {
	if pods, _ := n.Below(priority(pod)); pods == 0 {
		return nil
	}
	trial := &framework.Node{Node: n.Node, Name: n.Name, Row: n.Row, Allocatable: n.Allocatable, Requested: n.Requested}
	trial.Requested.Scalar = maps.Clone(trial.Requested.Scalar)
	var lower []*framework.Pod
	for _, p := range n.Pods {
		if priority(p) < priority(pod) {
			lower = append(lower, p)
			trial.Requested.Add(p.Request, -1)
		}
	}
	if len(filter(trial)) > 0 {
		return nil
	}
	slices.SortFunc(lower, importance)
	c := &candidate{node: n}
	violating, others := protected(lower, budgets)
	spare := func(pods []*framework.Pod, violates bool) {
		for _, p := range pods {
			trial.Requested.Add(p.Request, 1)
			if len(filter(trial)) == 0 {
				continue
			}
			trial.Requested.Add(p.Request, -1)
			c.victims = append(c.victims, p)
			if violates {
				c.violating++
			}
		}
	}
	spare(violating, true)
	spare(others, false)
	if len(c.victims) == 0 {
		return nil
	}
	slices.SortFunc(c.victims, importance)
	return c
}

func fits(plugins []framework.Plugin, pod *framework.Pod, s *framework.State, n *framework.Node) bool {
	for _, plugin := range plugins {
		if p := plugin.Prepare(pod, s); p.Filter != nil && len(p.Filter(n)) > 0 {
			return false
		}
	}
	return true
}

// importance orders pods: higher priority first, then those that have run longer.
func importance(a, b *framework.Pod) int {
	if pa, pb := priority(a), priority(b); pa != pb {
		if pa > pb {
			return -1
		}
		return 1
	}
	if c := started(a).Compare(started(b).Time); c != 0 {
		return c
	}
	return strings.Compare(string(a.UID), string(b.UID))
}

func started(p *framework.Pod) metav1.Time {
	if p.Status.StartTime != nil {
		return *p.Status.StartTime
	}
	return p.CreationTimestamp
}

// protected tells the pods whose end would break a budget from the others.
func protected(pods []*framework.Pod, budgets []budget) (violating, others []*framework.Pod) {
	allowed := make([]int32, len(budgets))
	for i := range budgets {
		allowed[i] = budgets[i].allowed
	}
	for _, p := range pods {
		breaks := false
		for i := range budgets {
			b := &budgets[i]
			if b.namespace != p.Namespace || len(p.Labels) == 0 || !b.selector.Matches(labels.Set(p.Labels)) {
				continue
			}
			if _, counted := b.disrupted[p.Name]; counted {
				continue
			}
			allowed[i]--
			breaks = breaks || allowed[i] < 0
		}
		if breaks {
			violating = append(violating, p)
		} else {
			others = append(others, p)
		}
	}
	return violating, others
}

// hurts orders candidates, the least harm first: broken budgets, the most important victim's priority, the
// sum of priorities, the number of victims; then the one whose most important victim started last.
func hurts(a, b *candidate) int {
	sum := func(c *candidate) (n int64) {
		for _, p := range c.victims {
			n += int64(priority(p)) + 1<<31 // so that one more victim of negative priority counts, too
		}
		return n
	}
	for _, d := range []int64{int64(a.violating - b.violating), int64(priority(a.victims[0])) - int64(priority(b.victims[0])),
		sum(a) - sum(b), int64(len(a.victims) - len(b.victims))} {
		if d != 0 {
			return int(max(-1, min(1, d)))
		}
	}
	if c := started(b.victims[0]).Compare(started(a.victims[0]).Time); c != 0 {
		return c
	}
	return strings.Compare(a.node.Name, b.node.Name)
}

// preemption is a choice on its way to the store. Node "" takes the pod's nomination back.
type preemption struct {
	pod     *corev1.Pod
	node    string
	victims []*corev1.Pod
	// displaced were nominated to the node, too, and are less important: their room is gone.
	displaced []*corev1.Pod
}

// writePreemptions nominates pods to nodes and ends the victims.
func (l *loop) writePreemptions(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-l.preemptions:
			for _, d := range p.displaced {
				l.nominate(ctx, d, "")
			}
			l.nominate(ctx, p.pod, p.node)
			for _, v := range p.victims {
				if err := l.evict(ctx, v, p); err != nil && ctx.Err() == nil {
					l.cfg.Logger.Warn("preemption failed", "namespace", v.Namespace, "pod", v.Name, "error", err)
				}
			}
			if !send(ctx, l.preempted, p.pod.UID) {
				return nil
			}
		}
	}
}

func (l *loop) nominate(ctx context.Context, pod *corev1.Pod, node string) {
	err := l.updateStatus(ctx, pod, func(p *corev1.Pod) bool {
		if p.Spec.NodeName != "" || p.Status.NominatedNodeName == node {
			return false
		}
		p.Status.NominatedNodeName = node
		return true
	})
	if err != nil && ctx.Err() == nil {
		l.cfg.Logger.Warn("nomination was not written", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
	}
}

func (l *loop) evict(ctx context.Context, victim *corev1.Pod, p preemption) error {
	message := fmt.Sprintf("%s: preempting to accommodate a higher priority pod", l.cfg.Name)
	err := l.updateStatus(ctx, victim, func(v *corev1.Pod) bool {
		return setCondition(&v.Status, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
			Reason: corev1.PodReasonPreemptionByScheduler, Message: message, LastTransitionTime: metav1.NewTime(l.cfg.Clock.Now())})
	})
	if err != nil {
		return err
	}
	uid := victim.UID
	if err := l.cfg.Client.Delete(ctx, podsResource, victim.Namespace, victim.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil {
		return err
	}
	l.event(ctx, victim, nil, corev1.EventTypeNormal, "Preempted", fmt.Sprintf("Preempted by pod %s on node %s", p.pod.UID, p.node))
	return nil
}
