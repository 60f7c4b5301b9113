package reconcile

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
)

// Client is what a controller sees of the cluster. *registry.Client satisfies it in process.
//
// Reads come from the shared cache: they cost no I/O, and what they return is shared with
// everybody else and must not be changed. A write returns once the cache has reached it, so a
// controller always reads its own writes. Errors are those of k8s.io/apimachinery/pkg/api/errors.
type Client interface {
	Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (api.Object, error)
	// List returns the objects of one namespace, or of all when it is "", that sel matches (nil: all).
	List(ctx context.Context, gvr schema.GroupVersionResource, namespace string, sel labels.Selector) ([]api.Object, error)
	// Owned returns the objects that name owner in an ownerReference.
	Owned(ctx context.Context, gvr schema.GroupVersionResource, owner types.UID) ([]api.Object, error)
	// Orphans returns the objects of a namespace that no controller owns, in the order of their names.
	Orphans(ctx context.Context, gvr schema.GroupVersionResource, namespace string) ([]api.Object, error)
	// Watch delivers an Added event for every object there is, one Bookmark, then every change in order.
	// A consumer that is too slow finds its channel closed and watches again.
	Watch(ctx context.Context, gvr schema.GroupVersionResource) (watch.Interface, error)

	Create(ctx context.Context, gvr schema.GroupVersionResource, obj api.Object) (api.Object, error)
	// Update replaces the object, or its subresource ("status", "finalize"), if its resourceVersion
	// is still the stored one, and answers a Conflict otherwise.
	Update(ctx context.Context, gvr schema.GroupVersionResource, subresource string, obj api.Object) (api.Object, error)
	Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions) error
}
