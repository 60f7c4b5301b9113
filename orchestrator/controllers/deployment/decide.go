package deployment

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/rollback"
)

// input is everything that decide looks at. Nothing in it is changed.
type input struct {
	deployment *appsv1.Deployment
	sets       []*appsv1.ReplicaSet     // those that the deployment controls
	pods       map[string][]*corev1.Pod // their pods, by the set's UID
	now        time.Time
}

type event struct{ typ, reason, message string }

// plan is what to write, in this order: sets, deployment, status, events.
type plan struct {
	create *appsv1.ReplicaSet
	update []*appsv1.ReplicaSet
	remove []*appsv1.ReplicaSet
	spec   *appsv1.Deployment
	status *appsv1.DeploymentStatus
	events []event
	again  time.Duration
}

func podAvailable(p *corev1.Pod, minReady int32, now time.Time) bool {
	if !reconcile.PodActive(p) {
		return false
	}
	ok, _ := reconcile.PodAvailable(p, minReady, now)
	return ok
}

// decider carries one decision; sets it changes are copies.
type decider struct {
	input
	d       *appsv1.Deployment
	current *appsv1.ReplicaSet
	old     []*appsv1.ReplicaSet
	fresh   string // reason of a set that became the newest in this step
	plan    plan
}

func decide(in input) plan {
	x := &decider{input: in, d: in.deployment}
	x.current, x.old = split(x.d, in.sets)
	if x.d.DeletionTimestamp != nil {
		x.finish("", "")
		return x.plan
	}
	reason, detail := failed(x.d, x.current, x.podsOf(x.current), x.now)
	if reason != "" {
		if to := target(x.old); to != nil {
			x.plan.spec = rolledBack(x.d, x.current, to, reason, detail)
			if rolledOut(x.current) {
				x.put(unavailable(x.current))
			}
			return x.plan // the write brings the next step
		}
	}
	switch {
	case x.d.Spec.Paused || x.scaling():
		if x.current != nil {
			x.refresh()
		}
		x.scale()
		if x.d.Spec.Paused {
			x.cleanup()
		}
	case x.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		x.recreate()
	default:
		x.roll()
	}
	x.finish(reason, detail)
	return x.plan
}

func (x *decider) all() []*appsv1.ReplicaSet {
	if x.current == nil {
		return x.old
	}
	return append(slices.Clone(x.old), x.current)
}

func (x *decider) podsOf(rs *appsv1.ReplicaSet) []*corev1.Pod {
	if rs == nil {
		return nil
	}
	return x.pods[string(rs.UID)]
}

// put replaces a set by its changed copy in the decision's view and in the plan.
func (x *decider) put(rs *appsv1.ReplicaSet) {
	if rs == nil || rs.UID == "" && x.plan.create != nil {
		return
	}
	if x.current != nil && x.current.Name == rs.Name {
		x.current = rs
	}
	for i := range x.old {
		if x.old[i].Name == rs.Name {
			x.old[i] = rs
		}
	}
	for i := range x.plan.update {
		if x.plan.update[i].Name == rs.Name {
			x.plan.update[i] = rs
			return
		}
	}
	x.plan.update = append(x.plan.update, rs)
}

// resize changes a set's size and says so as Kubernetes does.
func (x *decider) resize(rs *appsv1.ReplicaSet, n int32) bool {
	have := replicasOf(rs.Spec.Replicas)
	c := rs.DeepCopy()
	setSizes(x.d, c)
	if have == n {
		if !apiequality.Semantic.DeepEqual(c.Annotations, rs.Annotations) {
			x.put(c)
		}
		return false
	}
	word := "up"
	if n < have {
		word = "down"
	}
	c.Spec.Replicas = &n
	x.put(c)
	x.plan.events = append(x.plan.events, event{corev1.EventTypeNormal, "ScalingReplicaSet",
		fmt.Sprintf("Scaled %s replica set %s from %d to %d", word, rs.Name, have, n)})
	return true
}

func (x *decider) nextRevision() int64 {
	var n int64
	for _, rs := range x.old {
		n = max(n, revision(rs))
	}
	return n + 1
}

// refresh keeps the newest set's revision and annotations right, and the deployment's revision.
func (x *decider) refresh() {
	rs, bumped := refreshed(x.d, x.current, x.nextRevision())
	if bumped {
		x.fresh = reasonFound
	}
	if !apiequality.Semantic.DeepEqual(rs, x.current) {
		x.put(rs)
	}
	x.setRevision(rs)
}

