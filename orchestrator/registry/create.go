package registry

import (
	"context"
	"errors"
	mathrand "math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/raftstore"
)

const (
	generateAttempts = 8  // of a generated name
	raceAttempts     = 16 // of a write that may be tried again
	maxGenerated     = 63 // bytes of a generated name
	randomSuffix     = 5
)

// Create stores a new object; obj itself is left as it is. AlreadyExists when the name is taken;
// NotFound when its namespace does not exist, Forbidden while that is being deleted; Invalid with every
// problem of the object.
func (r *Registry) Create(ctx context.Context, gvr schema.GroupVersionResource, obj api.Object, opts CreateOptions) (*Entry, error) {
	k, err := r.served(ctx, gvr)
	if err != nil {
		return nil, err
	}
	if obj.GetResourceVersion() != "" {
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	wanted, err := k.stored(obj)
	if err != nil {
		return nil, err
	}
	if !k.kind.Namespaced {
		wanted.SetNamespace("")
	}
	generated := wanted.GetName() == "" && wanted.GetGenerateName() != ""
	for attempt := 1; ; attempt++ {
		try := wanted.DeepCopyObject().(api.Object)
		if generated {
			try.SetName(generateName(wanted.GetGenerateName()))
		}
		e, outcome, err := r.create(ctx, k, try, opts)
		switch {
		case err != nil:
			return nil, err
		case outcome == done:
			return e.as(k.kind)
		case outcome == taken && !(generated && attempt < generateAttempts):
			return nil, apierrors.NewAlreadyExists(groupResource(k.kind), try.GetName())
		case attempt >= raceAttempts:
			return nil, apierrors.NewConflict(groupResource(k.kind), try.GetName(), errNamespaceBusy())
		}
		if err := backOff(ctx, attempt); err != nil {
			return nil, err
		}
	}
}

func generateName(base string) string {
	return base[:min(len(base), maxGenerated-randomSuffix)] + rand.String(randomSuffix)
}

// backOff waits at random and longer each time, so that of members that race none loses every time. The first
// time nobody waits: most races are over by then.
func backOff(ctx context.Context, attempt int) error {
	if attempt == 1 {
		return nil
	}
	timer := time.NewTimer(time.Duration(mathrand.Int64N(int64(time.Millisecond) << min(attempt, 7))))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// outcome is what became of one attempt to write.
type outcome int

const (
	done  outcome = iota
	taken         // the name exists
	raced         // something else changed meanwhile: look again
)

func (r *Registry) create(ctx context.Context, k *kindRef, obj api.Object, opts CreateOptions) (*Entry, outcome, error) {
	kind := k.cache.kind
	namespace, err := r.openNamespace(k, obj)
	if err != nil {
		return nil, done, err
	}
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
	obj.SetGeneration(0)
	obj.SetUID("")
	if kind.Default != nil {
		kind.Default(obj)
	}
	obj.SetUID(uuid.NewUUID()) // before it is prepared: a Job selects its pods by it
	obj.SetCreationTimestamp(r.now())
	if kind.PrepareCreate != nil {
		kind.PrepareCreate(obj)
	}
	api.StampDeviceTaints(obj, nil, r.now())
	if err := r.admitBuiltIn(ctx, k, obj); err != nil {
		return nil, done, err
	}
	replaced, err := r.admitted(ctx, Request{Operation: OperationCreate, Kind: k.cache.kind, As: k.kind, Namespace: obj.GetNamespace(), Name: obj.GetName(),
		User: opts.User, Groups: opts.Groups, Object: obj, DryRun: opts.DryRun}, opts.unquestioned)
	if err != nil {
		return nil, done, err
	}
	if replaced {
		if kind.PrepareCreate != nil {
			kind.PrepareCreate(obj)
		}
		if err := r.admitBuiltIn(ctx, k, obj); err != nil {
			return nil, done, err
		}
	}
	key := entryKey(obj.GetNamespace(), obj.GetName())
	if k.cache.get(key) != nil {
		return nil, taken, nil
	}
	turn, err := r.takeTurn(ctx, k)
	if err != nil {
		return nil, done, err
	}
	defer turn.end()
	claim, err := r.services.claim(k, obj, nil, r.clock.Now())
	if err != nil {
		return nil, done, err
	}
	defer claim.end()
	if err := invalid(k.kind, obj.GetName(), append(validate(kind, obj, nil), k.validateView(obj, nil)...)); err != nil {
		return nil, done, err
	}
	if opts.Check != nil {
		if err := opts.Check(obj, nil); err != nil {
			return nil, done, err
		}
	}
	if err := r.checkLimits(k, "", obj, nil); err != nil {
		return nil, done, err
	}
	charge, err := r.charge(ctx, k, "", obj, nil, opts.unquestioned)
	if err != nil {
		return nil, done, err
	}
	defer charge.done()
	if opts.DryRun {
		return newEntry(obj, key, 0), done, nil
	}
	put, err := r.put(ctx, k, key, obj)
	if err != nil {
		return nil, done, err
	}
	res, err := r.cfg.Store.Txn(ctx, raftstore.Txn{
		If:   append(append(namespace, raftstore.Compare{Key: put.Key, Target: raftstore.ModRevision}), append(turn.compares(claim), charge.compares()...)...),
		Then: append(append([]raftstore.Op{put}, turn.puts(claim)...), charge.puts()...),
		Else: []raftstore.Op{{Type: raftstore.OpGet, Key: put.Key}},
		Term: opts.Term,
	})
	if errors.Is(err, raftstore.ErrLeaseNotFound) {
		r.eventLeases.forget()
		return nil, raced, nil
	}
	if err != nil {
		claim.keepIf(ambiguous(err))
		return nil, done, storeError("create "+kind.Resource, err)
	}
	claim.keepIf(true) // until the cache has it
	if err := r.WaitFor(ctx, res.Revision); err != nil {
		return nil, done, err
	}
	claim.keepIf(false)
	switch {
	case res.Succeeded:
		return k.cache.written(key, obj, res.Revision), done, nil
	case len(res.Results) > 0 && len(res.Results[0].KVs) > 0:
		return nil, taken, nil
	}
	return nil, raced, nil
}
