package daemonset

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/history"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/rollback"
)

// burst bounds how many pods one step creates or deletes.
const burst = 250

// input is everything that decide looks at. Nothing in it is changed.
type input struct {
	set       *appsv1.DaemonSet
	newest    *appsv1.ControllerRevision   // of the set's template
	revisions []*appsv1.ControllerRevision // all, the newest among them, oldest first
	pods      []*corev1.Pod                // that the set controls
	nodes     []*corev1.Node               // all
	now       time.Time
	// backoff is how long a pod that has ended waits for its successor on a node: nil is not at all.
	backoff func(node string) time.Duration
}

// plan is what to write, in this order: pods that end, pods that begin, revisions, set, status, events.
type plan struct {
	remove    []*corev1.Pod
	recreate  []*corev1.Pod // those of remove that have ended by themselves
	create    []string      // nodes that get a pod
	revisions []*appsv1.ControllerRevision
	forget    []*appsv1.ControllerRevision // beyond the history's limit
	spec      *appsv1.DaemonSet
	status    *appsv1.DaemonSetStatus
	events    []rollback.Event
	again     time.Duration
}

// place is a node with its pods.
type place struct {
	node      *corev1.Node
	run, stay bool
	pods      []*corev1.Pod // all
	alive     []*corev1.Pod // neither ended nor ending
}

type decider struct {
	input
	places []*place
	lost   []*corev1.Pod // for nodes that there aren't
	hash   string
	plan   plan
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
	x.manage()
	gone := map[*corev1.Pod]bool{}
	for _, p := range x.plan.remove {
		gone[p] = true
	}
	for _, pl := range x.places {
		pl.alive = slices.DeleteFunc(pl.alive, func(p *corev1.Pod) bool { return gone[p] })
	}
	x.update()
	x.plan.create, x.plan.remove = x.plan.create[:min(burst, len(x.plan.create))], x.plan.remove[:min(burst, len(x.plan.remove))]
	x.finish(reason, detail)
	return x.plan
}

func newDecider(in input) *decider {
	x := &decider{input: in, hash: history.HashOf(in.newest)}
	f, at := newFitter(in.set), map[string]*place{}
	for _, n := range in.nodes {
		p := &place{node: n}
		p.run, p.stay = f.fits(n)
		at[n.Name] = p
		x.places = append(x.places, p)
	}
	slices.SortFunc(x.places, func(a, b *place) int { return cmp.Compare(a.node.Name, b.node.Name) })
	for _, p := range in.pods {
		pl := at[nodeOf(p)]
		if pl == nil {
			x.lost = append(x.lost, p)
			continue
		}
		pl.pods = append(pl.pods, p)
		if reconcile.PodActive(p) {
			pl.alive = append(pl.alive, p)
		}
	}
	for _, pl := range x.places { // the one to keep first
		slices.SortFunc(pl.alive, x.better)
	}
	return x
}

