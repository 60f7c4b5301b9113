// Package reconciletest has an in-memory Client for the tests of controllers: watches, finalizers,
// graceful pod deletion, generations and subresources as the API server has them, and faults on
// request. It is independent of the registry.
package reconciletest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Faults are probabilities between 0 and 1 of what goes wrong in calls of Fake.Faulty's clients.
type Faults struct {
	Conflict float64 // an Update is answered with a Conflict
	Error    float64 // a call is answered with an InternalError before it does anything
	Lost     float64 // a write happens and its answer is lost: the caller sees a Timeout
	Stale    float64 // a read misses the last write of somebody else (one's own are always seen)
	Slow     float64 // a call sleeps for Delay first
	Delay    time.Duration
	Closed   float64 // a watch is closed after an event
}

type entry struct {
	obj  api.Object
	prev api.Object // before the last write, if that was somebody else's
	mine bool       // the last write came from a faulty client
}

type key struct {
	gvr             schema.GroupVersionResource
	namespace, name string
}

type watcher struct {
	gvr    schema.GroupVersionResource
	ch     chan watch.Event
	fake   *Fake
	closed bool // guarded by fake.mu
	faulty *view
}

func (w *watcher) ResultChan() <-chan watch.Event { return w.ch }

func (w *watcher) Stop() {
	w.fake.mu.Lock()
	defer w.fake.mu.Unlock()
	w.fake.closeLocked(w)
}

// Fake is a cluster's state. It satisfies reconcile.Client without faults. Safe for concurrent use.
type Fake struct {
	now func() time.Time

	mu       sync.Mutex
	rev      int64
	objs     map[key]*entry
	watchers map[*watcher]struct{}
	writes   int
	creates  map[string]int // by resource
	hook     func(verb string, gvr schema.GroupVersionResource, obj api.Object) error
}

var _ reconcile.Client = (*Fake)(nil)

// New makes a Fake that holds objs (which must know their GVR by type, see Resource). now stamps
// objects; nil is time.Now.
func New(now func() time.Time) *Fake {
	if now == nil {
		now = time.Now
	}
	return &Fake{now: now, objs: map[key]*entry{}, watchers: map[*watcher]struct{}{}, creates: map[string]int{}}
}

// OnWrite has f called before every write; its error is the answer. verb is create, update,
// update/status, … or delete. f must not call the Fake.
func (f *Fake) OnWrite(h func(verb string, gvr schema.GroupVersionResource, obj api.Object) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = h
}

// Writes counts the writes that changed something.
func (f *Fake) Writes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

// Creates counts the objects of a resource that were ever created.
func (f *Fake) Creates(resource string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.creates[resource]
}

// Faulty returns a client of the same state on which faults happen, by a random source of seed.
func (f *Fake) Faulty(faults Faults, seed uint64) reconcile.Client {
	return &view{fake: f, faults: faults, rng: rand.New(rand.NewPCG(seed, 1))}
}

func resource(gvr schema.GroupVersionResource) schema.GroupResource { return gvr.GroupResource() }

func (f *Fake) Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (api.Object, error) {
	return f.get(gvr, namespace, name, nil)
}

func (f *Fake) get(gvr schema.GroupVersionResource, namespace, name string, stale func() bool) (api.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.objs[key{gvr, namespace, name}]
	if e == nil {
		return nil, apierrors.NewNotFound(resource(gvr), name)
	}
	o := e.see(stale)
	if o == nil {
		return nil, apierrors.NewNotFound(resource(gvr), name)
	}
	return o, nil
}

func (e *entry) see(stale func() bool) api.Object {
	if stale != nil && !e.mine && stale() {
		return e.prev
	}
	return e.obj
}

func (f *Fake) List(ctx context.Context, gvr schema.GroupVersionResource, namespace string, sel labels.Selector) ([]api.Object, error) {
	return f.list(gvr, namespace, sel, nil)
}

func (f *Fake) list(gvr schema.GroupVersionResource, namespace string, sel labels.Selector, stale func() bool) ([]api.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []api.Object
	for k, e := range f.objs {
		if k.gvr != gvr || namespace != "" && k.namespace != namespace {
			continue
		}
		if o := e.see(stale); o != nil && (sel == nil || sel.Matches(labels.Set(o.GetLabels()))) {
			out = append(out, o)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].GetNamespace()+"/"+out[i].GetName() < out[j].GetNamespace()+"/"+out[j].GetName()
	})
	return out, nil
}

func (f *Fake) Owned(ctx context.Context, gvr schema.GroupVersionResource, owner types.UID) ([]api.Object, error) {
	objs, err := f.List(ctx, gvr, "", nil)
	return slices.DeleteFunc(objs, func(o api.Object) bool {
		return !slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == owner })
	}), err
}

