package scheduler

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
)

func podGroupsResource() schema.GroupVersionResource {
	return schedulingv1beta1.SchemeGroupVersion.WithResource("podgroups")
}

func queuesResource() schema.GroupVersionResource {
	return api.SchedulingGroupVersion().WithResource("queues")
}

// outbox is what is to be written about groups and queues, in order. Adding never waits.
type outbox struct {
	mu    sync.Mutex // guards todo
	todo  []func(context.Context)
	ready chan struct{}
}

func newOutbox() *outbox { return &outbox{ready: make(chan struct{}, 1)} }

func (o *outbox) add(write func(context.Context)) {
	o.mu.Lock()
	o.todo = append(o.todo, write)
	o.mu.Unlock()
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// run writes until ctx ends.
func (o *outbox) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.ready:
		}
		o.mu.Lock()
		todo := o.todo
		o.todo = nil
		o.mu.Unlock()
		for _, write := range todo {
			if ctx.Err() != nil {
				return nil
			}
			write(ctx)
		}
	}
}

// tick tells the loop that a second has passed, as one of its changes.
func (l *loop) tick(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.cfg.Clock.After(time.Second):
		}
		if !send(ctx, l.changes, change{gvr: schema.GroupVersionResource{Resource: tickResource}}) {
			return nil
		}
	}
}

const tickResource = "tick"

// applyTogether records an object of groups and queues, and what they need of others.
func (l *loop) applyTogether(object any) {
	switch obj := object.(type) {
	case *corev1.Pod:
		l.sawPod(obj)
		if (obj.Status.Phase == corev1.PodSucceeded || obj.Status.Phase == corev1.PodFailed) && l.state.NodeOf(obj.UID) != "" {
			l.quotaFreed(obj.Namespace)
		}
	case *corev1.Namespace:
		l.sawNamespace(obj.Name, obj.Labels)
	case *schedulingv1beta1.PodGroup:
		l.sawGroup(obj)
	case *api.Queue:
		l.sawQueue(obj)
	}
}

// forgetTogether is applyTogether for what is gone.
func (l *loop) forgetTogether(resource, key string, uid types.UID) {
	switch resource {
	case podsResource.Resource:
		l.doneWaiting(key)
		l.gonePod(uid)
		if l.state.NodeOf(uid) != "" {
			l.quotaFreed(namespaceOf(key))
		}
	case namespacesResource.Resource:
		l.goneNamespace(key[indexAfterSlash(key):])
	case podGroupsResource().Resource:
		l.goneGroup(key)
	case queuesResource().Resource:
		l.goneQueue(key[indexAfterSlash(key):])
	}
}

// groupCondition has a condition of a PodGroup written.
func (l *loop) groupCondition(g *schedulingv1beta1.PodGroup, kind string, is bool, reason, message string) {
	status := metav1.ConditionFalse
	if is {
		status = metav1.ConditionTrue
	}
	for _, c := range g.Status.Conditions {
		if c.Type == kind && c.Status == status && c.Reason == reason && c.Message == message {
			return
		}
	}
	condition := metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: g.Generation,
		LastTransitionTime: metav1.NewTime(l.cfg.Clock.Now())}
	l.outbox.add(func(ctx context.Context) {
		if err := l.writeGroupCondition(ctx, g, condition); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
			l.cfg.Logger.Warn("condition was not written", "namespace", g.Namespace, "podgroup", g.Name, "error", err)
		}
	})
}

func (l *loop) writeGroupCondition(ctx context.Context, g *schedulingv1beta1.PodGroup, condition metav1.Condition) error {
	const attempts = 3
	var err error
	for range attempts {
		var current api.Object
		if current, err = l.cfg.Client.Get(ctx, podGroupsResource(), g.Namespace, g.Name); err != nil {
			return err
		}
		changed := current.DeepCopyObject().(*schedulingv1beta1.PodGroup)
		if changed.UID != g.UID || condition.Type == schedulingv1beta1.PodGroupInitiallyScheduled && condition.Status == metav1.ConditionFalse &&
			meta.IsStatusConditionTrue(changed.Status.Conditions, condition.Type) {
			return nil // once True it stays
		}
		if !meta.SetStatusCondition(&changed.Status.Conditions, condition) {
			return nil
		}
		if _, err = l.cfg.Client.Update(ctx, podGroupsResource(), "status", changed); !apierrors.IsConflict(err) {
			break
		}
	}
	return err
}

// groupEvent has an event about a PodGroup written.
func (l *loop) groupEvent(g *schedulingv1beta1.PodGroup, kind, reason, message string) {
	now := metav1.NewTime(l.cfg.Clock.Now())
	l.outbox.add(func(ctx context.Context) {
		_, err := l.cfg.Client.Create(ctx, eventsResource, &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: g.Namespace, Name: fmt.Sprintf("%s.%x", g.Name, now.UnixNano())},
			InvolvedObject: corev1.ObjectReference{APIVersion: schedulingv1beta1.SchemeGroupVersion.String(), Kind: "PodGroup",
				Namespace: g.Namespace, Name: g.Name, UID: g.UID, ResourceVersion: g.ResourceVersion},
			Reason: reason, Message: message, Type: kind, Count: 1, FirstTimestamp: now, LastTimestamp: now,
			Source: corev1.EventSource{Component: l.cfg.Name}, ReportingController: l.cfg.Name,
		})
		if err != nil && ctx.Err() == nil {
			l.cfg.Logger.Warn("event was not written", "namespace", g.Namespace, "podgroup", g.Name, "error", err)
		}
	})
}

// endPod ends a pod gracefully, and says why.
func (l *loop) endPod(ctx context.Context, pod *corev1.Pod, event, reason, message string) {
	err := l.updateStatus(ctx, pod, func(p *corev1.Pod) bool {
		return setCondition(&p.Status, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
			Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(l.cfg.Clock.Now())})
	})
	if !apierrors.IsNotFound(err) { // the condition is a courtesy
		uid := pod.UID
		err = l.cfg.Client.Delete(ctx, podsResource, pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	}
	switch {
	case err == nil:
		l.event(ctx, pod, nil, corev1.EventTypeWarning, event, message)
	case !apierrors.IsNotFound(err) && ctx.Err() == nil:
		l.cfg.Logger.Warn("pod was not ended", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
	}
}

// take takes a pod out of where it stands in the queue: it's about to be decided on.
func (q *queue) take(p *pending) {
	if p.index >= 0 {
		heap.Remove(&q.active, p.index)
	}
	delete(q.waits, p.pod.UID)
}

// giveBack makes a pod that was popped active again.
func (q *queue) giveBack(p *pending) { heap.Push(&q.active, p) }
