package cluster

import "strings"

// Resource is one resource of the API with its kind.
type Resource struct {
	Group, Version, Resource, Kind string
	Namespaced                     bool
}

// APIVersion is "v1" for the core group, "group/version" otherwise.
func (r Resource) APIVersion() string {
	if r.Group == "" {
		return r.Version
	}
	return r.Group + "/" + r.Version
}

// Capability is what a policy object lists to grant reading it.
func (r Resource) Capability() string { return "read:" + r.Group + "/" + r.Resource }

// wellKnown lists Kubernetes' own kinds: group, version, then kinds; a kind that belongs to the cluster ends in "*".
// What isn't here gets its plural by rule and lives in a namespace.
var wellKnown = [...][3]string{
	{"", "v1", "Pod Service Endpoints ConfigMap Secret ServiceAccount ResourceQuota LimitRange Event ReplicationController " +
		"PodTemplate PersistentVolumeClaim Namespace* Node* PersistentVolume*"},
	{"apps", "v1", "Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision"},
	{"batch", "v1", "Job CronJob"},
	{"autoscaling", "v2", "HorizontalPodAutoscaler"},
	{"policy", "v1", "PodDisruptionBudget"},
	{"networking.k8s.io", "v1", "Ingress NetworkPolicy IngressClass*"},
	{"discovery.k8s.io", "v1", "EndpointSlice"},
	{"coordination.k8s.io", "v1", "Lease"},
	{"rbac.authorization.k8s.io", "v1", "Role RoleBinding ClusterRole* ClusterRoleBinding*"},
	{"storage.k8s.io", "v1", "StorageClass* CSIDriver* CSINode* VolumeAttachment* CSIStorageCapacity"},
	{"scheduling.k8s.io", "v1", "PriorityClass*"},
	{"node.k8s.io", "v1", "RuntimeClass*"},
	{"apiextensions.k8s.io", "v1", "CustomResourceDefinition*"},
	{"admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy* ValidatingAdmissionPolicyBinding* " +
		"ValidatingWebhookConfiguration* MutatingWebhookConfiguration*"},
}

// ByKind finds the resource of a kind.
func ByKind(apiVersion, kind string) Resource {
	group, version, ok := strings.Cut(apiVersion, "/")
	if !ok {
		group, version = "", apiVersion
	}
	r := Resource{Group: group, Version: version, Kind: kind, Resource: plural(kind), Namespaced: true}
	each(func(known Resource) bool {
		if known.Group == group && known.Kind == kind {
			r.Namespaced = known.Namespaced
			return true
		}
		return false
	})
	return r
}

// ByResource finds the kind of a resource, in the version that is preferred.
func ByResource(group, resource string) Resource {
	r := Resource{Group: group, Version: "v1", Resource: resource, Kind: singular(resource), Namespaced: true}
	each(func(known Resource) bool {
		if known.Group == group && known.Resource == resource {
			r = known
			return true
		}
		return false
	})
	return r
}

func each(stop func(Resource) bool) {
	for _, g := range wellKnown {
		for _, kind := range strings.Fields(g[2]) {
			kind, clusterWide := strings.CutSuffix(kind, "*")
			if stop(Resource{g[0], g[1], plural(kind), kind, !clusterWide}) {
				return
			}
		}
	}
}

// plural is how the API forms a resource's name of a kind.
func plural(kind string) string {
	s := strings.ToLower(kind)
	switch {
	case s == "endpoints":
		return s
	case strings.HasSuffix(s, "s"), strings.HasSuffix(s, "x"), strings.HasSuffix(s, "ch"), strings.HasSuffix(s, "sh"):
		return s + "es"
	case strings.HasSuffix(s, "y") && !strings.HasSuffix(s, "ay") && !strings.HasSuffix(s, "ey"):
		return s[:len(s)-1] + "ies"
	}
	return s + "s"
}

// singular is the reverse, as far as letters tell it: a kind's inner capitals are lost.
func singular(resource string) string {
	s := resource
	switch {
	case strings.HasSuffix(s, "ies"):
		s = s[:len(s)-3] + "y"
	case strings.HasSuffix(s, "sses"), strings.HasSuffix(s, "xes"), strings.HasSuffix(s, "ches"), strings.HasSuffix(s, "shes"):
		s = s[:len(s)-2]
	default:
		s = strings.TrimSuffix(s, "s")
	}
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
