package scheduler

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
)

// Client is what the scheduler sees of the cluster. *registry.Client satisfies it in process.
// Objects that it hands out are shared and must not be changed.
type Client interface {
	// Watch delivers an Added event for every object there is, one Bookmark, then every change in order.
	Watch(ctx context.Context, gvr schema.GroupVersionResource) (watch.Interface, error)
	Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (api.Object, error)
	Create(ctx context.Context, gvr schema.GroupVersionResource, obj api.Object) (api.Object, error)
	Update(ctx context.Context, gvr schema.GroupVersionResource, subresource string, obj api.Object) (api.Object, error)
	Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions) error
	// Bind sets the pod's node and adds the annotations if it has no node yet, and answers a Conflict otherwise.
	Bind(ctx context.Context, namespace, name string, uid types.UID, node string, annotations map[string]string) error
}

var (
	podsResource       = corev1.SchemeGroupVersion.WithResource("pods")
	nodesResource      = corev1.SchemeGroupVersion.WithResource("nodes")
	namespacesResource = corev1.SchemeGroupVersion.WithResource("namespaces")
	budgetsResource    = policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets")
	eventsResource     = corev1.SchemeGroupVersion.WithResource("events")
)
