package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime/debug"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	whole "github.com/pintle/pintle/orchestrator/scheduler/gang"
	"github.com/pintle/pintle/orchestrator/scheduler/queues"
)

// scheduleTogether decides on a pod that isn't decided on alone: one of a group, or of a queue without quota. taken says
// that it has been dealt with; goesOn is false when ctx has ended.
func (l *loop) scheduleTogether(ctx context.Context, p *pending) (taken, goesOn bool) {
	if name := api.PodGroupOf(p.pod.Pod); name != "" {
		g := l.gangs.group(p.pod.Namespace + "/" + name)
		if g.object == nil {
			l.waits(p, fmt.Errorf("gang %s: there is no PodGroup of that name", name))
			return true, true
		}
		if !g.plain() {
			return true, l.scheduleGroup(ctx, p, g)
		}
	}
	w := l.wantOf(p.pod)
	if w.Queue == "" {
		return false, true
	}
	now := l.cfg.Clock.Now()
	d := l.quotas.book.Admit(w, now)
	if d == nil {
		l.quotaDone(w.Queue, w.Name)
		return false, true
	}
	l.quotas.book.Waits(w, d, now)
	chosen := (*candidate)(nil)
	if !d.Never && (l.lends(w) || l.quotas.below(w.Queue, w.Priority)) {
		chosen = l.preemptWhole(ctx, p.pod)
	}
	l.park([]*pending{p}, map[string]bool{queuePlugin: true})
	l.send(report{pod: p.pod.Pod, err: d})
	if chosen == nil {
		return true, true
	}
	return true, l.sendPreemption(ctx, l.nominateTo(chosen, p.pod))
}

// waits parks a pod until its group can be tried.
func (l *loop) waits(p *pending, err error) {
	l.park([]*pending{p}, map[string]bool{gangPlugin: true})
	l.send(report{pod: p.pod.Pod, err: err})
}

func (l *loop) park(members []*pending, refused map[string]bool) {
	now := l.cfg.Clock.Now()
	for _, p := range members {
		l.queue.park(p, now, refused)
	}
}

// scheduleGroup places the waiting members of a group, whole or not at all. It returns false when ctx has ended.
func (l *loop) scheduleGroup(ctx context.Context, popped *pending, g *group) bool {
	members := l.takeWaiting(g, popped)
	if !slices.Contains(members, popped) {
		members = append(members, popped)
	}
	pods := make([]*framework.Pod, len(members))
	byUID := map[types.UID]*pending{}
	for i, p := range members {
		pods[i], byUID[p.pod.UID] = p.pod, p
	}
	spec := l.gangOf(g, pods)
	t := l.newTrial(ctx, g.name(), namespaceOf(g.key), g.priority(), g.since)
	restore := l.expectBeside(pods, g.priority())
	placement, err := t.guarded(func() (*whole.Placement, error) { return whole.Place(t, spec) })
	if restore() && err == nil && !t.holds(placement) {
		err = &whole.Shortfall{Gang: spec.Name, Members: spec.Members(), Min: spec.Min, Could: len(spec.Placed),
			Cause: errors.New("the members suit only beside pods that are nominated to nodes")}
		t.undo()
	}
	if err != nil {
		return l.groupRefused(ctx, g, members, spec, t, err)
	}
	left := map[types.UID]bool{}
	for _, p := range placement.Left {
		left[p.UID] = true
		delete(byUID, p.UID)
	}
	l.park(slices.DeleteFunc(slices.Clone(members), func(p *pending) bool { return !left[p.pod.UID] }),
		map[string]bool{"NodeResourcesFit": true, queuePlugin: true})
	l.quotaDone(t.queue, g.name())
	return l.bindGroup(ctx, placement, byUID, t)
}

// gangOf is the group as package gang sees it.
func (l *loop) gangOf(g *group, pending []*framework.Pod) *whole.Gang {
	spec := &whole.Gang{Name: g.name()[len("gang "):], Min: g.min(), Key: g.topology(), Prefer: api.PreferredTopology(g.object), Pending: pending}
	for _, p := range l.alive(g) {
		spec.Placed = append(spec.Placed, l.state.NodeOf(p.UID))
	}
	return spec
}

