package scheduler

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	whole "github.com/pintle/pintle/orchestrator/scheduler/gang"
)

// gangPlugin is the name under which a gang that isn't there yet counts among what refused a pod: kube-scheduler's.
const gangPlugin = "GangScheduling"

// gangs is what the loop knows of PodGroups and their pods. It belongs to the loop.
type gangs struct {
	groups map[string]*group // by namespace/name
	member map[types.UID]string
}

// group is one PodGroup, or the pods that name one which isn't there.
type group struct {
	key    string
	object *schedulingv1beta1.PodGroup // nil: it isn't there
	// members are its pods, as the watch tells of them; waiting those that have no node there.
	members map[types.UID]*corev1.Pod
	waiting map[types.UID]bool
	lost    map[types.UID]time.Time // members that were on nodes and have failed or are being ended, and since when
	done    bool                    // PodGroupInitiallyScheduled is True, or is being written
	told    time.Time               // when it was last told that it has waited too long
	since   time.Time               // since when members wait without a node; zero: none does
}

func newGangs() *gangs {
	return &gangs{groups: map[string]*group{}, member: map[types.UID]string{}}
}

func (s *gangs) group(key string) *group {
	g := s.groups[key]
	if g == nil {
		g = &group{key: key, members: map[types.UID]*corev1.Pod{}, waiting: map[types.UID]bool{}, lost: map[types.UID]time.Time{}}
		s.groups[key] = g
	}
	return g
}

// of is the group that a pod belongs to, nil if none.
func (s *gangs) of(pod *corev1.Pod) *group {
	if name := api.PodGroupOf(pod); name != "" {
		return s.groups[pod.Namespace+"/"+name]
	}
	return nil
}

func (s *gangs) drop(g *group) {
	if g.object == nil && len(g.members) == 0 {
		delete(s.groups, g.key)
	}
}

func (g *group) name() string { return "gang " + g.key[strings.IndexByte(g.key, '/')+1:] }

// min is how many members must have nodes at once; 1 where they may come one by one.
func (g *group) min() int {
	if p := g.object.Spec.SchedulingPolicy.Gang; p != nil {
		return int(p.MinCount)
	}
	return 1
}

// together says whether its members are only disrupted all at once.
func (g *group) together() bool { return g.object != nil && api.DisruptedTogether(g.object) }

// plain says whether its pods are placed as if they had no group.
func (g *group) plain() bool {
	return g.object != nil && g.object.Spec.SchedulingPolicy.Gang == nil && g.topology() == "" && len(api.PreferredTopology(g.object)) == 0
}

func (g *group) topology() string {
	if c := g.object.Spec.SchedulingConstraints; c != nil && len(c.Topology) > 0 {
		return c.Topology[0].Key
	}
	return ""
}

// priority is the group's where it has a class, else the most important member's.
func (g *group) priority() (most int32) {
	if g.object != nil && g.object.Spec.PriorityClassName != "" && g.object.Spec.Priority != nil {
		return *g.object.Spec.Priority
	}
	most = math.MinInt32
	for _, p := range g.members {
		n := int32(0)
		if p.Spec.Priority != nil {
			n = *p.Spec.Priority
		}
		most = max(most, n)
	}
	return most
}

func (g *group) mayPreempt() bool {
	if p := g.object.Spec.PreemptionPolicy; g.object.Spec.PriorityClassName != "" && p != nil {
		return *p != schedulingv1beta1.PreemptNever
	}
	for _, p := range g.members {
		if p.Spec.PreemptionPolicy != nil && *p.Spec.PreemptionPolicy == corev1.PreemptNever {
			return false
		}
	}
	return true
}

// ranked is the pod with its group's priority, where the group has a class.
func (l *loop) ranked(pod *corev1.Pod) *corev1.Pod {
	g := l.gangs.of(pod)
	if g == nil || g.object == nil || g.object.Spec.PriorityClassName == "" || g.object.Spec.Priority == nil ||
		pod.Spec.Priority != nil && *pod.Spec.Priority == *g.object.Spec.Priority {
		return pod
	}
	out := *pod
	out.Spec.Priority = g.object.Spec.Priority
	return &out
}

// rank gives the members of a group that has come after them its priority.
func (l *loop) rank(g *group) {
	for uid, pod := range g.members {
		ranked := l.ranked(pod)
		if ranked == pod {
			continue
		}
		if have := l.state.Pod(uid); have != nil && l.assumed[uid] == nil && !l.expected(uid) {
			l.state.SetPod(framework.NewPod(ranked), l.state.NodeOf(uid))
		}
		if p := l.queue.pods[uid]; p != nil && l.assumed[uid] == nil {
			l.queue.set(framework.NewPod(ranked), p.key)
		}
	}
}

// alive are the members that have a node, assumed or bound, and keep it.
func (l *loop) alive(g *group) (out []*framework.Pod) {
	for uid := range g.members {
		if _, lost := g.lost[uid]; lost {
			continue
		}
		if p := l.state.Pod(uid); p != nil && p.DeletionTimestamp == nil && !l.expected(uid) {
			out = append(out, p)
		}
	}
	return out
}

