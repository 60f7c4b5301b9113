package scheduler

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

// loop owns the state and the queue: only run touches them.
type loop struct {
	cfg      Config
	changes  chan change
	bindings chan binding
	bound    chan binding
	reports  chan report

	state   *framework.State
	queue   *queue
	assumed map[types.UID]*pending          // on a node in state, binding not yet seen in the watch
	synced  map[string]bool                 // by resource
	seen    map[string]map[string]types.UID // by resource: what there is, by namespace/name
	relist  map[string]map[string]types.UID // during a relist: what has come so far
}

// binding is one decision on its way to the store, and back with what came of it.
type binding struct {
	pending *pending
	pod     *corev1.Pod
	node    string
	err     error
}

func newLoop(cfg Config) *loop {
	return &loop{
		cfg:      cfg,
		changes:  make(chan change, 256),
		bindings: make(chan binding, 4*cfg.BindWriters),
		bound:    make(chan binding, 4*cfg.BindWriters),
		reports:  make(chan report, 1024),
		state:    framework.NewState(),
		queue:    newQueue(),
		assumed:  map[types.UID]*pending{},
		synced:   map[string]bool{},
		seen:     map[string]map[string]types.UID{},
		relist:   map[string]map[string]types.UID{},
	}
}

func (l *loop) run(ctx context.Context, ready chan<- struct{}) error {
	var timer <-chan time.Time
	announced := false
	for {
		// Everything that has happened comes before the next decision.
		select {
		case <-ctx.Done():
			return nil
		case c := <-l.changes:
			l.apply(c)
			continue
		case b := <-l.bound:
			l.settle(b)
			continue
		default:
		}
		if len(l.synced) == 3 {
			if !announced {
				announced = true
				close(ready)
			}
			next := l.queue.activate(l.cfg.Clock.Now())
			if p := l.queue.pop(); p != nil {
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
			l.apply(c)
		case b := <-l.bound:
			l.settle(b)
		case <-timer:
		}
	}
}

// schedule decides on one pod. It returns false when ctx has ended.
func (l *loop) schedule(ctx context.Context, p *pending) bool {
	pod := p.pod
	node, err := guarded(func() (string, error) {
		return decide(ctx, l.cfg.Plugins, l.cfg.Policy, pod, l.state)
	})
	if err != nil {
		l.queue.park(p, l.cfg.Clock.Now())
		l.send(report{pod: pod.Pod, err: err})
		if fit := (*FitError)(nil); !errors.As(err, &fit) {
			l.cfg.Logger.Error("scheduling failed", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
		}
		return true
	}
	l.state.SetPod(pod, node)
	l.assumed[pod.UID] = p
	for {
		select {
		case l.bindings <- binding{pending: p, pod: pod.Pod, node: node}:
			return true
		case b := <-l.bound: // writers that wait for us would never take the next binding
			l.settle(b)
		case <-ctx.Done():
			return false
		}
	}
}

// writeBindings is one of the writers.
func (l *loop) writeBindings(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case b := <-l.bindings:
			b.err = l.cfg.Client.Bind(ctx, b.pod.Namespace, b.pod.Name, b.pod.UID, b.node)
			if !send(ctx, l.bound, b) {
				return nil
			}
		}
	}
}

// settle takes a decision back if its binding failed.
func (l *loop) settle(b binding) {
	if b.err == nil {
		l.send(report{pod: b.pod, node: b.node})
		return
	}
	if l.assumed[b.pod.UID] != b.pending {
		return // the watch has told us already
	}
	delete(l.assumed, b.pod.UID)
	l.state.RemovePod(b.pod.UID)
	if apierrors.IsNotFound(b.err) {
		l.queue.remove(b.pod.UID)
		return
	}
	// A conflict means that somebody bound or deleted it; if so the watch says it, if not we try again.
	l.queue.park(b.pending, l.cfg.Clock.Now())
	b.pending.woken = true
	l.send(report{pod: b.pod, err: b.err})
}

// apply records one event.
func (l *loop) apply(c change) {
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
	switch obj := c.event.Object.(type) {
	case *corev1.Pod:
		l.setPod(obj)
	case *corev1.Node:
		l.state.SetNode(obj)
		l.queue.wake()
	case *corev1.Namespace:
		l.state.SetNamespace(obj.Name, labels.Set(obj.Labels))
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
	switch resource {
	case podsResource.Resource:
		delete(l.assumed, uid)
		l.queue.remove(uid)
		l.state.RemovePod(uid)
		l.queue.wake()
	case nodesResource.Resource:
		l.state.RemoveNode(name)
	case namespacesResource.Resource:
		l.state.RemoveNamespace(name)
	}
}

func indexAfterSlash(key string) int {
	for i := range key {
		if key[i] == '/' {
			return i + 1
		}
	}
	return 0
}

func (l *loop) setPod(pod *corev1.Pod) {
	switch {
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		l.queue.remove(pod.UID)
		delete(l.assumed, pod.UID)
		if l.state.NodeOf(pod.UID) != "" {
			l.state.RemovePod(pod.UID)
			l.queue.wake()
		}
	case pod.Spec.NodeName != "":
		l.queue.remove(pod.UID)
		delete(l.assumed, pod.UID)
		// A pod that appears on a node may be what another one's affinity waits for.
		if l.state.NodeOf(pod.UID) == "" {
			l.queue.wake()
		}
		l.state.SetPod(framework.NewPod(pod), pod.Spec.NodeName)
	case l.assumed[pod.UID] != nil:
		// Our binding is under way; it or its failure tells us more.
	case pod.DeletionTimestamp != nil || len(pod.Spec.SchedulingGates) > 0 || pod.Spec.SchedulerName != l.cfg.Name:
		l.queue.remove(pod.UID)
	default:
		l.queue.set(framework.NewPod(pod))
	}
}

// send drops a report rather than wait for the writer: events are best effort, decisions are not.
func (l *loop) send(r report) {
	select {
	case l.reports <- r:
	default:
	}
}