func (x *decider) setRevision(rs *appsv1.ReplicaSet) {
	if rev := rs.Annotations[annotationRevision]; rev != "" && x.d.Annotations[annotationRevision] != rev {
		n := x.d.DeepCopy()
		if n.Annotations == nil {
			n.Annotations = map[string]string{}
		}
		n.Annotations[annotationRevision] = rev
		x.plan.spec = n
	}
}

// ensure makes the newest set if there is none.
func (x *decider) ensure() {
	if x.current != nil {
		x.refresh()
		return
	}
	rs := newSet(x.d, x.nextRevision())
	n := x.newSize(rs)
	rs.Spec.Replicas = &n
	x.current, x.plan.create, x.fresh = rs, rs, reasonCreated
	x.setRevision(rs)
	if n > 0 {
		x.plan.events = append(x.plan.events, event{corev1.EventTypeNormal, "ScalingReplicaSet", fmt.Sprintf("Scaled up replica set %s from 0 to %d", rs.Name, n)})
	}
}

// newSize is how large the newest set may be now.
func (x *decider) newSize(rs *appsv1.ReplicaSet) int32 {
	n := replicasOf(x.d.Spec.Replicas)
	if x.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return n
	}
	var have int32
	if rs.UID != "" {
		have = replicasOf(rs.Spec.Replicas)
	}
	surge, _ := fenceposts(x.d)
	// A set that was just made smaller still has its pods until it acts: the ceiling counts them.
	room := n + surge - max(have, x.running(rs))
	for _, o := range x.old {
		room -= max(replicasOf(o.Spec.Replicas), x.running(o))
	}
	if room <= 0 {
		return have
	}
	return have + max(0, min(room, n-have))
}

func (x *decider) running(rs *appsv1.ReplicaSet) (n int32) {
	for _, p := range x.podsOf(rs) {
		if reconcile.PodActive(p) {
			n++
		}
	}
	return n
}

func (x *decider) scaling() bool {
	n := strconv.Itoa(int(replicasOf(x.d.Spec.Replicas)))
	for _, rs := range active(x.all()) {
		if v, ok := rs.Annotations[annotationDesired]; ok && v != n {
			return true
		}
	}
	return false
}

// scale changes sizes without rolling: the deployment was scaled, or is paused.
func (x *decider) scale() {
	n := replicasOf(x.d.Spec.Replicas)
	running := active(x.all())
	if len(running) <= 1 {
		rs := x.current
		if len(running) == 1 {
			rs = running[0]
		} else if rs == nil && len(x.old) > 0 {
			rs = x.old[len(x.old)-1]
		}
		if rs != nil {
			x.resize(rs, n)
		}
		return
	}
	if c := x.current; c != nil && c.Annotations[annotationDesired] == strconv.Itoa(int(n)) &&
		replicasOf(c.Spec.Replicas) == n && c.Status.AvailableReplicas == n {
		for _, rs := range active(x.old) {
			x.resize(rs, 0)
		}
		return
	}
	if x.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return
	}
	sizes := proportional(x.d, running)
	for _, rs := range running {
		x.resize(rs, sizes[rs.Name])
	}
}

func (x *decider) roll() {
	x.ensure()
	if x.plan.create != nil {
		return
	}
	n := replicasOf(x.d.Spec.Replicas)
	have := replicasOf(x.current.Spec.Replicas)
	if have > n {
		x.resize(x.current, n)
		return
	}
	if want := x.newSize(x.current); x.resize(x.current, want) {
		return
	}
	if x.shrinkOld() {
		return
	}
	x.cleanup()
}

// shrinkOld takes pods from the old sets: first those that don't serve, then, down to the floor,
// those that do.
func (x *decider) shrinkOld() bool {
	if specTotal(x.old) == 0 {
		return false
	}
	n := replicasOf(x.d.Spec.Replicas)
	floor := n - maxUnavailable(x.d)
	avail := func(rs *appsv1.ReplicaSet) int32 { return available(rs, x.d.Spec.MinReadySeconds, x.pods, x.now) }
	serving := avail(x.current)
	for _, rs := range x.old {
		serving += avail(rs)
	}
	changed := false
	// Pods that don't serve cost no availability; the set takes them first when it shrinks.
	budget := specTotal(x.all()) - floor - (replicasOf(x.current.Spec.Replicas) - avail(x.current))
	for _, rs := range slices.Clone(x.old) {
		have := replicasOf(rs.Spec.Replicas)
		idle := min(have-avail(rs), max(0, budget))
		if have == 0 || idle <= 0 {
			continue
		}
		changed = x.resize(rs, have-idle) || changed
		budget -= idle
	}
	spare := min(serving-floor, budget)
	for _, rs := range slices.Clone(x.old) {
		have := replicasOf(rs.Spec.Replicas)
		take := min(have, spare)
		if take <= 0 {
			continue
		}
		changed = x.resize(rs, have-take) || changed
		spare -= take
	}
	return changed
}

