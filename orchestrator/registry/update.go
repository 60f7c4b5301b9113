package registry

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/raftstore"
)

// The subresources that Update knows; "" is the object itself, and "scale" is the object with its
// replicas changed, told apart for admission only.
const (
	subStatus   = "status"
	subScale    = "scale"
	subResize   = "resize"
	subFinalize = "finalize" // of namespaces: spec.finalizers
)

// Update replaces an object, or the part of it that a subresource stands for; obj itself is left as it
// is. An object without resourceVersion is written unconditionally; otherwise the answer is a Conflict
// unless that is still the stored one. An update that changes nothing writes nothing. One that takes the
// last finalizer of an object that is being deleted deletes it.
func (r *Registry) Update(ctx context.Context, gvr schema.GroupVersionResource, subresource string, obj api.Object, opts UpdateOptions) (*Entry, error) {
	k, err := r.served(ctx, gvr)
	if err != nil {
		return nil, err
	}
	kind := k.cache.kind
	switch {
	case subresource == "", subresource == subStatus && kind.Status != nil, subresource == subScale && kind.Scale != nil,
		subresource == subResize && kind.Resize != nil,
		subresource == subFinalize && kind.GVR() == namespacesGVR():
	default:
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: gvr.Group, Resource: gvr.Resource + "/" + subresource}, obj.GetName())
	}
	wanted, err := k.stored(obj)
	if err != nil {
		return nil, err
	}
	if !k.kind.Namespaced {
		wanted.SetNamespace("")
	}
	pinned := wanted.GetResourceVersion() != "" && !opts.Force
	for attempt := 1; ; attempt++ {
		cur := k.cache.get(entryKey(wanted.GetNamespace(), wanted.GetName()))
		if cur == nil {
			return nil, notFound(k.kind, wanted.GetName())
		}
		if uid := wanted.GetUID(); uid != "" && uid != cur.obj.GetUID() {
			return nil, uidConflict(k.kind, wanted.GetName(), uid, cur.obj.GetUID())
		}
		if pinned && wanted.GetResourceVersion() != cur.obj.GetResourceVersion() {
			return nil, conflict(k.kind, wanted.GetName())
		}
		e, ok, err := r.update(ctx, k, subresource, wanted.DeepCopyObject().(api.Object), cur, opts)
		if err != nil {
			return nil, err
		}
		if ok {
			return e.as(k.kind)
		}
		if attempt >= raceAttempts { // one that is pinned is refused above, once it sees what has changed
			return nil, conflict(k.kind, wanted.GetName())
		}
		if err := backOff(ctx, attempt); err != nil {
			return nil, err
		}
	}
}

// update tries once; false when somebody else was faster.
func (r *Registry) update(ctx context.Context, k *kindRef, sub string, obj api.Object, cur *Entry, opts UpdateOptions) (*Entry, bool, error) {
	kind, old := k.cache.kind, cur.obj
	keepMeta(obj, old)
	prepareUpdate(kind, sub, obj, old)
	if err := r.admitPriorityClass(k, obj); err != nil {
		return nil, false, err
	}
	if sub == "" {
		if err := r.admitResize(k, obj, old); err != nil {
			return nil, false, err
		}
	}
	replaced, err := r.admitted(ctx, Request{Operation: OperationUpdate, Kind: k.cache.kind, As: k.kind, Subresource: sub, Namespace: obj.GetNamespace(), Name: obj.GetName(),
		User: opts.User, Groups: opts.Groups, Object: obj, Old: old, DryRun: opts.DryRun}, opts.unquestioned)
	if err != nil {
		return nil, false, err
	}
	if replaced {
		obj.SetGeneration(old.GetGeneration()) // which is counted up once
		prepareUpdate(kind, sub, obj, old)
	}
	api.StampDeviceTaints(obj, old, r.now())
	turn, err := r.takeTurn(ctx, k)
	if err != nil {
		return nil, false, err
	}
	defer turn.end()
	claim, err := r.services.claim(k, obj, old, r.clock.Now())
	if err != nil {
		return nil, false, err
	}
	defer claim.end()
	if err := invalid(k.kind, obj.GetName(), append(validateSub(kind, sub, obj, old), k.validateView(obj, old)...)); err != nil {
		return nil, false, err
	}
	if opts.Check != nil {
		if err := opts.Check(obj, old); err != nil {
			return nil, false, err
		}
	}
	if unchanged(obj, old) {
		return cur, true, nil
	}
	if obj.GetDeletionTimestamp() != nil && mayGo(obj) {
		return r.remove(ctx, k, obj, cur, opts)
	}
	if err := r.checkLimits(k, sub, obj, old); err != nil {
		return nil, false, err
	}
	charge, err := r.charge(ctx, k, sub, obj, old, opts.unquestioned)
	if err != nil {
		return nil, false, err
	}
	defer charge.done()
	return r.replace(ctx, k, obj, cur, opts, turn, claim, charge)
}

// prepareUpdate fills in defaults, and carries over from old what a write of this part may not change.
func prepareUpdate(kind *api.Kind, sub string, obj, old api.Object) {
	// What is prepared takes parts of the old object over, which admission may then change.
	spare := old.DeepCopyObject().(api.Object)
	switch sub {
	case subStatus:
		managed := obj.GetManagedFields()
		if kind.Status.PrepareUpdate != nil {
			kind.Status.PrepareUpdate(obj, spare)
		}
		copyMeta(obj, spare, managed)
	case subFinalize:
		ns, finalizers := obj.(*corev1.Namespace), obj.(*corev1.Namespace).Spec.Finalizers
		managed := ns.ManagedFields
		spare.(*corev1.Namespace).DeepCopyInto(ns)
		ns.Spec.Finalizers, ns.ManagedFields = finalizers, managed
	case subResize:
		managed := obj.GetManagedFields()
		if kind.Default != nil {
			kind.Default(obj)
		}
		copyMeta(obj, spare, managed)
		kind.Resize.PrepareUpdate(obj, spare)
	default:
		if kind.Default != nil {
			kind.Default(obj)
		}
		if kind.PrepareUpdate != nil {
			kind.PrepareUpdate(obj, spare)
		}
	}
}

