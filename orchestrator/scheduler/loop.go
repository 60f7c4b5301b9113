package scheduler

import (
	"context"
	"errors"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

// loop owns the state and the queue: only run touches them.
type loop struct {
	cfg      Config
	changes  chan change
	bindings chan binding
	bound    chan binding
	reports  [reporters]chan report // by the pod's UID, so that one writer has all of a pod

	preemptions chan preemption
	preempted   chan types.UID // whose preemption has been written

	decider  *Decider
	claims   *plugins.DynamicResources // nil: no profile has it
	volumes  *plugins.VolumeBinding    // nil: no profile has it
	state    *framework.State          // the decider's
	policies *policyView               // the decider's
	changed  <-chan struct{}           // the policies
	queue    *queue
	gangs    *gangs
	quotas   *quotas
	outbox   *outbox
	budgets  map[string]budget // by namespace/name
	// nominated are pods without a node for which one is being cleared; inFlight those whose preemption is
	// being written.
	nominated map[types.UID]nomination
	inFlight  map[types.UID]bool
	assumed   map[types.UID]*pending          // on a node in state, binding not yet seen in the watch
	waiting   map[types.UID]*waitingPod       // of those, the ones that policies hold back
	unbound   map[types.UID]*waitingVolumes   // of those, the ones whose claims aren't bound yet
	prebound  []binding                       // that wait no longer: to be bound, or refused
	foreign   map[types.UID]*corev1.Pod       // without a node, of profiles that nobody serves here
	synced    map[string]bool                 // by resource
	seen      map[string]map[string]types.UID // by resource: what there is, by namespace/name
	relist    map[string]map[string]types.UID // during a relist: what has come so far
}

// binding is one decision on its way to the store, and back with what came of it.
type binding struct {
	pending *pending
	pod     *corev1.Pod
	to      Decision
	claims  *claimWrites  // nil: the pod has none
	volumes *volumeWrites // to be written first, and waited for; nil: none, or they are
	err     error
}

func newLoop(cfg Config) *loop {
	decider := NewDecider(cfg.Profiles...)
	decider.policies = newPolicyView(cfg.Policy)
	quotas := newQuotas()
	decider.state.Keep(quotas)
	l := &loop{
		cfg:      cfg,
		changes:  make(chan change, 256),
		bindings: make(chan binding, 4*cfg.BindWriters),
		bound:    make(chan binding, 4*cfg.BindWriters),
		decider:  decider,
		claims:   claimsOf(decider),
		volumes:  volumeBindingOf(decider),
		state:    decider.state,
		policies: decider.policies,
		queue:    newQueue(),
		gangs:    newGangs(),
		quotas:   quotas,
		outbox:   newOutbox(),

		preemptions: make(chan preemption, 64),
		preempted:   make(chan types.UID, 64),
		budgets:     map[string]budget{},
		nominated:   map[types.UID]nomination{},
		inFlight:    map[types.UID]bool{},

		assumed: map[types.UID]*pending{},
		waiting: map[types.UID]*waitingPod{},
		unbound: map[types.UID]*waitingVolumes{},
		foreign: map[types.UID]*corev1.Pod{},
		synced:  map[string]bool{},
		seen:    map[string]map[string]types.UID{},
		relist:  map[string]map[string]types.UID{},
	}
	for i := range l.reports {
		l.reports[i] = make(chan report, maxReports)
	}
	return l
}

func (l *loop) run(ctx context.Context, ready chan<- struct{}, explains <-chan explainRequest) error {
	var timer <-chan time.Time
	announced := false
	for {
		// Everything that has happened comes before the next decision.
		select {
		case <-ctx.Done():
			return nil
		case c := <-l.changes:
			l.apply(ctx, c)
			continue
		case <-l.policyChanges():
			if !l.policiesChanged(ctx) {
				return nil
			}
			continue
		case b := <-l.bound:
			l.settle(b)
			continue
		case uid := <-l.preempted:
			delete(l.inFlight, uid)
			continue
		case r := <-explains:
			l.explain(ctx, r)
			continue
		default:
		}
		if len(l.synced) == watched {
			if !announced {
				announced = true
				close(ready)
			}
			now := l.cfg.Clock.Now()
			expires := l.expire(now)
			if wait := l.expireVolumes(now); wait > 0 && (expires == 0 || wait < expires) {
				expires = wait
			}
			if !l.endWaits(ctx) {
				return nil
			}
			next := l.queue.activate(now)
			if next == 0 || expires > 0 && expires < next {
				next = expires
			}
			if l.cfg.observe {
				next = 0
			} else if p := l.next(); p != nil {
				if !l.schedule(ctx, p) {
					return nil
				}
				continue
			}
			timer = nil
			if next > 0 {
				timer = l.cfg.Clock.After(next)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case c := <-l.changes:
			l.apply(ctx, c)
		case <-l.policyChanges():
			if !l.policiesChanged(ctx) {
				return nil
			}
		case b := <-l.bound:
			l.settle(b)
		case uid := <-l.preempted:
			delete(l.inFlight, uid)
		case r := <-explains:
			l.explain(ctx, r)
		case <-timer:
		}
	}
}

// schedule decides on one pod. It returns false when ctx has ended.
func (l *loop) schedule(ctx context.Context, p *pending) bool {
	if taken, goesOn := l.scheduleTogether(ctx, p); taken {
		return goesOn
	}
	pod := p.pod
	to, err := l.place(ctx, pod)
	if err != nil {
		return l.refused(ctx, p, err)
	}
	delete(l.nominated, pod.UID)
	l.decider.Assume(pod, to)
	l.assumed[pod.UID] = p
	switch held, err := l.permit(ctx, p, to); {
	case err != nil:
		l.denied(p, err)
		return true
	case held:
		return ctx.Err() == nil
	}
	return l.bind(ctx, p, to)
}

// bind hands a decision to a writer. It returns false when ctx has ended.
func (l *loop) bind(ctx context.Context, p *pending, to Decision) bool {
	b := binding{pending: p, pod: p.pod.Pod, to: to}
	if b.volumes, b.err = l.volumesToWrite(b.pod.UID); b.err != nil {
		l.settle(b)
		return ctx.Err() == nil
	}
	return l.write(ctx, b)
}

// write hands a binding to a writer. It returns false when ctx has ended.
func (l *loop) write(ctx context.Context, b binding) bool {
	if b.volumes == nil {
		b.claims = l.claimsToWrite(b.pod)
	}
	for {
		select {
		case l.bindings <- b:
			return true
		case b := <-l.bound: // writers that wait for us would never take the next binding
			l.settle(b)
		case <-ctx.Done():
			return false
		}
	}
}

// place decides on a node, with the pods that are nominated to nodes in their places; what it decides must
// hold without them, too, for none of them may ever get there.
func (l *loop) place(ctx context.Context, pod *framework.Pod) (Decision, error) {
	restore := l.expect(pod)
	to, err := guarded(func() (Decision, error) { return l.decider.Decide(ctx, pod) })
	expected := restore()
	if err != nil || !expected {
		return to, err
	}
	return guarded(func() (Decision, error) {
		if fits(l.plugins(pod), pod, l.state, l.state.Node(to.Node)) {
			return to, nil
		}
		nodes := len(l.state.Nodes())
		return Decision{}, &FitError{Nodes: nodes, Reasons: map[string]int{"node(s) suit only beside pods that are nominated to them": nodes},
			Plugins: map[string]bool{"InterPodAffinity": true, "PodTopologySpread": true}}
	})
}

// plugins are those of the pod's profile.
func (l *loop) plugins(pod *framework.Pod) []framework.Plugin {
	return l.decider.profile(pod.Spec.SchedulerName).Plugins
}

// refused parks a pod that fits nowhere, and has a node cleared for it where that helps. It returns false
// when ctx has ended.
func (l *loop) refused(ctx context.Context, p *pending, err error) bool {
	pod := p.pod
	fit := (*FitError)(nil)
	if !errors.As(err, &fit) {
		l.cfg.Logger.Error("scheduling failed", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
		l.queue.park(p, l.cfg.Clock.Now(), nil)
		l.send(report{pod: pod.Pod, err: err})
		return true
	}
	var chosen *candidate
	waits := true // for a node that is being cleared for it
	if fit.Nodes > 0 && !l.inFlight[pod.UID] {
		chosen, fit.Preemption, waits = l.preempt(ctx, pod)
	}
	nominate := ""
	if chosen == nil && !l.inFlight[pod.UID] {
		nominate = l.postFilter(ctx, pod, fit)
	}
	l.queue.park(p, l.cfg.Clock.Now(), fit.Plugins)
	l.send(report{pod: pod.Pod, err: err})
	wanted := preemption{pod: pod.Pod}
	switch {
	case chosen != nil:
		l.nominated[pod.UID] = nomination{pod: pod, node: chosen.node.Name, leaving: chosen.leaving()}
		wanted.node, wanted.displaced = chosen.node.Name, l.displace(pod, chosen.node.Name)
		for _, v := range chosen.victims {
			if v.DeletionTimestamp == nil {
				wanted.victims = append(wanted.victims, v.Pod)
			}
		}
	case nominate != "" && nominate != pod.Status.NominatedNodeName:
		l.nominated[pod.UID] = nomination{pod: pod, node: nominate}
		wanted.node = nominate
	case nominate != "":
		return true
	case !waits && pod.Status.NominatedNodeName != "": // no node can be cleared any more
		delete(l.nominated, pod.UID)
	default:
		return true
	}
	l.inFlight[pod.UID] = true
	for {
		select {
		case l.preemptions <- wanted:
			return true
		case uid := <-l.preempted:
			delete(l.inFlight, uid)
		case b := <-l.bound:
			l.settle(b)
		case <-ctx.Done():
			return false
		}
	}
}

// displace takes a node from the less important pods that are nominated to it, and returns them.
func (l *loop) displace(pod *framework.Pod, node string) (displaced []*corev1.Pod) {
	for uid, n := range l.nominated {
		if n.node == node && priority(n.pod) < priority(pod) {
			delete(l.nominated, uid)
			displaced = append(displaced, n.pod.Pod)
		}
	}
	return displaced
}

// preempt is the pure preempt with what the loop knows. waits says that the pod's own node is being cleared.
func (l *loop) preempt(ctx context.Context, pod *framework.Pod) (chosen *candidate, why string, waits bool) {
	var cleared *framework.Node
	if n, ok := l.nominated[pod.UID]; ok {
		cleared = l.state.Node(n.node)
	}
	if why := mayPreempt(pod, cleared); why != "" {
		return nil, why, true
	}
	restore := l.expect(pod)
	defer restore()
	why, err := guarded(func() (why string, err error) {
		chosen, why, err = preempt(ctx, l.plugins(pod), l.policies, pod, l.state, slices.Collect(maps.Values(l.budgets)))
		return why, err
	})
	if err != nil {
		l.cfg.Logger.Error("preemption failed", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
		return nil, "", true
	}
	return l.wholeChoice(ctx, pod, chosen), why, false
}

// writeBindings is one of the writers.
func (l *loop) writeBindings(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case b := <-l.bindings:
			if b.volumes != nil {
				b.err = l.cfg.writeVolumes(ctx, b.volumes)
			} else {
				b.err = l.cfg.withClaims(ctx, b, func() error {
					return l.cfg.Client.Bind(ctx, b.pod.Namespace, b.pod.Name, b.pod.UID, b.to.Node, b.to.Annotations)
				})
			}
			if !send(ctx, l.bound, b) {
				return nil
			}
		}
	}
}

// settle takes a decision back if its binding failed.
func (l *loop) settle(b binding) {
	l.claimsWritten(b)
	switch {
	case b.err == nil && b.volumes != nil:
		l.volumesWritten(b)
		return
	case b.err == nil:
		l.send(report{pod: b.pod, node: b.to.Node})
		return
	}
	if l.assumed[b.pod.UID] != b.pending {
		return // the watch has told us already
	}
	delete(l.assumed, b.pod.UID)
	l.state.RemovePod(b.pod.UID)
	l.left(b.pending.pod, b.to.Node)
	if apierrors.IsNotFound(b.err) {
		l.queue.remove(b.pod.UID)
		return
	}
	// A conflict means that somebody bound or deleted it; if so the watch says it, if not we try again.
	l.queue.park(b.pending, l.cfg.Clock.Now(), nil)
	l.queue.wakeOne(b.pending)
	l.send(report{pod: b.pod, err: b.err})
}

// apply records one event.
func (l *loop) apply(ctx context.Context, c change) {
	if c.gvr.Resource == tickResource {
		if len(l.synced) == watched {
			l.everySecond(l.cfg.Clock.Now())
		}
		return
	}
	resource := c.gvr.Resource
	if c.relist {
		l.relist[resource] = map[string]types.UID{}
		return
	}
	if c.event.Type == watch.Bookmark {
		l.endRelist(resource)
		return
	}
	meta, ok := c.event.Object.(interface {
		GetNamespace() string
		GetName() string
		GetUID() types.UID
	})
	if !ok {
		return
	}
	key := meta.GetNamespace() + "/" + meta.GetName()
	if l.seen[resource] == nil {
		l.seen[resource] = map[string]types.UID{}
	}
	if c.event.Type == watch.Deleted {
		l.forget(resource, key, meta.GetUID())
		return
	}
	// The same name with another UID: we missed the end of the first.
	if uid, ok := l.seen[resource][key]; ok && uid != meta.GetUID() {
		l.forget(resource, key, uid)
	}
	l.seen[resource][key] = meta.GetUID()
	if came := l.relist[resource]; came != nil {
		came[key] = meta.GetUID()
	}
	l.applyTogether(c.event.Object)
	l.setClaims(c.event.Object)
	l.setVolumes(c.event.Object)
	switch obj := c.event.Object.(type) {
	case *corev1.Pod:
		l.setPod(ctx, obj)
	case *corev1.Node:
		var before *corev1.Node
		if n := l.state.Node(obj.Name); n != nil {
			before = n.Node
		}
		l.state.SetNode(obj)
		if nodeMayHelp(before, obj) {
			l.wake(hint{node: l.state.Node(obj.Name)})
		}
	case *corev1.Namespace:
		if have := l.state.NamespaceLabels(obj.Name); !maps.Equal(have, obj.Labels) {
			l.queue.wake(waitsForPods)
		}
		l.state.SetNamespace(obj.Name, labels.Set(obj.Labels))
	case *policyv1.PodDisruptionBudget:
		l.budgets[key] = newBudget(obj)
	}
}

func (l *loop) endRelist(resource string) {
	came := l.relist[resource]
	if came == nil {
		return
	}
	delete(l.relist, resource)
	for key, uid := range l.seen[resource] {
		if came[key] != uid {
			l.forget(resource, key, uid)
		}
	}
	l.synced[resource] = true
}

func (l *loop) forget(resource, key string, uid types.UID) {
	if l.seen[resource][key] == uid {
		delete(l.seen[resource], key)
	}
	name := key[indexAfterSlash(key):]
	l.forgetClaims(resource, key, uid)
	l.forgetVolumes(resource, key, uid)
	l.forgetTogether(resource, key, uid)
	switch resource {
	case podsResource.Resource:
		left, node := l.state.Pod(uid), l.state.NodeOf(uid)
		if n, ok := l.nominated[uid]; left == nil && ok { // its room is nobody's any more
			left, node = n.pod, n.node
		}
		l.forgotten(uid)
		delete(l.assumed, uid)
		delete(l.nominated, uid)
		l.queue.remove(uid)
		l.state.RemovePod(uid)
		if left != nil {
			l.left(left, node)
		}
	case nodesResource.Resource:
		l.state.RemoveNode(name)
		l.lookAtVolumes()
	case namespacesResource.Resource:
		l.state.RemoveNamespace(name)
	case budgetsResource.Resource:
		delete(l.budgets, key)
	}
}

// waitsForPods says whether a pod that comes, or whose labels change, may help one that these plugins refused.
func waitsForPods(refused map[string]bool) bool {
	return refused["InterPodAffinity"] || refused["PodTopologySpread"] || refused[policyPlugin]
}

func indexAfterSlash(key string) int {
	for i := range key {
		if key[i] == '/' {
			return i + 1
		}
	}
	return 0
}

func (l *loop) setPod(ctx context.Context, pod *corev1.Pod) {
	switch {
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		l.forgotten(pod.UID)
		l.queue.remove(pod.UID)
		delete(l.assumed, pod.UID)
		delete(l.nominated, pod.UID)
		if left, node := l.state.Pod(pod.UID), l.state.NodeOf(pod.UID); left != nil {
			l.state.RemovePod(pod.UID)
			l.left(left, node)
		}
	case pod.Spec.NodeName != "":
		l.forgotten(pod.UID)
		l.queue.remove(pod.UID)
		delete(l.assumed, pod.UID)
		delete(l.nominated, pod.UID)
		// A pod that appears on a node, or has other labels, may be what another one's affinity waits for.
		have, p := l.state.Pod(pod.UID), framework.NewPod(l.ranked(pod))
		l.state.SetPod(p, pod.Spec.NodeName)
		if have == nil || have.Kind() != p.Kind() {
			l.wake(hint{other: p, came: true})
		}
		if have != nil && (p.Request.MilliCPU < have.Request.MilliCPU || p.Request.Memory < have.Request.Memory) { // it was resized
			l.left(have, pod.Spec.NodeName)
		}
	case l.assumed[pod.UID] != nil:
		// Our binding is under way; it or its failure tells us more.
	case pod.DeletionTimestamp != nil || len(pod.Spec.SchedulingGates) > 0 || !l.takes(pod.Spec.SchedulerName):
		l.foreignPod(pod)
		l.queue.remove(pod.UID)
		delete(l.nominated, pod.UID)
	default:
		p := framework.NewPod(l.ranked(pod))
		l.arrived(pod)
		l.queue.set(p, l.queueKey(ctx, p))
		switch have, ok := l.nominated[pod.UID]; {
		case ok && (l.inFlight[pod.UID] || have.node == pod.Status.NominatedNodeName):
			have.pod = p
			l.nominated[pod.UID] = have
		case pod.Status.NominatedNodeName != "": // also after a restart
			l.nominated[pod.UID] = nomination{pod: p, node: pod.Status.NominatedNodeName}
		default:
			delete(l.nominated, pod.UID)
		}
	}
}

// reporters is how many write events and conditions at a time, maxReports how many reports wait for each.
const (
	reporters  = 4
	maxReports = 4096
)

// send drops a report rather than wait for the writer: events are best effort, decisions are not.
func (l *loop) send(r report) {
	select {
	case l.reports[hash(r.pod.UID)%reporters] <- r:
	default:
	}
}

func hash(uid types.UID) uint32 {
	h := fnv.New32a()
	h.Write([]byte(uid))
	return h.Sum32()
}
