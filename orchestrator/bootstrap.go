package orchestrator

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver/authz"
	"github.com/pintle/pintle/orchestrator/registry"
)

// bootstrap creates the objects that every cluster has, where they are missing. What a person changed
// is left alone.
func bootstrap(ctx context.Context, client *registry.Client, cfg Config) error {
	for _, obj := range firstObjects(cfg) {
		gvr, err := resourceOf(obj)
		if err != nil {
			return err
		}
		if _, err := client.Get(ctx, gvr, obj.GetNamespace(), obj.GetName()); err == nil {
			continue
		}
		if _, err := client.Create(ctx, gvr, obj); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create %s %s: %w", gvr.Resource, obj.GetName(), err)
		}
	}
	return nil
}

// firstObjects lists them in the order in which they can be created.
func firstObjects(cfg Config) []api.Object {
	var out []api.Object
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease} {
		out = append(out, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	for name, value := range map[string]int32{"system-cluster-critical": 2000000000, "system-node-critical": 2000001000} {
		out = append(out, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value,
			Description: "Used for pods that the cluster cannot do without."})
	}
	out = append(out, api.LocalPath())
	for _, obj := range authz.Defaults() {
		if o, ok := obj.(api.Object); ok {
			out = append(out, o)
		}
	}
	return append(out, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kube-dns",
			Labels: map[string]string{"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: DNSServiceIP(cfg.ServiceCIDR).String(),
			Ports: []corev1.ServicePort{
				{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
				{Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP},
			},
		},
	})
}

func resourceOf(obj api.Object) (schema.GroupVersionResource, error) {
	switch obj.(type) {
	case *corev1.Namespace:
		return corev1.SchemeGroupVersion.WithResource("namespaces"), nil
	case *corev1.Service:
		return corev1.SchemeGroupVersion.WithResource("services"), nil
	case *schedulingv1.PriorityClass:
		return schedulingv1.SchemeGroupVersion.WithResource("priorityclasses"), nil
	case *storagev1.StorageClass:
		return storagev1.SchemeGroupVersion.WithResource("storageclasses"), nil
	case *rbacv1.Role:
		return rbacv1.SchemeGroupVersion.WithResource("roles"), nil
	case *rbacv1.ClusterRole:
		return rbacv1.SchemeGroupVersion.WithResource("clusterroles"), nil
	case *rbacv1.RoleBinding:
		return rbacv1.SchemeGroupVersion.WithResource("rolebindings"), nil
	case *rbacv1.ClusterRoleBinding:
		return rbacv1.SchemeGroupVersion.WithResource("clusterrolebindings"), nil
	}
	return schema.GroupVersionResource{}, fmt.Errorf("no resource is known for %T", obj)
}
