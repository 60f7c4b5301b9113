package orchestrator

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver/authn"
	"github.com/pintle/pintle/orchestrator/apiserver/authz"
	"github.com/pintle/pintle/orchestrator/apiserver/nodeproxy"
	"github.com/pintle/pintle/orchestrator/registry"
)

// access is who may come in, what they may do, and the way on to the nodes.
type access struct {
	authenticator authn.Authenticator
	authorizer    authz.Authorizer
	rbac          authz.RBAC
	issuer        *authn.Issuer
	tokens        authn.TokenAuthenticator
	nodeProxy     *nodeproxy.Proxy
}

func newAccess(p *parts) (*access, error) {
	objects, id, cfg := objects{p.registry}, p.identity, p.cfg
	accounts := authn.ServiceAccountConfig{Key: id.key, Getter: objects, Clock: cfg.Clock}
	issuer, err := authn.NewIssuer(accounts)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: service account tokens: %w", err)
	}
	tokens, err := authn.NewServiceAccountTokens(accounts)
	if err != nil {
		return nil, fmt.Errorf("orchestrator: service account tokens: %w", err)
	}
	a := &access{
		authenticator: authn.WithAnonymous(authn.Union{authn.InProcess(), authn.ClientCertificate(id.ca.Pool, cfg.Clock.Now), authn.Bearer(tokens)}),
		rbac:          authz.RBAC{Lister: objects},
		issuer:        issuer,
		tokens:        tokens,
	}
	a.authorizer = authz.Union{authz.Masters{}, authz.Node{Pods: objects}, a.rbac}
	if cfg.DialNode != nil || p.port != nil {
		a.nodeProxy, err = nodeproxy.New(nodeproxy.Config{
			DialNode: p.dialNode, Pod: objects.Pod, Node: objects.Node, Logger: cfg.Logger.With("part", "nodeproxy"),
		})
		if err != nil {
			return nil, fmt.Errorf("orchestrator: %w", err)
		}
	}
	return a, nil
}

// objects reads from the registry what authentication and authorization ask for. Their interfaces are
// their own; the registry knows neither.
type objects struct{ registry *registry.Registry }

func get[T api.Object](ctx context.Context, o objects, gvr schema.GroupVersionResource, namespace, name string) (T, error) {
	entry, err := o.registry.Get(ctx, gvr, namespace, name)
	if err != nil {
		var none T
		return none, err
	}
	return entry.Object().(T), nil
}

func list[T api.Object](o objects, gvr schema.GroupVersionResource, namespace string, selected fields.Selector) ([]T, error) {
	result, err := o.registry.List(context.Background(), gvr, namespace, registry.ListOptions{Fields: selected})
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, len(result.Entries))
	for _, entry := range result.Entries {
		out = append(out, entry.Object().(T))
	}
	return out, nil
}

func (o objects) ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return get[*corev1.ServiceAccount](ctx, o, corev1.SchemeGroupVersion.WithResource("serviceaccounts"), namespace, name)
}

func (o objects) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return get[*corev1.Pod](ctx, o, corev1.SchemeGroupVersion.WithResource("pods"), namespace, name)
}

func (o objects) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return get[*corev1.Secret](ctx, o, corev1.SchemeGroupVersion.WithResource("secrets"), namespace, name)
}

func (o objects) Node(ctx context.Context, name string) (*corev1.Node, error) {
	return get[*corev1.Node](ctx, o, corev1.SchemeGroupVersion.WithResource("nodes"), "", name)
}

func (o objects) PodsOnNode(node string) ([]*corev1.Pod, error) {
	return list[*corev1.Pod](o, corev1.SchemeGroupVersion.WithResource("pods"), "", fields.OneTermEqualSelector("spec.nodeName", node))
}

func (o objects) Role(namespace, name string) (*rbacv1.Role, error) {
	return get[*rbacv1.Role](context.Background(), o, rbacv1.SchemeGroupVersion.WithResource("roles"), namespace, name)
}

func (o objects) ClusterRole(name string) (*rbacv1.ClusterRole, error) {
	return get[*rbacv1.ClusterRole](context.Background(), o, rbacv1.SchemeGroupVersion.WithResource("clusterroles"), "", name)
}

func (o objects) RoleBindings(namespace string) ([]*rbacv1.RoleBinding, error) {
	return list[*rbacv1.RoleBinding](o, rbacv1.SchemeGroupVersion.WithResource("rolebindings"), namespace, nil)
}

func (o objects) ClusterRoleBindings() ([]*rbacv1.ClusterRoleBinding, error) {
	return list[*rbacv1.ClusterRoleBinding](o, rbacv1.SchemeGroupVersion.WithResource("clusterrolebindings"), "", nil)
}

func (o objects) ClusterRoles() ([]*rbacv1.ClusterRole, error) {
	return list[*rbacv1.ClusterRole](o, rbacv1.SchemeGroupVersion.WithResource("clusterroles"), "", nil)
}