// bindGroup asks the policies about every member, and has all of them bound, or none if a policy refuses one.
func (l *loop) bindGroup(ctx context.Context, placement *whole.Placement, byUID map[types.UID]*pending, t *gangTrial) bool {
	for _, a := range placement.Placed {
		delete(l.nominated, a.Pod.UID)
		l.assumed[a.Pod.UID] = byUID[a.Pod.UID]
	}
	held := map[types.UID]bool{}
	for _, a := range placement.Placed {
		wait, err := l.permit(ctx, byUID[a.Pod.UID], t.decided[a.Pod.UID])
		if err != nil {
			for _, b := range placement.Placed {
				if held[b.Pod.UID] && l.waiting[b.Pod.UID] == nil {
					continue // a policy has let it go, or expelled it, meanwhile
				}
				delete(l.waiting, b.Pod.UID)
				l.denied(byUID[b.Pod.UID], err)
			}
			return true
		}
		held[a.Pod.UID] = wait
	}
	if ctx.Err() != nil {
		return false
	}
	for _, a := range placement.Placed {
		if !held[a.Pod.UID] && !l.bind(ctx, byUID[a.Pod.UID], t.decided[a.Pod.UID]) {
			return false
		}
	}
	return true
}

// groupRefused parks a group that has no nodes, tells it why, and has nodes cleared for all of it where that helps.
func (l *loop) groupRefused(ctx context.Context, g *group, members []*pending, spec *whole.Gang, t *gangTrial, err error) bool {
	now := l.cfg.Clock.Now()
	refused := map[string]bool{}
	fit, denial, short := (*FitError)(nil), (*queues.Denial)(nil), (*whole.Shortfall)(nil)
	switch {
	case errors.As(err, &denial):
		refused[queuePlugin] = true
		l.quotas.book.Waits(t.want(spec.Pending), denial, now)
		err = fmt.Errorf("gang %s: %w", spec.Name, err)
	case errors.As(err, &fit):
		maps.Copy(refused, fit.Plugins)
	case !errors.As(err, &short):
		l.cfg.Logger.Error("scheduling failed", "namespace", namespaceOf(g.key), "podgroup", spec.Name, "error", err)
		refused = nil
	default:
		refused[gangPlugin] = true
	}
	if denial == nil { // it isn't quota that it waits for
		l.quotaDone(t.queue, g.name())
	}
	incomplete := short != nil && short.Cause == nil
	if short != nil && !incomplete {
		refused[gangPlugin], refused["NodeResourcesFit"] = true, true
	}
	first := members[0].attempts == 0
	l.park(members, refused)
	if incomplete && first {
		for _, p := range members {
			l.queue.wakeOne(p) // tried once more after the back-off: that's soon enough to be told
		}
		return true
	}
	reason := schedulingv1beta1.PodGroupReasonUnschedulable
	if refused == nil {
		reason = schedulingv1beta1.PodGroupReasonSchedulerError
	}
	for _, p := range members {
		l.send(report{pod: p.pod.Pod, err: err})
	}
	if !g.done {
		l.groupCondition(g.object, schedulingv1beta1.PodGroupInitiallyScheduled, false, reason, err.Error())
	}
	if incomplete || refused == nil || denial != nil && denial.Never {
		return true
	}
	return l.preemptForGroup(ctx, g, members, spec, t)
}