// expected says whether a pod stands in the state only because a node is being cleared for it.
func (l *loop) expected(uid types.UID) bool {
	_, nominated := l.nominated[uid]
	return nominated && l.assumed[uid] == nil
}

// sawPod tells the gangs of a pod that has come or changed, before the state hears of it.
func (l *loop) sawPod(pod *corev1.Pod) {
	name := api.PodGroupOf(pod)
	if name == "" {
		return
	}
	g := l.gangs.group(pod.Namespace + "/" + name)
	l.gangs.member[pod.UID] = g.key
	g.members[pod.UID] = pod
	bound := pod.Spec.NodeName != ""
	switch {
	case pod.Status.Phase == corev1.PodSucceeded:
		delete(g.waiting, pod.UID)
	case bound && (pod.Status.Phase == corev1.PodFailed || pod.DeletionTimestamp != nil):
		delete(g.waiting, pod.UID)
		l.lost(g, pod)
	case bound:
		delete(g.waiting, pod.UID)
		for _, since := range g.lost {
			if g.together() && startOf(pod).Before(since) {
				l.endMembers(g, []*corev1.Pod{pod})
				break
			}
		}
		l.arrivedOnNode(g)
	case pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed:
		delete(g.waiting, pod.UID)
	case !g.waiting[pod.UID]:
		g.waiting[pod.UID] = true
		if g.since.IsZero() || pod.CreationTimestamp.Time.Before(g.since) {
			if g.since = pod.CreationTimestamp.Time; g.since.IsZero() {
				g.since = l.cfg.Clock.Now()
			}
		}
		l.wakeGroup(g)
	}
	l.settled(g)
}

// gonePod tells the gangs of the end of a pod.
func (l *loop) gonePod(uid types.UID) {
	key, ok := l.gangs.member[uid]
	if !ok {
		return
	}
	delete(l.gangs.member, uid)
	g := l.gangs.group(key)
	pod := g.members[uid]
	if _, lost := g.lost[uid]; !lost && pod != nil && pod.Spec.NodeName != "" && pod.Status.Phase != corev1.PodSucceeded {
		l.lost(g, pod)
	}
	delete(g.members, uid)
	delete(g.waiting, uid)
	delete(g.lost, uid)
	l.settled(g)
	l.gangs.drop(g)
}

// settled ends the group's wait when nobody waits.
func (l *loop) settled(g *group) {
	if len(g.waiting) == 0 {
		g.since, g.told = time.Time{}, time.Time{}
		l.quotaDone(l.quotas.of[namespaceOf(g.key)], g.name())
	}
}

func namespaceOf(key string) string {
	namespace, _, _ := strings.Cut(key, "/")
	return namespace
}

// startOf is when a pod was bound, as well as it is known.
func startOf(pod *corev1.Pod) time.Time {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return pod.CreationTimestamp.Time
}

// lost records that a member which had a node has failed or is being ended. Of a group that is only disrupted as a whole all
// others end with it.
func (l *loop) lost(g *group, pod *corev1.Pod) {
	if _, known := g.lost[pod.UID]; known {
		return
	}
	since := l.cfg.Clock.Now()
	if at := pod.DeletionTimestamp; at != nil {
		since = at.Time
		if grace := pod.DeletionGracePeriodSeconds; grace != nil {
			since = since.Add(-time.Duration(*grace) * time.Second)
		}
	} else {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
				since = c.LastTransitionTime.Time
			}
		}
	}
	g.lost[pod.UID] = since
	if !g.together() {
		return
	}
	first := l.synced[podsResource.Resource]
	var rest []*corev1.Pod
	for _, p := range g.members {
		if _, lost := g.lost[p.UID]; lost || p.Spec.NodeName == "" || p.DeletionTimestamp != nil ||
			p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		if first || startOf(p).Before(since) {
			rest = append(rest, p)
		}
	}
	l.endMembers(g, rest)
}

