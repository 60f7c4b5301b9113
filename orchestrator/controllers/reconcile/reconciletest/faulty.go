package reconciletest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
)

// view is a client with faults.
type view struct {
	fake   *Fake
	faults Faults

	mu  sync.Mutex
	rng *rand.Rand

	late map[key]api.Object // what this view still sees (nil: nothing); guarded by fake.mu
}

// seesLocked is k's object as v sees it; a nil v sees everything at once.
func (v *view) seesLocked(f *Fake, k key) api.Object {
	if v != nil {
		if o, ok := v.late[k]; ok {
			return o
		}
	}
	return f.objs[k]
}

func (v *view) keysLocked(f *Fake) []key {
	return slices.SortedFunc(maps.Keys(f.objs), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
}

func (v *view) roll(p float64) bool {
	if p <= 0 {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.rng.Float64() < p
}

func (v *view) before(ctx context.Context) error {
	if v.roll(v.faults.Slow) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(v.faults.Delay):
		}
	}
	if v.roll(v.faults.Error) {
		return apierrors.NewInternalError(errors.New("injected fault"))
	}
	return nil
}

func (v *view) lost(o api.Object, err error) (api.Object, error) {
	if err == nil && v.roll(v.faults.Lost) {
		return nil, apierrors.NewTimeoutError("injected fault: answer lost", 0)
	}
	return o, err
}

func (v *view) Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (api.Object, error) {
	if err := v.before(ctx); err != nil {
		return nil, err
	}
	return v.fake.get(gvr, namespace, name, v)
}

func (v *view) List(ctx context.Context, gvr schema.GroupVersionResource, namespace string, sel labels.Selector) ([]api.Object, error) {
	if err := v.before(ctx); err != nil {
		return nil, err
	}
	return v.fake.list(gvr, namespace, sel, v)
}

func (v *view) Owned(ctx context.Context, gvr schema.GroupVersionResource, owner types.UID) ([]api.Object, error) {
	if err := v.before(ctx); err != nil {
		return nil, err
	}
	return v.fake.owned(gvr, owner, v)
}

func (v *view) Orphans(ctx context.Context, gvr schema.GroupVersionResource, namespace string) ([]api.Object, error) {
	if err := v.before(ctx); err != nil {
		return nil, err
	}
	return v.fake.orphans(gvr, namespace, v)
}

func (v *view) Watch(ctx context.Context, gvr schema.GroupVersionResource) (watch.Interface, error) {
	if err := v.before(ctx); err != nil {
		return nil, err
	}
	return v.fake.watch(ctx, gvr, v)
}

func (v *view) Create(ctx context.Context, gvr schema.GroupVersionResource, obj api.Object) (api.Object, error) {
	if err := v.before(ctx); err != nil {
		return nil, err
	}
	return v.lost(v.fake.create(gvr, obj, v))
}

func (v *view) Update(ctx context.Context, gvr schema.GroupVersionResource, subresource string, obj api.Object) (api.Object, error) {
	if err := v.before(ctx); err != nil {
		return nil, err
	}
	if v.roll(v.faults.Conflict) {
		return nil, apierrors.NewConflict(resource(gvr), obj.GetName(), errors.New("injected fault"))
	}
	return v.lost(v.fake.update(gvr, subresource, obj, v))
}

func (v *view) Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions) error {
	if err := v.before(ctx); err != nil {
		return err
	}
	_, err := v.lost(nil, v.fake.delete(gvr, namespace, name, opts, v))
	return err
}