func (f *Fake) Watch(ctx context.Context, gvr schema.GroupVersionResource) (watch.Interface, error) {
	return f.watch(ctx, gvr, nil)
}

func (f *Fake) watch(ctx context.Context, gvr schema.GroupVersionResource, v *view) (watch.Interface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var present []api.Object
	for k, e := range f.objs {
		if k.gvr == gvr {
			present = append(present, e.obj)
		}
	}
	w := &watcher{gvr: gvr, fake: f, faulty: v, ch: make(chan watch.Event, len(present)+4096)}
	for _, o := range present {
		w.ch <- watch.Event{Type: watch.Added, Object: o}
	}
	w.ch <- watch.Event{Type: watch.Bookmark, Object: &metav1.PartialObjectMetadata{}}
	f.watchers[w] = struct{}{}
	context.AfterFunc(ctx, w.Stop)
	return w, nil
}

func (f *Fake) closeLocked(w *watcher) {
	if !w.closed {
		w.closed = true
		delete(f.watchers, w)
		close(w.ch)
	}
}

func (f *Fake) notifyLocked(gvr schema.GroupVersionResource, t watch.EventType, o api.Object) {
	for w := range f.watchers {
		if w.gvr != gvr {
			continue
		}
		select {
		case w.ch <- watch.Event{Type: t, Object: o}:
			if w.faulty != nil && w.faulty.roll(w.faulty.faults.Closed) {
				f.closeLocked(w)
			}
		default:
			f.closeLocked(w) // too slow: it watches again
		}
	}
}

func (f *Fake) Create(ctx context.Context, gvr schema.GroupVersionResource, obj api.Object) (api.Object, error) {
	return f.create(gvr, obj, false)
}

func (f *Fake) create(gvr schema.GroupVersionResource, obj api.Object, mine bool) (api.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hook != nil {
		if err := f.hook("create", gvr, obj); err != nil {
			return nil, err
		}
	}
	o := obj.DeepCopyObject().(api.Object)
	if o.GetName() == "" {
		if o.GetGenerateName() == "" {
			return nil, apierrors.NewBadRequest("name or generateName is required")
		}
		o.SetName(o.GetGenerateName() + "x" + strconv.FormatInt(f.rev+1, 36))
	}
	k := key{gvr, o.GetNamespace(), o.GetName()}
	if f.objs[k] != nil {
		return nil, apierrors.NewAlreadyExists(resource(gvr), o.GetName())
	}
	if o.GetUID() == "" {
		o.SetUID(types.UID("uid-" + strconv.FormatInt(f.rev+1, 10)))
	}
	if t := o.GetCreationTimestamp(); t.IsZero() {
		o.SetCreationTimestamp(metav1.NewTime(f.now()))
	}
	o.SetGeneration(1)
	if ns, ok := o.(*corev1.Namespace); ok && len(ns.Spec.Finalizers) == 0 {
		ns.Spec.Finalizers = []corev1.FinalizerName{corev1.FinalizerKubernetes}
		ns.Status.Phase = corev1.NamespaceActive
	}
	f.creates[gvr.Resource]++
	f.storeLocked(k, o, watch.Added, mine)
	return o, nil
}

func (f *Fake) storeLocked(k key, o api.Object, t watch.EventType, mine bool) {
	f.rev++
	f.writes++
	o.SetResourceVersion(strconv.FormatInt(f.rev, 10))
	var prev api.Object
	if e := f.objs[k]; e != nil {
		prev = e.obj
	}
	f.objs[k] = &entry{obj: o, prev: prev, mine: mine}
	f.notifyLocked(k.gvr, t, o)
}

func (f *Fake) removeLocked(k key) {
	e := f.objs[k]
	f.rev++
	f.writes++
	delete(f.objs, k)
	o := e.obj.DeepCopyObject().(api.Object)
	o.SetResourceVersion(strconv.FormatInt(f.rev, 10))
	f.notifyLocked(k.gvr, watch.Deleted, o)
}

func part(o api.Object, name string) reflect.Value {
	return reflect.ValueOf(o).Elem().FieldByName(name)
}

func (f *Fake) Update(ctx context.Context, gvr schema.GroupVersionResource, subresource string, obj api.Object) (api.Object, error) {
	return f.update(gvr, subresource, obj, false)
}

