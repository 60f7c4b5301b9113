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
	Conflict float64       // an Update is answered with a Conflict
	Error    float64       // a call is answered with an InternalError before it does anything
	Lost     float64       // a write happens and its answer is lost: the caller sees a Timeout
	Stale    float64       // a write of somebody else is seen late, by reads and watches alike (one's own are always seen)
	StaleFor time.Duration // how late; 0 is 5 ms
	Slow     float64       // a call sleeps for Delay first
	Delay    time.Duration
	Closed   float64 // a watch is closed after an event
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
	objs     map[key]api.Object
	views    []*view
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
	return &Fake{now: now, objs: map[key]api.Object{}, watchers: map[*watcher]struct{}{}, creates: map[string]int{}}
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
	if faults.StaleFor <= 0 {
		faults.StaleFor = 5 * time.Millisecond
	}
	v := &view{fake: f, faults: faults, rng: rand.New(rand.NewPCG(seed, 1)), late: map[key]api.Object{}}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.views = append(f.views, v)
	return v
}

func resource(gvr schema.GroupVersionResource) schema.GroupResource { return gvr.GroupResource() }

func (f *Fake) Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (api.Object, error) {
	return f.get(gvr, namespace, name, nil)
}

func (f *Fake) get(gvr schema.GroupVersionResource, namespace, name string, v *view) (api.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := v.seesLocked(f, key{gvr, namespace, name})
	if o == nil {
		return nil, apierrors.NewNotFound(resource(gvr), name)
	}
	return o, nil
}

func (f *Fake) List(ctx context.Context, gvr schema.GroupVersionResource, namespace string, sel labels.Selector) ([]api.Object, error) {
	return f.list(gvr, namespace, sel, nil)
}

func (f *Fake) list(gvr schema.GroupVersionResource, namespace string, sel labels.Selector, v *view) ([]api.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []api.Object
	for _, k := range v.keysLocked(f) {
		if k.gvr != gvr || namespace != "" && k.namespace != namespace {
			continue
		}
		if o := v.seesLocked(f, k); o != nil && (sel == nil || sel.Matches(labels.Set(o.GetLabels()))) {
			out = append(out, o)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].GetNamespace()+"/"+out[i].GetName() < out[j].GetNamespace()+"/"+out[j].GetName()
	})
	return out, nil
}

func (f *Fake) Owned(ctx context.Context, gvr schema.GroupVersionResource, owner types.UID) ([]api.Object, error) {
	return f.owned(gvr, owner, nil)
}

func (f *Fake) owned(gvr schema.GroupVersionResource, owner types.UID, v *view) ([]api.Object, error) {
	objs, err := f.list(gvr, "", nil, v)
	return slices.DeleteFunc(objs, func(o api.Object) bool {
		return !slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == owner })
	}), err
}

func (f *Fake) Orphans(ctx context.Context, gvr schema.GroupVersionResource, namespace string) ([]api.Object, error) {
	return f.orphans(gvr, namespace, nil)
}

func (f *Fake) orphans(gvr schema.GroupVersionResource, namespace string, v *view) ([]api.Object, error) {
	objs, err := f.list(gvr, namespace, nil, v)
	return slices.DeleteFunc(objs, func(o api.Object) bool { return metav1.GetControllerOfNoCopy(o) != nil }), err
}

func (f *Fake) Watch(ctx context.Context, gvr schema.GroupVersionResource) (watch.Interface, error) {
	return f.watch(ctx, gvr, nil)
}