// preemptForGroup has nodes cleared for all members at once, or for none.
func (l *loop) preemptForGroup(ctx context.Context, g *group, members []*pending, spec *whole.Gang, t *gangTrial) bool {
	for _, p := range members {
		if l.inFlight[p.pod.UID] {
			return true
		}
		if n, ok := l.nominated[p.pod.UID]; ok && l.ending(n.node) {
			return true
		}
	}
	var placement *whole.Placement
	var victims []*whole.Unit
	if g.mayPreempt() {
		restore := l.expectBeside(spec.Pending, g.priority())
		_, err := t.guarded(func() (*whole.Placement, error) {
			placement, victims = whole.Preempt(t, spec, l.units(g.priority(), t.want(spec.Pending), g.key))
			return nil, nil
		})
		restore()
		if err != nil {
			l.cfg.Logger.Error("preemption failed", "namespace", namespaceOf(g.key), "podgroup", spec.Name, "error", err)
			return true
		}
	}
	if placement == nil {
		// Nodes that were cleared for it before hold it no more: nothing is kept for a group that doesn't fit whole.
		for _, p := range members {
			if _, ok := l.nominated[p.pod.UID]; ok {
				delete(l.nominated, p.pod.UID)
				l.queue.wake(func(refused map[string]bool) bool { return !refused[gangPlugin] })
				if !l.sendPreemption(ctx, preemption{pod: p.pod.Pod}) {
					return false
				}
			}
		}
		return true
	}
	ended := l.victimPods(victims)
	leaving := map[types.UID]bool{}
	for _, v := range ended {
		leaving[v.UID] = true
	}
	for i, a := range placement.Placed {
		wanted := l.nominateTo(&candidate{node: l.state.Node(a.Node)}, a.Pod)
		l.nominated[a.Pod.UID] = nomination{pod: a.Pod, node: a.Node, leaving: leaving}
		if i == 0 {
			wanted.victims = ended
		}
		if !l.sendPreemption(ctx, wanted) {
			return false
		}
	}
	return true
}

// ending says whether a pod is being ended on the node.
func (l *loop) ending(node string) bool {
	n := l.state.Node(node)
	if n == nil {
		return false
	}
	for _, p := range n.Pods {
		if p.DeletionTimestamp != nil {
			return true
		}
	}
	return false
}

// victimPods are those that must still be ended; groups among them are told.
func (l *loop) victimPods(victims []*whole.Unit) (out []*corev1.Pod) {
	for _, u := range victims {
		g := l.gangs.groups[u.Gang]
		if g != nil && g.object != nil {
			l.groupCondition(g.object, schedulingv1beta1.DisruptionTarget, true, schedulingv1beta1.PodGroupReasonPreemptionByScheduler,
				l.cfg.Name+": preempting to accommodate a higher priority pod or group")
		}
		for _, p := range u.Pods {
			if p.DeletionTimestamp == nil {
				out = append(out, p.Pod)
			}
			if g != nil {
				g.lost[p.UID] = l.cfg.Clock.Now() // its end is no further reason to end others
			}
		}
	}
	return out
}

// nominateTo records that a node is being cleared for a pod, and what must be written.
func (l *loop) nominateTo(c *candidate, pod *framework.Pod) preemption {
	l.nominated[pod.UID] = nomination{pod: pod, node: c.node.Name, leaving: c.leaving()}
	out := preemption{pod: pod.Pod, node: c.node.Name, displaced: l.displace(pod, c.node.Name)}
	for _, v := range c.victims {
		if v.DeletionTimestamp == nil {
			out.victims = append(out.victims, v.Pod)
		}
	}
	return out
}

// sendPreemption hands a preemption to its writer. It returns false when ctx has ended.
func (l *loop) sendPreemption(ctx context.Context, wanted preemption) bool {
	l.inFlight[wanted.pod.UID] = true
	for {
		select {
		case l.preemptions <- wanted:
			return true
		case uid := <-l.preempted: // the writer that waits for us would never take the next
			delete(l.inFlight, uid)
		case b := <-l.bound:
			l.settle(b)
		case <-ctx.Done():
			return false
		}
	}
}