// endMembers ends members because another one was lost.
func (l *loop) endMembers(g *group, pods []*corev1.Pod) {
	if len(pods) == 0 {
		return
	}
	now := l.cfg.Clock.Now()
	for _, p := range pods {
		g.lost[p.UID] = now
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	name := g.name()
	l.outbox.add(func(ctx context.Context) {
		for _, p := range pods {
			l.endPod(ctx, p, "GangRestarted", "PodGroupDisrupted", name+" lost a member, and its pods are only disrupted together")
		}
	})
}

// wakeGroup has the members of a group that can be tried now become active, whatever they wait for.
func (l *loop) wakeGroup(g *group) {
	if g.object != nil && len(g.members) >= g.min() {
		l.wakeWaiting(g)
	}
}

func (l *loop) wakeWaiting(g *group) {
	for uid := range g.waiting {
		if p := l.queue.waits[uid]; p != nil && p.refused[gangPlugin] {
			l.queue.wakeOne(p)
		}
	}
}

// arrivedOnNode tells the group that it has been scheduled once enough members are bound.
func (l *loop) arrivedOnNode(g *group) {
	if g.object == nil || g.done {
		return
	}
	bound := 0
	for _, p := range g.members {
		if _, lost := g.lost[p.UID]; !lost && p.Spec.NodeName != "" {
			bound++
		}
	}
	if bound >= g.min() {
		g.done = true
		l.groupCondition(g.object, schedulingv1beta1.PodGroupInitiallyScheduled, true, "Scheduled", fmt.Sprintf("%d members have nodes", bound))
	}
}

// sawGroup and goneGroup tell of a PodGroup.
func (l *loop) sawGroup(object *schedulingv1beta1.PodGroup) {
	g := l.gangs.group(object.Namespace + "/" + object.Name)
	fresh := g.object == nil
	g.object = object
	g.done = g.done && !fresh
	for _, c := range object.Status.Conditions {
		g.done = g.done || c.Type == schedulingv1beta1.PodGroupInitiallyScheduled && c.Status == "True"
	}
	l.arrivedOnNode(g)
	l.wakeGroup(g)
	if !fresh {
		return
	}
	l.wakeWaiting(g)
	l.rank(g)
	for _, p := range g.members { // those that were lost before the group was seen
		if _, lost := g.lost[p.UID]; lost {
			delete(g.lost, p.UID)
			l.lost(g, p)
		}
	}
}

func (l *loop) goneGroup(key string) {
	if g := l.gangs.groups[key]; g != nil {
		l.quotaDone(l.quotas.of[namespaceOf(key)], g.name())
		g.object, g.done = nil, false
		l.gangs.drop(g)
	}
}

// takeWaiting takes the group's waiting members out of the queue, wherever they stand in it.
func (l *loop) takeWaiting(g *group, popped *pending) (out []*pending) {
	for uid := range g.waiting {
		p := l.queue.pods[uid]
		if p == nil || l.assumed[uid] != nil {
			continue
		}
		if p != popped {
			l.queue.take(p)
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *pending) int { return strings.Compare(a.pod.Name, b.pod.Name) })
	return out
}

// gangTrial is the scheduler's state as a gang is tried against it. It remembers what was decided.
type gangTrial struct {
	ctx     context.Context
	l       *loop
	name    string
	since   time.Time
	queue   string
	urgency int32
	decided map[types.UID]Decision
	narrow  map[whole.Domain]map[types.UID]*framework.Pod
}

func (l *loop) newTrial(ctx context.Context, name, namespace string, priority int32, since time.Time) *gangTrial {
	return &gangTrial{ctx: ctx, l: l, name: name, since: since, queue: l.quotas.of[namespace], urgency: priority,
		decided: map[types.UID]Decision{}, narrow: map[whole.Domain]map[types.UID]*framework.Pod{}}
}

// Nodes implements whole.Cluster.
func (t *gangTrial) Nodes() []*framework.Node { return t.l.state.Nodes() }

// Place implements whole.Cluster.
func (t *gangTrial) Place(pod *framework.Pod, in whole.Domain) (string, error) {
	to, err := t.l.decider.Decide(t.ctx, t.within(pod, in))
	if err != nil {
		return "", err
	}
	t.l.decider.Assume(pod, to)
	t.decided[pod.UID] = to
	return to.Node, nil
}

// within is the pod as one that may only run in the domain.
func (t *gangTrial) within(pod *framework.Pod, in whole.Domain) *framework.Pod {
	if in.Key == "" {
		return pod
	}
	if p := t.narrow[in][pod.UID]; p != nil {
		return p
	}
	object := *pod.Pod
	if value, ok := object.Spec.NodeSelector[in.Key]; ok && value != in.Value {
		// No node has two values: the pod's own stays, in a term that can't hold.
		in.Value = value + "/" + in.Value
	}
	object.Spec.NodeSelector = maps.Clone(object.Spec.NodeSelector)
	if object.Spec.NodeSelector == nil {
		object.Spec.NodeSelector = map[string]string{}
	}
	object.Spec.NodeSelector[in.Key] = in.Value
	p := framework.NewPod(&object)
	if t.narrow[in] == nil {
		t.narrow[in] = map[types.UID]*framework.Pod{}
	}
	t.narrow[in][pod.UID] = p
	return p
}

// Fits implements whole.Cluster.
func (t *gangTrial) Fits(pod *framework.Pod, node string) bool {
	n := t.l.state.Node(node)
	return n != nil && n.Node != nil && fits(t.l.plugins(pod), pod, t.l.state, n)
}

// Set implements whole.Cluster.
func (t *gangTrial) Set(pod *framework.Pod, node string) {
	if to, ok := t.decided[pod.UID]; ok && to.Node == node {
		t.l.decider.Assume(pod, to)
		return
	}
	t.l.state.SetPod(pod, node)
}

// Remove implements whole.Cluster.
func (t *gangTrial) Remove(uid types.UID) { t.l.state.RemovePod(uid) }

// NodeOf implements whole.Cluster.
func (t *gangTrial) NodeOf(uid types.UID) string { return t.l.state.NodeOf(uid) }

// Admit implements whole.Cluster.
func (t *gangTrial) Admit(pods []*framework.Pod) error {
	if d := t.l.quotas.book.Admit(t.want(pods), t.l.cfg.Clock.Now()); d != nil {
		return d
	}
	return nil
}