func (f *Fake) watch(ctx context.Context, gvr schema.GroupVersionResource, v *view) (watch.Interface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var present []api.Object
	for _, k := range v.keysLocked(f) {
		if o := v.seesLocked(f, k); k.gvr == gvr && o != nil {
			present = append(present, o)
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

// changedLocked tells every watcher of a write by writer, except those of views that see it late.
func (f *Fake) changedLocked(k key, before api.Object, t watch.EventType, o api.Object, writer *view) {
	f.notifyLocked(nil, k.gvr, t, o)
	for _, v := range f.views {
		if _, waits := v.late[k]; waits && v != writer && t != watch.Deleted {
			continue // it sees the newest state when its time comes
		} else if waits {
			f.catchUpLocked(v, k)
			continue
		}
		if v != writer && t != watch.Deleted && v.roll(v.faults.Stale) {
			v.late[k] = before
			time.AfterFunc(v.faults.StaleFor, func() {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.catchUpLocked(v, k)
			})
			continue
		}
		f.notifyLocked(v, k.gvr, t, o)
	}
}

// catchUpLocked lets v see the present state of k.
func (f *Fake) catchUpLocked(v *view, k key) {
	before, waits := v.late[k]
	if !waits {
		return
	}
	delete(v.late, k)
	switch now := f.objs[k]; {
	case now == nil && before != nil:
		f.notifyLocked(v, k.gvr, watch.Deleted, before)
	case now != nil && before == nil:
		f.notifyLocked(v, k.gvr, watch.Added, now)
	case now != nil:
		f.notifyLocked(v, k.gvr, watch.Modified, now)
	}
}

func (f *Fake) notifyLocked(v *view, gvr schema.GroupVersionResource, t watch.EventType, o api.Object) {
	for w := range f.watchers {
		if w.gvr != gvr || w.faulty != v {
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
	return f.create(gvr, obj, nil)
}

func (f *Fake) create(gvr schema.GroupVersionResource, obj api.Object, by *view) (api.Object, error) {
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
	if ns, ok := f.objs[key{gvr: reconcile.Namespaces(), name: o.GetNamespace()}]; ok && ns.GetDeletionTimestamp() != nil {
		err := apierrors.NewForbidden(resource(gvr), o.GetName(), fmt.Errorf("namespace %s is being terminated", ns.GetName()))
		err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause, Field: "metadata.namespace"}}
		return nil, err
	}
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
	f.storeLocked(k, o, watch.Added, by)
	return o, nil
}

func (f *Fake) storeLocked(k key, o api.Object, t watch.EventType, by *view) {
	f.rev++
	f.writes++
	o.SetResourceVersion(strconv.FormatInt(f.rev, 10))
	before := f.objs[k]
	f.objs[k] = o
	f.changedLocked(k, before, t, o, by)
}

func (f *Fake) removeLocked(k key, by *view) {
	e := f.objs[k]
	f.rev++
	f.writes++
	delete(f.objs, k)
	o := e.DeepCopyObject().(api.Object)
	o.SetResourceVersion(strconv.FormatInt(f.rev, 10))
	f.changedLocked(k, e, watch.Deleted, o, by)
}

func part(o api.Object, name string) reflect.Value {
	return reflect.ValueOf(o).Elem().FieldByName(name)
}

func (f *Fake) Update(ctx context.Context, gvr schema.GroupVersionResource, subresource string, obj api.Object) (api.Object, error) {
	return f.update(gvr, subresource, obj, nil)
}

func (f *Fake) update(gvr schema.GroupVersionResource, subresource string, obj api.Object, by *view) (api.Object, error) {
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
	if rv := obj.GetResourceVersion(); rv != "" && rv != e.GetResourceVersion() || obj.GetUID() != "" && obj.GetUID() != e.GetUID() {
		return nil, apierrors.NewConflict(resource(gvr), obj.GetName(), fmt.Errorf("the object has been modified"))
	}
	var o api.Object
	switch subresource {
	case "status":
		o = e.DeepCopyObject().(api.Object)
		part(o, "Status").Set(part(obj.DeepCopyObject().(api.Object), "Status"))
	case "finalize":
		o = e.DeepCopyObject().(api.Object)
		o.(*corev1.Namespace).Spec.Finalizers = slices.Clone(obj.(*corev1.Namespace).Spec.Finalizers)
	default:
		o = obj.DeepCopyObject().(api.Object)
		if s := part(o, "Status"); s.IsValid() {
			s.Set(part(e, "Status"))
		}
		o.SetUID(e.GetUID())
		o.SetGeneration(e.GetGeneration())
		o.SetDeletionTimestamp(e.GetDeletionTimestamp())
		if s := part(o, "Spec"); s.IsValid() && !apiequality.Semantic.DeepEqual(s.Interface(), part(e, "Spec").Interface()) {
			o.SetGeneration(o.GetGeneration() + 1)
		}
	}
	o.SetResourceVersion(e.GetResourceVersion())
	if apiequality.Semantic.DeepEqual(o, e) {
		return e, nil
	}
	if f.endedLocked(o) {
		f.removeLocked(k, by)
		return o, nil
	}
	f.storeLocked(k, o, watch.Modified, by)
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
	return f.delete(gvr, namespace, name, opts, nil)
}

func (f *Fake) delete(gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions, by *view) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := key{gvr, namespace, name}
	e := f.objs[k]
	if e == nil {
		return apierrors.NewNotFound(resource(gvr), name)
	}
	if f.hook != nil {
		if err := f.hook("delete", gvr, e); err != nil {
			return err
		}
	}
	if p := opts.Preconditions; p != nil && (p.UID != nil && *p.UID != e.GetUID() ||
		p.ResourceVersion != nil && *p.ResourceVersion != e.GetResourceVersion()) {
		return apierrors.NewConflict(resource(gvr), name, fmt.Errorf("precondition failed"))
	}
	o := e.DeepCopyObject().(api.Object)
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
		f.removeLocked(k, by)
		return nil
	}
	if apiequality.Semantic.DeepEqual(o, e) {
		return nil
	}
	f.storeLocked(k, o, watch.Modified, by)
	return nil
}