func validateSub(kind *api.Kind, sub string, obj, old api.Object) field.ErrorList {
	switch sub {
	case subStatus:
		errs := validateMetaUpdate(kind, obj, old)
		if kind.Status.ValidateUpdate != nil {
			errs = append(errs, kind.Status.ValidateUpdate(obj, old)...)
		}
		return errs
	case subFinalize:
		return validateMetaUpdate(kind, obj, old)
	case subResize:
		errs := append(validateMetaUpdate(kind, obj, old), kind.Resize.ValidateUpdate(obj, old)...)
		return append(errs, kind.Validate(obj)...)
	}
	return validate(kind, obj, old)
}

// replace writes obj if cur is still what is stored; false when it is not, once the cache has seen why.
func (r *Registry) replace(ctx context.Context, k *kindRef, obj api.Object, cur *Entry, opts UpdateOptions, turn *turn, claim *claim, charge *charge) (*Entry, bool, error) {
	if opts.DryRun {
		e := newEntry(obj, cur.key, 0)
		obj.SetResourceVersion(cur.obj.GetResourceVersion())
		return e, true, nil
	}
	put, err := r.put(ctx, k, cur.key, obj)
	if err != nil {
		return nil, false, err
	}
	res, err := r.cfg.Store.Txn(ctx, raftstore.Txn{If: append(append(turn.compares(claim), charge.compares()...), unchangedSince(put.Key, cur)),
		Then: append(append(append(turn.puts(claim), charge.puts()...), put), k.cache.forgotten(cur.key, obj, cur.obj)...), Term: opts.Term})
	if errors.Is(err, raftstore.ErrLeaseNotFound) {
		r.eventLeases.forget()
		return r.replace(ctx, k, obj, cur, opts, turn, claim, charge)
	}
	if err != nil {
		claim.keepIf(ambiguous(err))
		return nil, false, storeError("update "+k.kind.Resource, err)
	}
	claim.keepIf(true)
	if err := r.WaitFor(ctx, res.Revision); err != nil {
		return nil, false, err
	}
	claim.keepIf(false)
	if !res.Succeeded {
		return nil, false, nil
	}
	return k.cache.written(cur.key, obj, res.Revision), true, nil
}

// remove takes an object out of the store if cur is still what is stored. last is what is answered.
func (r *Registry) remove(ctx context.Context, k *kindRef, last api.Object, cur *Entry, opts UpdateOptions) (*Entry, bool, error) {
	if opts.DryRun {
		e := newEntry(last, cur.key, 0)
		last.SetResourceVersion(cur.obj.GetResourceVersion())
		return e, true, nil
	}
	key := k.cache.prefix + cur.key
	res, err := r.cfg.Store.Txn(ctx, raftstore.Txn{If: []raftstore.Compare{unchangedSince(key, cur)},
		Then: append([]raftstore.Op{{Type: raftstore.OpDelete, Key: key}}, k.cache.forgotten(cur.key, nil, cur.obj)...), Term: opts.Term})
	if err != nil {
		return nil, false, storeError("delete "+k.kind.Resource, err)
	}
	if err := r.WaitFor(ctx, res.Revision); err != nil {
		return nil, false, err
	}
	if !res.Succeeded {
		return nil, false, nil
	}
	return newEntry(last, cur.key, res.Revision), true, nil
}

func unchangedSince(key string, cur *Entry) raftstore.Compare {
	return raftstore.Compare{Key: key, Target: raftstore.ModRevision, Int: cur.revision}
}

// put is the write of an object. The stored form has no resourceVersion: the store counts it.
func (r *Registry) put(ctx context.Context, k *kindRef, key string, obj api.Object) (raftstore.Op, error) {
	obj.SetResourceVersion("")
	value, err := r.codec.encode(obj)
	if err != nil {
		return raftstore.Op{}, apierrors.NewInternalError(err)
	}
	if len(value) > maxObject {
		return raftstore.Op{}, apierrors.NewRequestEntityTooLargeError("the object is larger than 1.5 MiB")
	}
	op := raftstore.Op{Type: raftstore.OpPut, Key: k.cache.prefix + key, Value: value}
	if k.cache.kind.GVR() == eventsGVR() {
		if op.Lease, err = r.eventLeases.current(ctx, r); err != nil {
			return raftstore.Op{}, storeError("grant a lease for events", err)
		}
	}
	return op, nil
}

// maxObject is etcd's customary limit, in bytes: what is larger belongs elsewhere.
const maxObject = 3 << 19

// written is the cached entry of a write, with its JSON to share; when somebody has written again
// meanwhile, it is made of what was written.
func (c *resource) written(key string, obj api.Object, revision int64) *Entry {
	if e := c.get(key); e != nil && e.revision == revision {
		return e
	}
	return newEntry(obj, key, revision)
}

func errNamespaceBusy() error {
	return errors.New("its namespace changes all the time; please try again")
}

func (r *Registry) now() metav1.Time { return metav1.NewTime(r.clock.Now()).Rfc3339Copy() }
