package apiserver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/pintle/pintle/internal/memnet"
	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver"
	"github.com/pintle/pintle/orchestrator/apiserver/authn"
	"github.com/pintle/pintle/orchestrator/apiserver/authz"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/raftstore"
)

// cluster is a store, a registry and an API server in memory.
type cluster struct {
	t        testing.TB
	registry *registry.Registry
	server   *apiserver.Server
	memory   *memnet.Listener
	stop     context.CancelFunc
}

type options struct {
	recentEvents int
	listener     net.Listener
	tls          *tls.Config
	nodes        bool // the node authorizer takes part
	metrics      apiserver.Metrics
}

func start(t testing.TB, opts options) *cluster {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { // runs after everything below has ended
		if err := goleak.Find(before); err != nil {
			t.Error(err)
		}
	})
	store, err := raftstore.Open(raftstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	reg, err := registry.New(registry.Config{Store: store, Kinds: api.All(), RecentEvents: opts.recentEvents})
	if err != nil {
		t.Fatal(err)
	}
	rbac := authz.RBAC{Lister: lister{reg}}
	memory := memnet.Listen()
	authorizer := authz.Union{authz.Masters{}, rbac}
	if opts.nodes {
		authorizer = append(authorizer, authz.Node{Pods: noPods{}})
	}
	server, err := apiserver.New(apiserver.Config{
		Registry: reg, Memory: memory, Listener: opts.listener, TLS: opts.tls,
		Authenticator: authn.WithAnonymous(authn.Union{authn.InProcess(), authn.Bearer(authn.StaticTokens{"admin-token": {Name: "root", Groups: []string{authn.GroupMasters, authn.GroupAuthenticated}}})}),
		Authorizer:    authorizer, RBAC: rbac, Metrics: opts.metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	for _, run := range []func(context.Context) error{store.Run, reg.Run, server.Run} {
		go func() { ended <- run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range 3 {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
		}
		_ = store.Close()
	})
	c := &cluster{t: t, registry: reg, server: server, memory: memory, stop: cancel}
	select {
	case <-server.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("not ready after 20 s")
	}
	admin := c.admin()
	for _, name := range []string{"default", "other"} {
		if _, err := admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"default", "other"} { // their controllers don't run here
		if _, err := admin.CoreV1().ServiceAccounts(name).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	for _, obj := range authz.Defaults() {
		o := obj.(api.Object)
		resource := "clusterroles"
		if _, ok := obj.(*rbacv1.ClusterRoleBinding); ok {
			resource = "clusterrolebindings"
		}
		if _, err := reg.Create(ctx, rbacv1.SchemeGroupVersion.WithResource(resource), o, registry.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	return c
}

func (c *cluster) configAs(user *authn.User) *rest.Config {
	return &rest.Config{
		Host: "http://pintle.invalid", QPS: -1,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.memory.Dial(ctx, user) },
	}
}

func (c *cluster) config() *rest.Config {
	return c.configAs(&authn.User{Name: "admin", Groups: []string{authn.GroupMasters, authn.GroupAuthenticated}})
}

func (c *cluster) admin() *kubernetes.Clientset { return c.clientset(c.config()) }

func (c *cluster) clientset(cfg *rest.Config) *kubernetes.Clientset {
	c.t.Helper()
	out, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

type noPods struct{}

func (noPods) PodsOnNode(string) ([]*corev1.Pod, error) { return nil, nil }

// lister reads RBAC objects from the registry.
type lister struct{ r *registry.Registry }

func get[T api.Object](r *registry.Registry, resource, namespace, name string) (T, error) {
	var zero T
	entry, err := r.Get(context.Background(), rbacv1.SchemeGroupVersion.WithResource(resource), namespace, name)
	if err != nil {
		return zero, err
	}
	return entry.Object().(T), nil
}

func list[T api.Object](r *registry.Registry, resource, namespace string) ([]T, error) {
	found, err := r.List(context.Background(), rbacv1.SchemeGroupVersion.WithResource(resource), namespace, registry.ListOptions{})
	out := make([]T, 0, len(found.Entries))
	for _, entry := range found.Entries {
		out = append(out, entry.Object().(T))
	}
	return slices.Clip(out), err
}

func (l lister) Role(namespace, name string) (*rbacv1.Role, error) {
	return get[*rbacv1.Role](l.r, "roles", namespace, name)
}
func (l lister) ClusterRole(name string) (*rbacv1.ClusterRole, error) {
	return get[*rbacv1.ClusterRole](l.r, "clusterroles", "", name)
}
func (l lister) RoleBindings(namespace string) ([]*rbacv1.RoleBinding, error) {
	return list[*rbacv1.RoleBinding](l.r, "rolebindings", namespace)
}
func (l lister) ClusterRoleBindings() ([]*rbacv1.ClusterRoleBinding, error) {
	return list[*rbacv1.ClusterRoleBinding](l.r, "clusterrolebindings", "")
}
func (l lister) ClusterRoles() ([]*rbacv1.ClusterRole, error) {
	return list[*rbacv1.ClusterRole](l.r, "clusterroles", "")
}

func deployments() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
}

func dynamicFor(c *cluster) dynamic.Interface { return dynamic.NewForConfigOrDie(c.config()) }