// guarded turns a panic of a plugin into an error, and takes back what was recorded.
func (t *gangTrial) guarded(f func() (*whole.Placement, error)) (p *whole.Placement, err error) {
	defer func() {
		if v := recover(); v != nil {
			t.undo()
			p, err = nil, fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

func (t *gangTrial) undo() {
	for uid := range t.decided {
		t.l.state.RemovePod(uid)
	}
}

// holds says whether every member fits where it is with what is in the state now.
func (t *gangTrial) holds(p *whole.Placement) bool {
	for _, a := range p.Placed {
		t.Remove(a.Pod.UID)
		ok := t.Fits(a.Pod, a.Node)
		t.Set(a.Pod, a.Node)
		if !ok {
			return false
		}
	}
	return true
}

// want is what the pods ask of their queue.
func (t *gangTrial) want(pods []*framework.Pod) queues.Want {
	return queues.Want{Queue: t.queue, Name: t.name, Amounts: queues.Sum(pods), Priority: t.urgency, Since: t.since}
}

// units are what may be ended for somebody of that priority: what is less important, and what borrows of the quota that w
// is about. What is being ended already is among them, and costs nothing. Pods of the group except aren't.
func (l *loop) units(least int32, w queues.Want, except string) []*whole.Unit {
	book := l.quotas.book
	cohort := book.Cohort(w.Queue)
	lends := l.lends(w)
	// Priority gives nobody another queue's quota.
	bounded := cohort != "" && (!book.Within(w) || book.Admit(w, l.cfg.Clock.Now()) != nil)
	theirs := func(p *framework.Pod) bool {
		queue := l.quotas.of[p.Namespace]
		return cohort != "" && queue != "" && queue != w.Queue && book.Cohort(queue) == cohort
	}
	var pods []*framework.Pod
	groups := map[*group]*whole.Unit{}
	for _, n := range l.state.Nodes() {
		below, _ := n.Below(least)
		for _, p := range n.Pods {
			g := l.gangs.of(p.Pod)
			together := g != nil && g.together()
			if g != nil && g.key == except || l.expected(p.UID) ||
				!together && (below == 0 || priority(p) >= least) && p.DeletionTimestamp == nil && !(lends && theirs(p)) {
				continue
			}
			if pods = append(pods, p); together && groups[g] == nil {
				groups[g] = &whole.Unit{Gang: g.key, Priority: g.priority(), Started: started(p).Time}
			}
		}
	}
	slices.SortFunc(pods, func(a, b *framework.Pod) int { return importance(b, a) })
	breaks := map[types.UID]bool{}
	violating, _ := protected(pods, slices.Collect(maps.Values(l.budgets)))
	for _, p := range violating {
		breaks[p.UID] = true
	}
	var all []*whole.Unit
	for _, p := range pods {
		u := groups[l.gangs.of(p.Pod)]
		if u == nil {
			u = &whole.Unit{Priority: priority(p), Started: started(p).Time}
		}
		if len(u.Pods) == 0 {
			all = append(all, u)
		}
		u.Pods = append(u.Pods, p)
		u.Protected = u.Protected || breaks[p.UID]
	}
	for _, u := range all {
		if !slices.ContainsFunc(u.Pods, func(p *framework.Pod) bool { return p.DeletionTimestamp == nil }) {
			u.Priority, u.Protected = math.MinInt32, false
		}
	}
	reclaimed := map[*whole.Unit]bool{}
	if lends {
		slices.SortFunc(all, whole.Harm)
		lent := make([]queues.Lent, len(all))
		for i, u := range all {
			lent[i] = queues.Lent{Queue: l.quotas.of[u.Pods[0].Namespace], Amounts: queues.Sum(u.Pods)}
		}
		for _, i := range book.Reclaimable(w, lent) {
			reclaimed[all[i]] = true
		}
	}
	return slices.DeleteFunc(all, func(u *whole.Unit) bool {
		ending := u.Priority == math.MinInt32
		return !reclaimed[u] && !ending && (u.Priority >= least || bounded && theirs(u.Pods[0]))
	})
}

// wantOf is what a single pod asks of its queue.
func (l *loop) wantOf(pod *framework.Pod) queues.Want {
	queue := l.quotas.of[pod.Namespace]
	if queue == "" {
		return queues.Want{}
	}
	return queues.Want{Queue: queue, Name: "pod " + pod.Namespace + "/" + pod.Name, Amounts: queues.AmountsOf(&pod.Request),
		Priority: priority(pod), Since: pod.CreationTimestamp.Time}
}

// preemptWhole is preemption for one pod where whole gangs may be victims, or what its queue has lent is to be taken
// back. nil: it's of no help.
func (l *loop) preemptWhole(ctx context.Context, pod *framework.Pod) *candidate {
	if p := pod.Spec.PreemptionPolicy; p != nil && *p == corev1.PreemptNever || l.inFlight[pod.UID] {
		return nil
	}
	if n, ok := l.nominated[pod.UID]; ok && l.ending(n.node) {
		return nil
	}
	w := l.wantOf(pod)
	t := l.newTrial(ctx, w.Name, pod.Namespace, priority(pod), pod.CreationTimestamp.Time)
	var placement *whole.Placement
	var victims []*whole.Unit
	restore := l.expectBeside([]*framework.Pod{pod}, priority(pod))
	defer restore()
	_, err := t.guarded(func() (*whole.Placement, error) {
		placement, victims = whole.Preempt(t, &whole.Gang{Name: pod.Name, Min: 1, Pending: []*framework.Pod{pod}}, l.units(priority(pod), w, ""))
		return nil, nil
	})
	if err != nil {
		l.cfg.Logger.Error("preemption failed", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
	}
	if placement == nil {
		return nil
	}
	c := &candidate{node: l.state.Node(placement.Placed[0].Node)}
	ended := map[types.UID]bool{}
	for _, p := range l.victimPods(victims) {
		ended[p.UID] = true
	}
	for _, u := range victims {
		for _, p := range u.Pods {
			if ended[p.UID] || p.DeletionTimestamp != nil {
				c.victims = append(c.victims, p)
			}
		}
	}
	return c
}

// wholeChoice is the choice of victims for a single pod where some of them are only disrupted together with others, or where
// none has been found and such gangs, or borrowers, may be.
func (l *loop) wholeChoice(ctx context.Context, pod *framework.Pod, chosen *candidate) *candidate {
	together := chosen != nil && slices.ContainsFunc(chosen.victims, func(p *framework.Pod) bool {
		g := l.gangs.of(p.Pod)
		return g != nil && g.together()
	})
	if chosen != nil && !together {
		return chosen
	}
	if !together && !l.lends(l.wantOf(pod)) && !l.disruptible(priority(pod)) {
		return nil
	}
	return l.preemptWhole(ctx, pod)
}

// lends says whether others borrow what a queue may take back for w.
func (l *loop) lends(w queues.Want) bool {
	cohort := l.quotas.book.Cohort(w.Queue)
	if cohort == "" || !l.quotas.book.Within(w) {
		return false
	}
	for name := range l.quotas.queues {
		if name != w.Queue && l.quotas.book.Cohort(name) == cohort && len(l.quotas.book.Borrowed(name)) > 0 {
			return true
		}
	}
	return false
}

// disruptible says whether there is a gang that is only disrupted as a whole and less important.
func (l *loop) disruptible(priority int32) bool {
	for _, g := range l.gangs.groups {
		if g.together() && g.priority() < priority {
			return true
		}
	}
	return false
}

// timedOut tells groups that have waited too long, and takes those off their nodes that are there in part only and can't
// be completed. It is called every second.
func (l *loop) timedOut(now time.Time) {
	for _, g := range l.gangs.groups {
		if g.object == nil || g.since.IsZero() || g.plain() {
			continue
		}
		timeout := api.GroupTimeout(g.object)
		if start := latest(g.since, g.told); now.Sub(start) < timeout {
			continue
		}
		g.told = now
		l.groupTimedOut(g, now, timeout)
	}
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (l *loop) groupTimedOut(g *group, now time.Time, timeout time.Duration) {
	var parted []*corev1.Pod
	alive := l.alive(g)
	for _, p := range alive {
		if p.Spec.NodeName != "" {
			parted = append(parted, p.Pod)
		}
	}
	message := fmt.Sprintf("%s has waited for its nodes for %v, longer than %v; it makes way for others for as long", g.name(), now.Sub(g.since).Round(time.Second), timeout)
	if !g.done && len(parted) > 0 && len(alive) < g.min() {
		message = fmt.Sprintf("%s has had only %d of %d members on nodes for %v; they are ended, so that nobody waits for what they hold", g.name(), len(parted), g.min(), timeout)
		l.endMembers(g, parted)
	}
	l.groupEvent(g.object, corev1.EventTypeWarning, "GroupTimeout", message)
	l.quotaDone(l.quotas.of[namespaceOf(g.key)], g.name())
	for uid := range g.waiting {
		if p := l.queue.waits[uid]; p != nil {
			p.backoff, p.woken = now.Add(min(timeout, longestPark)), true
			l.queue.next = time.Time{}
		}
	}
}
