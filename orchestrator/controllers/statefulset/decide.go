package statefulset

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/history"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/rollback"
)

// burst bounds how many pods one step creates or deletes.
const burst = 500

// input is everything that decide looks at. Nothing in it is changed.
type input struct {
	set       *appsv1.StatefulSet
	newest    *appsv1.ControllerRevision   // of the set's template
	revisions []*appsv1.ControllerRevision // all, the newest among them, oldest first
	pods      []*corev1.Pod                // that the set controls; each has a name of the set's
	now       time.Time
	// backoff is how long a pod that has ended waits for its successor: nil is not at all.
	backoff func(*corev1.Pod) time.Duration
}

type creation struct {
	ordinal  int
	revision *appsv1.ControllerRevision
}

// plan is what to write, in this order: labels, pods that end, pods that begin, revisions, set, status, events.
type plan struct {
	relabel   []*corev1.Pod // with the labels of their identity
	remove    []*corev1.Pod
	recreate  []*corev1.Pod // those of remove that have ended by themselves
	create    []creation
	revisions []*appsv1.ControllerRevision // changed
	forget    []*appsv1.ControllerRevision // beyond the history's limit
	spec      *appsv1.StatefulSet
	status    *appsv1.StatefulSetStatus
	events    []rollback.Event
	again     time.Duration
}

// decider carries one decision.
type decider struct {
	input
	at        map[int]*corev1.Pod // by ordinal, those that are wanted
	condemned []*corev1.Pod       // the others, highest ordinal first
	current   *appsv1.ControllerRevision
	plan      plan
}

func decide(in input) plan {
	x := newDecider(in)
	if x.set.DeletionTimestamp != nil {
		x.finish("", "")
		return x.plan
	}
	reason, detail := x.workload().Failed()
	if reason != "" && x.rollBack(reason, detail) {
		return x.plan // the write brings the next step
	}
	x.identify()
	if x.set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement {
		x.parallel()
	} else {
		x.ordered()
	}
	x.finish(reason, detail)
	return x.plan
}

func newDecider(in input) *decider {
	x := &decider{input: in, at: map[int]*corev1.Pod{}, current: in.newest}
	for _, r := range in.revisions {
		if r.Name == in.set.Status.CurrentRevision {
			x.current = r
		}
	}
	first, n := start(in.set), replicas(in.set)
	for _, p := range in.pods {
		if o, ok := ordinalOf(in.set, p.Name); ok && o >= first && o < first+n {
			x.at[o] = p
		} else if ok {
			x.condemned = append(x.condemned, p)
		}
	}
	slices.SortFunc(x.condemned, func(a, b *corev1.Pod) int { return cmp.Compare(x.ordinal(b), x.ordinal(a)) })
	return x
}

func (x *decider) ordinal(p *corev1.Pod) int {
	n, _ := ordinalOf(x.set, p.Name)
	return n
}

func revisionOf(p *corev1.Pod) string { return p.Labels[appsv1.ControllerRevisionHashLabelKey] }

// ready reports whether the pod runs and is ready, which is when the next one may follow.
func ready(p *corev1.Pod) bool {
	ok, _ := reconcile.PodReady(p)
	return ok && p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil
}

func (x *decider) available(p *corev1.Pod) bool {
	if !ready(p) {
		return false
	}
	ok, in := reconcile.PodAvailable(p, x.set.Spec.MinReadySeconds, x.now)
	if in > 0 {
		x.lookAgain(in)
	}
	return ok
}

func (x *decider) lookAgain(in time.Duration) {
	if in > 0 && (x.plan.again == 0 || in < x.plan.again) {
		x.plan.again = in
	}
}

func (x *decider) rolling() *appsv1.RollingUpdateStatefulSetStrategy {
	if t := x.set.Spec.UpdateStrategy.Type; t != "" && t != appsv1.RollingUpdateStatefulSetStrategyType {
		return nil
	}
	if r := x.set.Spec.UpdateStrategy.RollingUpdate; r != nil {
		return r
	}
	return &appsv1.RollingUpdateStatefulSetStrategy{}
}