func (x *decider) recreate() {
	if x.current != nil {
		x.refresh()
	}
	changed := false
	for _, rs := range active(slices.Clone(x.old)) {
		changed = x.resize(rs, 0) || changed
	}
	if changed {
		return
	}
	for _, rs := range x.old {
		for _, p := range x.podsOf(rs) {
			if !reconcile.PodTerminal(p) { // also one that is still ending
				return
			}
		}
	}
	x.ensure()
	if x.plan.create == nil && !x.resize(x.current, replicasOf(x.d.Spec.Replicas)) {
		x.cleanup()
	}
}

// cleanup removes history beyond the limit, and never the revision that a rollback would need.
func (x *decider) cleanup() {
	if x.d.Spec.RevisionHistoryLimit == nil {
		return
	}
	s := counted(x.d, x.current, x.all(), x.now)
	if !x.d.Spec.Paused && !complete(x.d, &s) {
		return
	}
	var keep *appsv1.ReplicaSet
	if x.current == nil || !rolledOut(x.current) || x.probation() > 0 {
		keep = target(x.old)
	}
	var alive []*appsv1.ReplicaSet
	for _, rs := range x.old {
		if rs.DeletionTimestamp == nil {
			alive = append(alive, rs)
		}
	}
	slices.SortFunc(alive, func(a, b *appsv1.ReplicaSet) int { return int(revision(a) - revision(b)) })
	for i := range len(alive) - int(*x.d.Spec.RevisionHistoryLimit) {
		rs := alive[i]
		if rs != keep && rs.Status.Replicas == 0 && replicasOf(rs.Spec.Replicas) == 0 && rs.Generation <= rs.Status.ObservedGeneration {
			x.plan.remove = append(x.plan.remove, rs)
		}
	}
}

func (x *decider) probation() time.Duration {
	if x.current == nil {
		return 0
	}
	return probation(x.d, x.current, x.now)
}

// finish works out the status from what is planned.
func (x *decider) finish(reason, detail string) {
	s := counted(x.d, x.current, x.all(), x.now)
	prog := condition(s.Conditions, appsv1.DeploymentProgressing)
	if hasDeadline(x.d) && x.d.DeletionTimestamp == nil && (prog == nil || prog.Reason != reasonTimedOut) {
		switch {
		case x.d.Spec.Paused && (prog == nil || prog.Reason != reasonPaused):
			setCondition(&s, appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused", x.now, true)
		case !x.d.Spec.Paused && prog != nil && prog.Reason == reasonPaused:
			setCondition(&s, appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonResumed, "Deployment is resumed", x.now, true)
		}
	}
	if !x.d.Spec.Paused && x.d.DeletionTimestamp == nil {
		x.plan.again = progress(x.d, &s, x.current, x.all(), x.fresh, x.now)
		if left := x.probation(); left > 0 && (x.plan.again == 0 || left < x.plan.again) {
			x.plan.again = left // then history may shrink
		}
		x.plan.events = append(x.plan.events, tellRollback(x.d, &s, x.current, reason, detail, x.now)...)
		if c := x.current; c != nil && x.fresh == "" && replicasOf(x.d.Spec.Replicas) > 0 && complete(x.d, &s) && !rolledOut(c) {
			m := c.DeepCopy()
			rollback.Mark(m, c.Annotations[annotationRevision], x.now)
			x.put(m)
		}
	}
	x.forgetRollback()
	if !apiequality.Semantic.DeepEqual(s, x.d.Status) {
		x.plan.status = &s
	}
}

// forgetRollback drops the record of a rollback once a later update has completed: coming back to
// that same revision one day is an update like any other, and may fail like any other.
func (x *decider) forgetRollback() {
	if _, ok := readRecord(x.d); !ok || x.current == nil || isRollback(x.d, x.current) || !rolledOut(x.current) {
		return
	}
	if x.plan.spec == nil {
		x.plan.spec = x.d.DeepCopy()
	}
	delete(x.plan.spec.Annotations, api.AnnotationRolledBackFrom)
}
