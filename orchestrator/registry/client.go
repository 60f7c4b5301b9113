package registry

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
)

// Client is somebody's narrow view of a Registry: what controllers and the scheduler take. Authorization
// does not apply to it. Objects that it returns are shared and must not be changed. Safe for concurrent use.
type Client struct {
	r      *Registry
	user   string
	groups []string
	term   uint64

	unquestioned bool
}

// Client returns a client that writes as user.
func (r *Registry) Client(user string, groups ...string) *Client {
	return &Client{r: r, user: user, groups: groups}
}

// InTerm is the client with its writes fenced by a raft term: they fail once a later one has begun.
func (c *Client) InTerm(term uint64) *Client {
	in := *c
	in.term = term
	return &in
}

// Unquestioned is the client with its writes not put to the Admitter. It is for what a cluster cannot start
// without, and for nothing else.
func (c *Client) Unquestioned() *Client {
	out := *c
	out.unquestioned = true
	return &out
}

// Get returns one object, from the cache.
func (c *Client) Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (api.Object, error) {
	return object(c.r.Get(ctx, gvr, namespace, name))
}

// List returns the objects of one namespace, or of all when it is "", that sel matches (nil: all), from the cache.
func (c *Client) List(ctx context.Context, gvr schema.GroupVersionResource, namespace string, sel labels.Selector) ([]api.Object, error) {
	list, err := c.r.List(ctx, gvr, namespace, ListOptions{Selector: sel})
	if err != nil {
		return nil, err
	}
	return objects(list.Entries), nil
}

// Owned returns the objects that name owner in an ownerReference.
func (c *Client) Owned(ctx context.Context, gvr schema.GroupVersionResource, owner types.UID) ([]api.Object, error) {
	entries, err := c.r.Owned(ctx, gvr, owner)
	if err != nil {
		return nil, err
	}
	return objects(entries), nil
}

// Orphans returns the objects of a namespace that no controller owns.
func (c *Client) Orphans(ctx context.Context, gvr schema.GroupVersionResource, namespace string) ([]api.Object, error) {
	entries, err := c.r.Orphans(ctx, gvr, namespace)
	if err != nil {
		return nil, err
	}
	return objects(entries), nil
}

// Watch delivers an Added event for every object there is, one Bookmark, then every change in order. The
// channel is closed when ctx ends, after Stop, and when the consumer is too slow.
func (c *Client) Watch(ctx context.Context, gvr schema.GroupVersionResource) (watch.Interface, error) {
	kind := c.r.Kind(gvr)
	w, err := c.r.Watch(ctx, gvr, WatchOptions{InitialEvents: true})
	if err != nil {
		return nil, err
	}
	return newObjectWatch(w, kind), nil
}

// Create stores a new object; obj itself is left as it is.
func (c *Client) Create(ctx context.Context, gvr schema.GroupVersionResource, obj api.Object) (api.Object, error) {
	return object(c.r.Create(ctx, gvr, obj, CreateOptions{User: c.user, Groups: c.groups, Term: c.term, unquestioned: c.unquestioned}))
}

// Update replaces the object, or its subresource, and answers a Conflict when obj's resourceVersion is not
// the stored one. obj itself is left as it is.
func (c *Client) Update(ctx context.Context, gvr schema.GroupVersionResource, subresource string, obj api.Object) (api.Object, error) {
	return object(c.r.Update(ctx, gvr, subresource, obj, UpdateOptions{User: c.user, Groups: c.groups, Term: c.term, unquestioned: c.unquestioned}))
}

// Delete deletes the object, or marks it as being deleted.
func (c *Client) Delete(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, opts metav1.DeleteOptions) error {
	_, _, err := c.r.DeleteAs(ctx, gvr, namespace, name, opts, UpdateOptions{User: c.user, Groups: c.groups, Term: c.term, unquestioned: c.unquestioned})
	return err
}

// Evict deletes the pod if its disruption budget allows that, and is answered TooManyRequests otherwise.
func (c *Client) Evict(ctx context.Context, namespace, name string) error {
	return c.r.Evict(ctx, namespace, name, metav1.DeleteOptions{}, UpdateOptions{User: c.user, Groups: c.groups, Term: c.term, unquestioned: c.unquestioned})
}

// Bind sets the pod's node and adds the annotations if it has no node yet, and answers a Conflict otherwise.
func (c *Client) Bind(ctx context.Context, namespace, name string, uid types.UID, node string, annotations map[string]string) error {
	_, err := c.r.BindObject(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: uid, Annotations: annotations},
		Target: corev1.ObjectReference{Kind: "Node", Name: node}}, CreateOptions{User: c.user, Groups: c.groups, Term: c.term, unquestioned: c.unquestioned})
	return err
}

// Bytes is what lies beside an object: see Registry.Bytes.
func (c *Client) Bytes(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) ([]byte, api.Stored, error) {
	return c.r.Bytes(ctx, gvr, namespace, name)
}

func object(e *Entry, err error) (api.Object, error) {
	if err != nil {
		return nil, err
	}
	return e.Object(), nil
}

func objects(entries []*Entry) []api.Object {
	out := make([]api.Object, len(entries))
	for i, e := range entries {
		out[i] = e.Object()
	}
	return out
}