// partition is the first ordinal that updates reach.
func (x *decider) partition() int {
	if r := x.rolling(); r != nil && r.Partition != nil {
		return start(x.set) + int(*r.Partition)
	}
	return start(x.set)
}

// maxUnavailable is at least 1: percentages are rounded up.
func (x *decider) maxUnavailable() int {
	v := intstr.FromInt32(1)
	if r := x.rolling(); r != nil && r.MaxUnavailable != nil {
		v = *r.MaxUnavailable
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(&v, replicas(x.set), true)
	if err != nil {
		n = 1
	}
	return max(1, n)
}

// revisionFor is of which revision an ordinal's pod is made: below the partition of the one that all were of last.
func (x *decider) revisionFor(ordinal int) *appsv1.ControllerRevision {
	if x.rolling() != nil && ordinal < x.partition() {
		return x.current
	}
	return x.newest
}

// identify gives pods that were adopted, or whose labels somebody changed, their identity back.
func (x *decider) identify() {
	for _, p := range x.pods {
		if p.DeletionTimestamp != nil {
			continue
		}
		n := *p
		n.Labels = maps.Clone(p.Labels)
		if identify(x.set, &n, x.ordinal(p)) {
			x.plan.relabel = append(x.plan.relabel, n.DeepCopy())
		}
	}
}

func (x *decider) remove(p *corev1.Pod) { x.plan.remove = append(x.plan.remove, p) }

// renew removes a pod that has ended, unless it is to wait; its ordinal is then free for its successor.
func (x *decider) renew(p *corev1.Pod) {
	if x.backoff != nil {
		if in := x.backoff(p); in > 0 {
			x.lookAgain(in)
			return
		}
	}
	x.remove(p)
	x.plan.recreate = append(x.plan.recreate, p)
}

func (x *decider) create(ordinal int) {
	x.plan.create = append(x.plan.create, creation{ordinal, x.revisionFor(ordinal)})
}

// ordered does one thing at a time: a pod follows when all before it are available, and ends when all after it have.
func (x *decider) ordered() {
	if x.replaceBroken(1) {
		return
	}
	first := start(x.set)
	for o := first; o < first+replicas(x.set); o++ {
		p := x.at[o]
		switch {
		case p == nil:
			x.create(o)
			return
		case p.DeletionTimestamp != nil:
			return
		case reconcile.PodTerminal(p):
			x.renew(p)
			return
		case !x.available(p):
			return
		}
	}
	if len(x.condemned) > 0 {
		p := x.condemned[0]
		// A pod that isn't ready waits for those before it, which must be ready first.
		waits := !ready(p) && !reconcile.PodTerminal(p) && slices.ContainsFunc(x.condemned[1:], func(q *corev1.Pod) bool { return !ready(q) })
		if p.DeletionTimestamp == nil && !waits {
			x.remove(p)
		}
		return
	}
	x.update()
}

// parallel creates and ends pods without waiting; updates go in order all the same.
func (x *decider) parallel() {
	first := start(x.set)
	for o := first; o < first+replicas(x.set) && len(x.plan.create)+len(x.plan.recreate) < burst; o++ {
		switch p := x.at[o]; {
		case p == nil:
			x.create(o)
		case p.DeletionTimestamp == nil && reconcile.PodTerminal(p):
			x.renew(p)
		}
	}
	for _, p := range x.condemned {
		if p.DeletionTimestamp == nil && len(x.plan.remove) < burst {
			x.remove(p)
		}
	}
	x.replaceBroken(burst)
	x.update()
}

// descending lists the wanted pods, highest ordinal first.
func (x *decider) descending() []*corev1.Pod {
	out := slices.Collect(maps.Values(x.at))
	slices.SortFunc(out, func(a, b *corev1.Pod) int { return cmp.Compare(x.ordinal(b), x.ordinal(a)) })
	return out
}

// broken reports whether the pod stands in the way of its own replacement: it isn't ready, is of another revision than it
// should be, and nothing says that it will ever be ready.
func (x *decider) broken(p *corev1.Pod) bool {
	r := revisionOf(p)
	if ready(p) || p.DeletionTimestamp != nil || reconcile.PodTerminal(p) || r == x.revisionFor(x.ordinal(p)).Name || r == x.newest.Name {
		return false
	}
	if r != x.current.Name {
		return true // of an update that was given up
	}
	return rollback.Crashing(p) != "" || x.current.Annotations[api.AnnotationAvailableSince] == "" // it never worked
}

// replaceBroken removes up to n broken pods, highest ordinal first. One at a time means also: none while another ends.
func (x *decider) replaceBroken(n int) bool {
	if x.rolling() == nil {
		return false // OnDelete: by hand
	}
	if n == 1 && slices.ContainsFunc(x.pods, func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil }) {
		return false
	}
	removed := 0
	for _, p := range x.descending() {
		if removed < n && x.broken(p) {
			x.remove(p)
			removed++
		}
	}
	return removed > 0
}

