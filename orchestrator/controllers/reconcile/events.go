package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"

	"github.com/pintle/pintle/orchestrator/api"
)

// Bounds of a Recorder.
const (
	eventBuffer     = 1024             // events that wait to be written; more are dropped
	eventMemory     = 4096             // remembered series; beyond it memory starts afresh
	similarMax      = 10               // differing messages of one reason before they are combined
	similarInterval = 10 * time.Minute // within this time
	eventBurst      = 25               // events of one object, refilled every 5 minutes by one
	eventRefill     = 5 * time.Minute
)

type seriesKey struct {
	kind, namespace, name, uid, typ, reason, message, component string
}

type series struct {
	name  string
	count int32
	first time.Time
}

type similar struct {
	messages map[string]struct{}
	began    time.Time
}

type budget struct {
	tokens float64
	at     time.Time
}

type pendingEvent struct {
	component, typ, reason, message string
	ref                             corev1.ObjectReference
	at                              time.Time
}

// Recorder writes core/v1 Events through a Client. Emit never blocks and never fails its caller:
// events wait in a bounded buffer that Run drains; what doesn't fit is dropped and logged. The
// same event again bumps the count of the first; many alike are combined into one; and one object
// can't flood the store.
type Recorder struct {
	client Client
	clock  clock.WithDelayedExecution
	log    *slog.Logger
	queue  chan pendingEvent

	mu      sync.Mutex // guards what follows; held while an event is written, so that counts don't race
	series  map[seriesKey]*series
	similar map[seriesKey]*similar
	budgets map[seriesKey]*budget
	serial  uint64
}

// NewRecorder makes a Recorder. Its events are written while Run runs, or by Flush.
func NewRecorder(env Env) *Recorder {
	env = env.WithDefaults()
	return &Recorder{client: env.Client, clock: env.Clock, log: env.Logger, queue: make(chan pendingEvent, eventBuffer),
		series: map[seriesKey]*series{}, similar: map[seriesKey]*similar{}, budgets: map[seriesKey]*budget{}}
}

// Emit records an event of component about obj, of kind gvk. typ is corev1.EventTypeNormal or
// EventTypeWarning. Safe for concurrent use; a nil Recorder drops everything.
func (r *Recorder) Emit(component string, obj api.Object, gvk schema.GroupVersionKind, typ, reason, message string) {
	if r == nil {
		return
	}
	if len(message) > 1024 {
		message = message[:1021] + "..."
	}
	p := pendingEvent{component: component, typ: typ, reason: reason, message: message, at: r.clock.Now(),
		ref: corev1.ObjectReference{Kind: gvk.Kind, APIVersion: gvk.GroupVersion().String(), Namespace: obj.GetNamespace(),
			Name: obj.GetName(), UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion()}}
	select {
	case r.queue <- p:
	default:
		r.log.Warn("event dropped", "reason", reason, "object", obj.GetName())
	}
}

// Run writes events until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-r.queue:
			r.safeWrite(ctx, p)
		}
	}
}

// Flush writes what waits now. For tests and orderly stops.
func (r *Recorder) Flush(ctx context.Context) {
	for {
		select {
		case p := <-r.queue:
			r.safeWrite(ctx, p)
		default:
			return
		}
	}
}

func (r *Recorder) safeWrite(ctx context.Context, p pendingEvent) {
	defer func() {
		if v := recover(); v != nil {
			r.log.Error("writing an event panicked", "panic", v)
		}
	}()
	if err := r.write(ctx, p); err != nil && ctx.Err() == nil {
		r.log.Debug("event not written", "reason", p.reason, "object", p.ref.Name, "error", err)
	}
}

func (r *Recorder) write(ctx context.Context, p pendingEvent) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.series) > eventMemory || len(r.similar) > eventMemory || len(r.budgets) > eventMemory {
		clear(r.series)
		clear(r.similar)
		clear(r.budgets)
	}
	ns := p.ref.Namespace
	if ns == "" {
		ns = metav1.NamespaceDefault
	}
	object := seriesKey{kind: p.ref.Kind, namespace: ns, name: p.ref.Name, uid: string(p.ref.UID), component: p.component}
	if !r.spendLocked(object, p.at) {
		return nil
	}
	group := object
	group.typ, group.reason = p.typ, p.reason
	sim := r.similar[group]
	if sim == nil || p.at.Sub(sim.began) > similarInterval {
		sim = &similar{messages: map[string]struct{}{}, began: p.at}
		r.similar[group] = sim
	}
	key := group
	key.message = p.message
	if _, known := sim.messages[p.message]; !known && len(sim.messages) >= similarMax {
		key.message = ""
		p.message = "(combined from similar events): " + p.message
	} else {
		sim.messages[p.message] = struct{}{}
	}

	if s := r.series[key]; s != nil {
		done, err := r.bumpLocked(ctx, ns, s, p)
		if done || err != nil {
			return err
		}
	}
	r.serial++
	at := metav1.NewTime(p.at)
	// Namespaced and unique without a random source: time and a serial number.
	name := p.ref.Name + "." + strconv.FormatInt(p.at.UnixNano(), 16) + strconv.FormatUint(r.serial%256, 16)
	ev := &corev1.Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:     metav1.ObjectMeta{Namespace: ns, Name: name},
		InvolvedObject: p.ref, Type: p.typ, Reason: p.reason, Message: p.message, Count: 1,
		FirstTimestamp: at, LastTimestamp: at,
		Source:              corev1.EventSource{Component: p.component},
		ReportingController: p.component,
	}
	got, err := r.client.Create(ctx, Events(), ev)
	if err != nil {
		return fmt.Errorf("create event: %w", err)
	}
	r.series[key] = &series{name: got.GetName(), count: 1, first: p.at}
	return nil
}

// bumpLocked raises the count of an event that exists; done is false when it is gone.
func (r *Recorder) bumpLocked(ctx context.Context, ns string, s *series, p pendingEvent) (done bool, err error) {
	for range 3 {
		o, err := r.client.Get(ctx, Events(), ns, s.name)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("get event: %w", err)
		}
		ev, ok := o.DeepCopyObject().(*corev1.Event)
		if !ok {
			return false, nil
		}
		ev.Count++
		ev.Message = p.message
		ev.LastTimestamp = metav1.NewTime(p.at)
		_, err = r.client.Update(ctx, Events(), "", ev)
		switch {
		case err == nil:
			return true, nil
		case apierrors.IsNotFound(err):
			return false, nil
		case !apierrors.IsConflict(err):
			return false, fmt.Errorf("update event: %w", err)
		}
	}
	return true, nil
}

func (r *Recorder) spendLocked(object seriesKey, now time.Time) bool {
	b := r.budgets[object]
	if b == nil {
		b = &budget{tokens: eventBurst, at: now}
		r.budgets[object] = b
	}
	b.tokens = min(eventBurst, b.tokens+float64(now.Sub(b.at))/float64(eventRefill))
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
