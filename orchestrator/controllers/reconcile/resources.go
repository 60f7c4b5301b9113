package reconcile

import "k8s.io/apimachinery/pkg/runtime/schema"

func core(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: resource}
}

// Pods names the resource that its name says, as do the functions below.
func Pods() schema.GroupVersionResource            { return core("pods") }
func Nodes() schema.GroupVersionResource           { return core("nodes") }
func Services() schema.GroupVersionResource        { return core("services") }
func Endpoints() schema.GroupVersionResource       { return core("endpoints") }
func Namespaces() schema.GroupVersionResource      { return core("namespaces") }
func Secrets() schema.GroupVersionResource         { return core("secrets") }
func ConfigMaps() schema.GroupVersionResource      { return core("configmaps") }
func ServiceAccounts() schema.GroupVersionResource { return core("serviceaccounts") }
func Events() schema.GroupVersionResource          { return core("events") }

func Deployments() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
}

func ReplicaSets() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}
}

func EndpointSlices() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
}

func Leases() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
}

func PodDisruptionBudgets() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}
}

func Members() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "cluster.pintle.dev", Version: "v1alpha1", Resource: "members"}
}