// update replaces pods of other revisions, from the highest ordinal down to the partition, as many at a time as may be
// unavailable. A pod that isn't available costs nothing.
func (x *decider) update() {
	if x.rolling() == nil {
		return
	}
	serving := 0
	for _, p := range x.at {
		if x.available(p) {
			serving++
		}
	}
	budget := x.maxUnavailable() - (replicas(x.set) - serving)
	for _, p := range x.descending() {
		if x.ordinal(p) < x.partition() {
			return
		}
		if p.DeletionTimestamp != nil || reconcile.PodTerminal(p) || revisionOf(p) == x.newest.Name || slices.Contains(x.plan.remove, p) {
			continue
		}
		if x.available(p) {
			if budget <= 0 {
				return
			}
			budget--
		}
		if len(x.plan.remove) < burst {
			x.remove(p)
		}
	}
}

// counted works out the status from the pods that there are.
func (x *decider) counted() appsv1.StatefulSetStatus {
	old := &x.set.Status
	s := appsv1.StatefulSetStatus{ObservedGeneration: x.set.Generation, CollisionCount: old.CollisionCount, Conditions: slices.Clone(old.Conditions),
		CurrentRevision: x.current.Name, UpdateRevision: x.newest.Name}
	for _, p := range x.pods {
		s.Replicas = add(s.Replicas, true)
		s.ReadyReplicas = add(s.ReadyReplicas, ready(p))
		s.AvailableReplicas = add(s.AvailableReplicas, x.available(p))
		alive := reconcile.PodActive(p)
		s.CurrentReplicas = add(s.CurrentReplicas, alive && revisionOf(p) == x.current.Name)
		s.UpdatedReplicas = add(s.UpdatedReplicas, alive && revisionOf(p) == x.newest.Name)
	}
	if x.complete(&s) {
		s.CurrentRevision, s.CurrentReplicas = s.UpdateRevision, s.UpdatedReplicas
	}
	return s
}

func add(n int32, one bool) int32 {
	if one && n < math.MaxInt32 {
		n++
	}
	return n
}

// complete reports whether every pod is of the newest revision and available, and none is too many.
func (x *decider) complete(s *appsv1.StatefulSetStatus) bool {
	n := int32(min(replicas(x.set), math.MaxInt32))
	return s.Replicas == n && s.UpdatedReplicas == n && s.AvailableReplicas == n
}

// finish works out the status, what remains in history, and what is told.
func (x *decider) finish(reason, detail string) {
	s := x.counted()
	if x.set.DeletionTimestamp == nil {
		x.tell(&s, reason, detail)
		x.remember(&s)
		w := x.workload()
		x.plan.forget = history.Excess(x.revisions, func(r *appsv1.ControllerRevision) bool { return x.inUse(r) || w.Keeps(r) }, x.set.Spec.RevisionHistoryLimit)
	}
	if !apiequality.Semantic.DeepEqual(s, x.set.Status) {
		x.plan.status = &s
	}
}

// inUse reports whether pods are of the revision, or are still made of it.
func (x *decider) inUse(r *appsv1.ControllerRevision) bool {
	return r.Name == x.newest.Name || r.Name == x.current.Name ||
		slices.ContainsFunc(x.pods, func(p *corev1.Pod) bool { return revisionOf(p) == r.Name })
}