// better sorts pods of one node, the one to keep first: available, of the newest revision, bound, older.
func (x *decider) better(a, b *corev1.Pod) int {
	first := func(f func(*corev1.Pod) bool) int {
		switch fa, fb := f(a), f(b); {
		case fa == fb:
			return 0
		case fa:
			return -1
		}
		return 1
	}
	return cmp.Or(first(x.available), first(x.isNew), first(func(p *corev1.Pod) bool { return p.Spec.NodeName != "" }),
		a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

func (x *decider) isNew(p *corev1.Pod) bool {
	return p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == x.hash
}

func (x *decider) available(p *corev1.Pod) bool {
	if !reconcile.PodActive(p) {
		return false
	}
	ok, in := reconcile.PodAvailable(p, x.set.Spec.MinReadySeconds, x.now)
	x.lookAgain(in)
	return ok
}

func (x *decider) lookAgain(in time.Duration) {
	if in > 0 && (x.plan.again == 0 || in < x.plan.again) {
		x.plan.again = in
	}
}

// newPod is the one of the newest revision on the node, oldPod the one of another: nil where there is none.
func (x *decider) newPod(pl *place) *corev1.Pod { return x.pick(pl, true) }
func (x *decider) oldPod(pl *place) *corev1.Pod { return x.pick(pl, false) }

func (x *decider) pick(pl *place, fresh bool) *corev1.Pod {
	for _, p := range pl.alive {
		if x.isNew(p) == fresh {
			return p
		}
	}
	return nil
}

func (x *decider) rolling() bool {
	t := x.set.Spec.UpdateStrategy.Type
	return t == "" || t == appsv1.RollingUpdateDaemonSetStrategyType
}

// limits resolves maxUnavailable and maxSurge, both rounded up, of the nodes that should run a pod. Without a surge one
// at least may be unavailable.
func (x *decider) limits() (unavailable, surge int) {
	if !x.rolling() {
		return 0, 0
	}
	desired := 0
	for _, pl := range x.places {
		if pl.run {
			desired++
		}
	}
	u, s := intstr.FromInt32(1), intstr.FromInt32(0)
	if r := x.set.Spec.UpdateStrategy.RollingUpdate; r != nil {
		if r.MaxUnavailable != nil {
			u = *r.MaxUnavailable
		}
		if r.MaxSurge != nil {
			s = *r.MaxSurge
		}
	}
	unavailable, err1 := intstr.GetScaledValueFromIntOrPercent(&u, desired, true)
	surge, err2 := intstr.GetScaledValueFromIntOrPercent(&s, desired, true)
	if err1 != nil || err2 != nil || unavailable == 0 && surge == 0 { // validation refuses such objects
		return 1, 0
	}
	return unavailable, surge
}

// manage sees to it that every node that should run a pod has one, and no other.
func (x *decider) manage() {
	_, surge := x.limits()
	for _, pl := range x.places {
		for _, p := range pl.pods {
			if p.DeletionTimestamp == nil && reconcile.PodTerminal(p) {
				x.renew(pl, p)
			}
		}
		switch {
		case !pl.stay:
			x.plan.remove = append(x.plan.remove, pl.alive...)
		case len(pl.alive) == 0:
			// One that is ending still holds its ports and its place; where pods may surge it is not waited for.
			if pl.run && (len(pl.pods) == 0 || surge > 0 && !slices.ContainsFunc(pl.pods, reconcile.PodTerminal)) {
				x.plan.create = append(x.plan.create, pl.node.Name)
			}
		default:
			x.plan.remove = append(x.plan.remove, x.excess(pl, surge)...)
		}
	}
	for _, p := range x.lost {
		if p.Spec.NodeName == "" && p.DeletionTimestamp == nil { // bound ones are the pod garbage collector's
			x.plan.remove = append(x.plan.remove, p)
		}
	}
}

// excess are the pods of a node beyond the one, or, while pods surge, the one of each revision.
func (x *decider) excess(pl *place, surge int) (out []*corev1.Pod) {
	if surge == 0 {
		return pl.alive[1:]
	}
	fresh, old := x.newPod(pl), x.oldPod(pl)
	for _, p := range pl.alive {
		if p != fresh && p != old {
			out = append(out, p)
		}
	}
	return out
}

// renew removes a pod that has ended, unless it is to wait.
func (x *decider) renew(pl *place, p *corev1.Pod) {
	if x.backoff != nil && pl.stay {
		if in := x.backoff(pl.node.Name); in > 0 {
			x.lookAgain(in)
			return
		}
	}
	x.plan.remove = append(x.plan.remove, p)
	if pl.stay {
		x.plan.recreate = append(x.plan.recreate, p)
	}
}

func (x *decider) update() {
	switch unavailable, surge := x.limits(); {
	case !x.rolling():
	case surge > 0:
		x.surge(surge)
	default:
		x.replace(unavailable)
	}
}

// replace ends old pods, as many as may be unavailable; one that doesn't serve costs nothing.
func (x *decider) replace(budget int) {
	var serving []*corev1.Pod
	for _, pl := range x.places {
		if !pl.run {
			continue
		}
		switch old := x.oldPod(pl); {
		case len(pl.alive) == 0:
			budget--
		case old == nil:
			if !x.available(pl.alive[0]) {
				budget--
			}
		case !x.available(old):
			budget--
			x.plan.remove = append(x.plan.remove, old)
		default:
			serving = append(serving, old)
		}
	}
	x.plan.remove = append(x.plan.remove, serving[:min(len(serving), max(0, budget))]...)
}

// surge puts new pods beside old ones, on as many nodes as may have two, and ends an old one when the new one serves. An
// old one that doesn't serve gets its successor at once.
func (x *decider) surge(budget int) {
	var serving []string
	for _, pl := range x.places {
		fresh, old := x.newPod(pl), x.oldPod(pl)
		switch {
		case !pl.run || old == nil:
		case fresh == nil && x.available(old):
			serving = append(serving, pl.node.Name)
		case fresh == nil:
			budget--
			x.plan.create = append(x.plan.create, pl.node.Name)
		case x.available(fresh):
			x.plan.remove = append(x.plan.remove, old)
		default:
			budget--
		}
	}
	x.plan.create = append(x.plan.create, serving[:min(len(serving), max(0, budget))]...)
}

// counted works out the status from the pods that there are.
func (x *decider) counted() appsv1.DaemonSetStatus {
	old := &x.set.Status
	s := appsv1.DaemonSetStatus{ObservedGeneration: x.set.Generation, CollisionCount: old.CollisionCount, Conditions: slices.Clone(old.Conditions)}
	for _, pl := range x.places {
		switch {
		case pl.run:
			s.DesiredNumberScheduled++
		case len(pl.pods) > 0:
			s.NumberMisscheduled++
			continue
		}
		if !pl.run || len(pl.pods) == 0 {
			continue
		}
		s.CurrentNumberScheduled++
		if slices.ContainsFunc(pl.alive, func(p *corev1.Pod) bool { ok, _ := reconcile.PodReady(p); return ok }) {
			s.NumberReady++
		}
		if slices.ContainsFunc(pl.alive, x.available) {
			s.NumberAvailable++
		}
		if x.newPod(pl) != nil {
			s.UpdatedNumberScheduled++
		}
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
	return s
}

// finish works out the status, what remains in history, and what is told.
func (x *decider) finish(reason, detail string) {
	s := x.counted()
	if x.set.DeletionTimestamp == nil {
		x.tell(&s, reason, detail)
		w := x.workload()
		x.plan.forget = history.Excess(x.revisions, func(r *appsv1.ControllerRevision) bool { return x.inUse(r) || w.Keeps(r) }, x.set.Spec.RevisionHistoryLimit)
	}
	if !apiequality.Semantic.DeepEqual(s, x.set.Status) {
		x.plan.status = &s
	}
}

// inUse reports whether pods are of the revision.
func (x *decider) inUse(r *appsv1.ControllerRevision) bool {
	return r.Name == x.newest.Name || slices.ContainsFunc(x.pods, func(p *corev1.Pod) bool {
		return p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == history.HashOf(r)
	})
}
