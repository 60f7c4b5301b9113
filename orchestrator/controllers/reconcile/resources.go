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
func ResourceQuotas() schema.GroupVersionResource  { return core("resourcequotas") }

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

func Jobs() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
}

func CronJobs() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "cronjobs"}
}

func PodGroups() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "scheduling.k8s.io", Version: "v1beta1", Resource: "podgroups"}
}

func StatefulSets() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"}
}

func DaemonSets() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}
}

func ControllerRevisions() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "controllerrevisions"}
}

func PersistentVolumeClaims() schema.GroupVersionResource { return core("persistentvolumeclaims") }

func PersistentVolumes() schema.GroupVersionResource { return core("persistentvolumes") }

func storage(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "storage.k8s.io", Version: "v1", Resource: resource}
}

func StorageClasses() schema.GroupVersionResource    { return storage("storageclasses") }
func VolumeAttachments() schema.GroupVersionResource { return storage("volumeattachments") }
func CSIDrivers() schema.GroupVersionResource        { return storage("csidrivers") }
func CSINodes() schema.GroupVersionResource          { return storage("csinodes") }
func AddressPools() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "networking.pintle.dev", Version: "v1alpha1", Resource: "addresspools"}
}

func ServiceCIDRs() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "servicecidrs"}
}

func IPAddresses() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "ipaddresses"}
}