func (f *Fake) update(gvr schema.GroupVersionResource, subresource string, obj api.Object, mine bool) (api.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hook != nil {
		verb := "update"
		if subresource != "" {
			verb += "/" + subresource
		}
		if err := f.hook(verb, gvr, obj); err != nil {
			return nil, err
		}
	}
	k := key{gvr, obj.GetNamespace(), obj.GetName()}
	e := f.objs[k]
	if e == nil {
		return nil, apierrors.NewNotFound(resource(gvr), obj.GetName())
	}
	if rv := obj.GetResourceVersion(); rv != "" && rv != e.obj.GetResourceVersion() || obj.GetUID() != "" && obj.GetUID() != e.obj.GetUID() {
		return nil, apierrors.NewConflict(resource(gvr), obj.GetName(), fmt.Errorf("the object has been modified"))
	}
	var o api.Object
	switch subresource {
	case "status":
		o = e.obj.DeepCopyObject().(api.Object)
		part(o, "Status").Set(part(obj.DeepCopyObject().(api.Object), "Status"))
	case "finalize":
		o = e.obj.DeepCopyObject().(api.Object)
		o.(*corev1.Namespace).Spec.Finalizers = slices.Clone(obj.(*corev1.Namespace).Spec.Finalizers)
	default:
		o = obj.DeepCopyObject().(api.Object)
		if s := part(o, "Status"); s.IsValid() {
			s.Set(part(e.obj, "Status"))
		}
		o.SetUID(e.obj.GetUID())
		o.SetGeneration(e.obj.GetGeneration())
		o.SetDeletionTimestamp(e.obj.GetDeletionTimestamp())
		if s := part(o, "Spec"); s.IsValid() && !apiequality.Semantic.DeepEqual(s.Interface(), part(e.obj, "Spec").Interface()) {
			o.SetGeneration(o.GetGeneration() + 1)
		}
	}
	o.SetResourceVersion(e.obj.GetResourceVersion())
	if apiequality.Semantic.DeepEqual(o, e.obj) {
		return e.obj, nil
	}
	if f.endedLocked(o) {
		f.removeLocked(k)
		return o, nil
	}
	f.storeLocked(k, o, watch.Modified, mine)
	return o, nil
}

// endedLocked reports whether nothing holds a deleted object any more.
func (f *Fake) endedLocked(o api.Object) bool {
	if o.GetDeletionTimestamp() == nil || len(o.GetFinalizers()) > 0 {
		return false
	}
	if ns, ok := o.(*corev1.Namespace); ok && len(ns.Spec.Finalizers) > 0 {
		return false
	}
	if g := o.GetDeletionGracePeriodSeconds(); g != nil && *g > 0 {
		return false
	}
	return true
}

func (f *Fake) Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions) error {
	return f.delete(gvr, namespace, name, opts, false)
}

func (f *Fake) delete(gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions, mine bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := key{gvr, namespace, name}
	e := f.objs[k]
	if e == nil {
		return apierrors.NewNotFound(resource(gvr), name)
	}
	if f.hook != nil {
		if err := f.hook("delete", gvr, e.obj); err != nil {
			return err
		}
	}
	if p := opts.Preconditions; p != nil && (p.UID != nil && *p.UID != e.obj.GetUID() ||
		p.ResourceVersion != nil && *p.ResourceVersion != e.obj.GetResourceVersion()) {
		return apierrors.NewConflict(resource(gvr), name, fmt.Errorf("precondition failed"))
	}
	o := e.obj.DeepCopyObject().(api.Object)
	if opts.PropagationPolicy != nil && o.GetDeletionTimestamp() == nil {
		switch *opts.PropagationPolicy {
		case metav1.DeletePropagationForeground:
			o.SetFinalizers(append(o.GetFinalizers(), metav1.FinalizerDeleteDependents))
		case metav1.DeletePropagationOrphan:
			o.SetFinalizers(append(o.GetFinalizers(), metav1.FinalizerOrphanDependents))
		}
	}
	grace := int64(0)
	if p, ok := o.(*corev1.Pod); ok && p.Spec.NodeName != "" && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
		grace = 30
		if p.Spec.TerminationGracePeriodSeconds != nil {
			grace = *p.Spec.TerminationGracePeriodSeconds
		}
		if opts.GracePeriodSeconds != nil {
			grace = *opts.GracePeriodSeconds
		}
	}
	if o.GetDeletionTimestamp() == nil {
		at := metav1.NewTime(f.now().Add(time.Duration(grace) * time.Second))
		o.SetDeletionTimestamp(&at)
	} else if grace > 0 {
		return nil
	}
	o.SetDeletionGracePeriodSeconds(&grace)
	if ns, ok := o.(*corev1.Namespace); ok {
		ns.Status.Phase = corev1.NamespaceTerminating
	}
	if f.endedLocked(o) {
		f.removeLocked(k)
		return nil
	}
	if apiequality.Semantic.DeepEqual(o, e.obj) {
		return nil
	}
	f.storeLocked(k, o, watch.Modified, mine)
	return nil
}
