package authz

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

const nodeLeaseNamespace = "kube-node-lease"

// Node allows system:node:NAME, a member of system:nodes, what the agent of that node needs: its
// own Node, Lease and pods, and the objects that its pods refer to. A node that is broken into
// gives away only what already runs on it.
type Node struct{ Pods PodLister }

// NodeName returns the node whose agent the user is.
func NodeName(user *authn.User) (string, bool) {
	if !user.InGroup(authn.GroupNodes) {
		return "", false
	}
	name, ok := strings.CutPrefix(user.Name, authn.NodeUserPrefix)
	return name, ok && name != ""
}

// Authorize answers for nodes alone.
func (n Node) Authorize(_ context.Context, a Attributes) (bool, string, error) {
	node, ok := NodeName(a.User)
	if !ok {
		return proxy(a), "", nil
	}
	if !a.ResourceRequest {
		return false, "", nil
	}
	read := slices.Contains([]string{"get", "list", "watch"}, a.Verb)
	change := slices.Contains([]string{"update", "patch"}, a.Verb)
	refuse := func(format string, args ...any) (bool, string, error) {
		return false, fmt.Sprintf(format, args...), nil
	}
	switch a.APIGroup + "/" + a.Resource {
	case "/nodes":
		switch {
		case a.Subresource != "" && a.Subresource != "status":
			return refuse("node '%s' may not use nodes/%s", node, a.Subresource)
		case read && a.Subresource == "":
			return true, "", nil
		case a.Verb == "create" && a.Subresource == "":
			// The name is in the body, and the server checks it there.
			if a.Name == "" || a.Name == node {
				return true, "", nil
			}
		case (change || a.Verb == "get") && a.Name == node:
			return true, "", nil
		}
		return refuse("node '%s' cannot %s node '%s', only its own Node object", node, a.Verb, a.Name)
	case "coordination.k8s.io/leases":
		if a.Namespace == nodeLeaseNamespace && a.Subresource == "" && a.Verb != "list" && a.Verb != "watch" && a.Verb != "deletecollection" &&
			(a.Name == node || a.Name == "" && a.Verb == "create") {
			return true, "", nil
		}
		return refuse("can only access node lease with the same name as the requesting node")
	case "resource.k8s.io/resourceslices":
		// Whose devices a slice has is in its body, and the server checks it there.
		return a.Subresource == "" && (read || change || a.Verb == "create" || a.Verb == "delete"), "", nil
	case "storage.k8s.io/csinodes":
		if a.Subresource == "" && (read || a.Name == node || a.Name == "" && a.Verb == "create") && a.Verb != "deletecollection" {
			return true, "", nil
		}
		return refuse("can only access CSINode with the same name as the requesting node")
	case "/persistentvolumes", "/persistentvolumeclaims", "storage.k8s.io/volumeattachments":
		return nodeVolumes(a, read, change), "", nil
	case "/pods":
		return n.pods(node, a, read, change)
	case "/events", "events.k8s.io/events":
		return a.Verb == "create" || change, "", nil
	case "/services", "/endpoints", "discovery.k8s.io/endpointslices", "networking.k8s.io/ingresses", "networking.k8s.io/ingressclasses",
		"node.k8s.io/runtimeclasses", "/namespaces", "scheduling.k8s.io/priorityclasses", "cluster.pintle.dev/members",
		"resource.k8s.io/resourceclaims", "resource.k8s.io/deviceclasses", "storage.k8s.io/storageclasses", "storage.k8s.io/csidrivers":
		return read && a.Subresource == "", "", nil
	case "/configmaps", "/secrets", "/serviceaccounts":
		return n.referred(node, a)
	case "authentication.k8s.io/tokenreviews", "authorization.k8s.io/subjectaccessreviews", "authorization.k8s.io/localsubjectaccessreviews":
		return a.Verb == "create", "", nil
	}
	return false, "", nil
}

// nodeVolumes allows what the provisioner, the attacher and the resizer of a node do. Whose volume or claim it is, is in the
// object, and the server checks it there.
func nodeVolumes(a Attributes, read, change bool) bool {
	switch {
	case read && a.Subresource == "", change && (a.Subresource == "" || a.Subresource == "status"):
		return true
	case a.Resource == "persistentvolumes" && a.Subresource == "":
		return a.Verb == "create" || a.Verb == "delete"
	}
	return false
}

