package registry

import (
	"context"
	"errors"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
)

func errPending() error { return errors.New("registry: not built yet") }

type resource struct{}
type codec struct{}
type allocator struct{}
type frontier struct{}

func (*frontier) init()                                  {}
func newCodec() *codec                                   { return nil }
func newAllocator(netip.Prefix) (*allocator, error)      { return nil, nil }
func newResource(*api.Kind, int) *resource               { return &resource{} }
func resourcePath(g schema.GroupVersionResource) string  { return g.String() }
func newObjectWatch(*Watcher, *api.Kind) watch.Interface { return nil }

// Entry is one immutable version of one object.
type Entry struct{}

// Object is shared and must not be changed.
func (e *Entry) Object() api.Object { return nil }

// JSON is the object's encoding, with kind and apiVersion. It is made once and must not be changed.
func (e *Entry) JSON() []byte { return nil }

// Revision is the revision of the write.
func (e *Entry) Revision() int64 { return 0 }

// Run feeds the cache until ctx ends.
func (r *Registry) Run(ctx context.Context) error { return errPending() }

// Get returns one object, from the cache.
func (r *Registry) Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (*Entry, error) {
	return nil, errPending()
}

// List returns objects, from the cache.
func (r *Registry) List(ctx context.Context, gvr schema.GroupVersionResource, namespace string, opts ListOptions) (ListResult, error) {
	return ListResult{}, errPending()
}

// Owned returns the objects that name owner in an ownerReference.
func (r *Registry) Owned(ctx context.Context, gvr schema.GroupVersionResource, owner types.UID) ([]*Entry, error) {
	return nil, errPending()
}

// Watch watches.
func (r *Registry) Watch(ctx context.Context, gvr schema.GroupVersionResource, opts WatchOptions) (*Watcher, error) {
	return nil, errPending()
}

// Watcher delivers changes.
type Watcher struct{}

// Events is closed when the watch ends; Err then says why.
func (w *Watcher) Events() <-chan Event { return nil }

// Err is nil until Events is closed, and after Stop; otherwise why the watch ended.
func (w *Watcher) Err() error { return nil }

// Stop ends the watch. It may be called more than once.
func (w *Watcher) Stop() {}

// Create stores a new object.
func (r *Registry) Create(ctx context.Context, gvr schema.GroupVersionResource, obj api.Object, opts CreateOptions) (*Entry, error) {
	return nil, errPending()
}

// Update replaces an object or its subresource ("status", "finalize", …).
func (r *Registry) Update(ctx context.Context, gvr schema.GroupVersionResource, subresource string, obj api.Object, opts UpdateOptions) (*Entry, error) {
	return nil, errPending()
}

// Delete deletes an object, or marks it as being deleted; deletedNow says which.
func (r *Registry) Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions, user string, groups ...string) (result *Entry, deletedNow bool, err error) {
	return nil, false, errPending()
}

// Bind sets the pod's node if it has none yet, and answers a Conflict otherwise.
func (r *Registry) Bind(ctx context.Context, namespace, name string, uid types.UID, node string, opts CreateOptions) (*Entry, error) {
	return nil, errPending()
}
