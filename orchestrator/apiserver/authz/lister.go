package authz

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// Lister is what RBAC reads. A getter returns an apierrors NotFound for what isn't there. What
// is returned is shared and is not changed here. It must be safe for concurrent use and cheap:
// every request asks it.
type Lister interface {
	Role(namespace, name string) (*rbacv1.Role, error)
	ClusterRole(name string) (*rbacv1.ClusterRole, error)
	RoleBindings(namespace string) ([]*rbacv1.RoleBinding, error)
	ClusterRoleBindings() ([]*rbacv1.ClusterRoleBinding, error)
	// ClusterRoles is asked for aggregated roles alone.
	ClusterRoles() ([]*rbacv1.ClusterRole, error)
}

// PodLister is what the node authorizer reads.
type PodLister interface {
	// PodsOnNode returns the pods bound to a node. What is returned is shared.
	PodsOnNode(node string) ([]*corev1.Pod, error)
}

// VolumeSecrets is what the node authorizer asks of a PodLister that knows volumes, too.
type VolumeSecrets interface {
	// SecretOfVolume says whether a CSI driver needs the secret for what it does on the node: for a volume of a pod there, or,
	// where the driver says that it runs there, for making, attaching and enlarging volumes.
	SecretOfVolume(node, namespace, name string) (bool, error)
}