func (n Node) pods(node string, a Attributes, read, change bool) (bool, string, error) {
	switch {
	case read && a.Subresource == "":
		return true, "", nil
	case a.Verb == "delete" && a.Subresource == "", (change || a.Verb == "get") && a.Subresource == "status", a.Verb == "create" && a.Subresource == "eviction":
		pods, err := n.Pods.PodsOnNode(node)
		if err != nil {
			return false, "", fmt.Errorf("list pods of node %s: %w", node, err)
		}
		for _, p := range pods {
			if p.Namespace == a.Namespace && p.Name == a.Name {
				return true, "", nil
			}
		}
		return false, fmt.Sprintf("node '%s' can only change pods with spec.nodeName set to itself", node), nil
	}
	return false, "", nil
}

// referred allows single objects that a pod of the node names.
func (n Node) referred(node string, a Attributes) (bool, string, error) {
	single := a.Verb == "get" || (a.Verb == "list" || a.Verb == "watch") && a.Name != ""
	token := a.Resource == "serviceaccounts" && a.Subresource == "token" && a.Verb == "create"
	if a.Name == "" || !token && (!single || a.Subresource != "") {
		return false, fmt.Sprintf("node '%s' can only get individual resources of this type", node), nil
	}
	pods, err := n.Pods.PodsOnNode(node)
	if err != nil {
		return false, "", fmt.Errorf("list pods of node %s: %w", node, err)
	}
	for _, p := range pods {
		if p.Namespace == a.Namespace && refers(p, a.Resource, a.Name) {
			return true, "", nil
		}
	}
	if v, ok := n.Pods.(VolumeSecrets); ok && a.Resource == "secrets" {
		if of, err := v.SecretOfVolume(node, a.Namespace, a.Name); err != nil || of {
			return of, "", err
		}
	}
	return false, fmt.Sprintf("no relationship found between node '%s' and this object", node), nil
}

func refers(pod *corev1.Pod, resource, name string) bool {
	if resource == "serviceaccounts" {
		account := pod.Spec.ServiceAccountName
		return account == name || account == "" && name == "default"
	}
	secret := resource == "secrets"
	if secret && slices.ContainsFunc(pod.Spec.ImagePullSecrets, func(r corev1.LocalObjectReference) bool { return r.Name == name }) {
		return true
	}
	for _, v := range pod.Spec.Volumes {
		switch {
		case secret && v.Secret != nil && v.Secret.SecretName == name, !secret && v.ConfigMap != nil && v.ConfigMap.Name == name:
			return true
		case secret && v.CSI != nil && v.CSI.NodePublishSecretRef != nil && v.CSI.NodePublishSecretRef.Name == name:
			return true
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if secret && s.Secret != nil && s.Secret.Name == name || !secret && s.ConfigMap != nil && s.ConfigMap.Name == name {
					return true
				}
			}
		}
	}
	env := func(from []corev1.EnvFromSource, vars []corev1.EnvVar) bool {
		for _, e := range from {
			if secret && e.SecretRef != nil && e.SecretRef.Name == name || !secret && e.ConfigMapRef != nil && e.ConfigMapRef.Name == name {
				return true
			}
		}
		for _, e := range vars {
			if e.ValueFrom == nil {
				continue
			}
			if s := e.ValueFrom.SecretKeyRef; secret && s != nil && s.Name == name {
				return true
			}
			if c := e.ValueFrom.ConfigMapKeyRef; !secret && c != nil && c.Name == name {
				return true
			}
		}
		return false
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if env(list[i].EnvFrom, list[i].Env) {
				return true
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if env(pod.Spec.EphemeralContainers[i].EnvFrom, pod.Spec.EphemeralContainers[i].Env) {
			return true
		}
	}
	return false
}

// Proxy is the user of the nodes' proxies.
const Proxy = "system:kube-proxy"

// proxy allows the nodes' proxies, beyond their role, the Leases in which they say how Services are used. The server checks
// the name of a new one in the body.
func proxy(a Attributes) bool {
	if a.User.Name != Proxy || a.APIGroup != "coordination.k8s.io" || a.Resource != "leases" || a.Subresource != "" || a.Namespace == nodeLeaseNamespace {
		return false
	}
	return a.Verb == "create" && a.Name == "" || (a.Verb == "get" || a.Verb == "update") && StandbyLease(a.Name)
}

// StandbyLease says whether a Lease is one in which a node's proxy says how it uses a Service of the Lease's namespace:
// netproxy/standby.
func StandbyLease(name string) bool {
	service, node, ok := strings.Cut(name, ".standby.")
	return ok && service != "" && node != "" && !strings.Contains(service, ".")
}
