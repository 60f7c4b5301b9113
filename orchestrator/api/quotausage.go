package api

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	storageClassQuota = ".storageclass.storage.k8s.io/" // after a class's name, before what is limited of it
	deviceClassQuota  = ".deviceclass.resource.k8s.io/devices"
	countQuota        = "count/" // before a resource and, unless it is the core group, a dot and its group
)

// CountOf is the name under which a quota limits how many objects of a resource there are.
func CountOf(gr schema.GroupResource) corev1.ResourceName {
	return corev1.ResourceName(countQuota + gr.String())
}

// QuotaUsage is what one object of a namespace takes of the namespace's quotas, as Kubernetes counts it.
func QuotaUsage(gr schema.GroupResource, obj Object, now time.Time) corev1.ResourceList {
	one := *resource.NewQuantity(1, resource.DecimalSI)
	out := corev1.ResourceList{CountOf(gr): one}
	if gr.Group == "" && slices.Contains(objectQuotaResources(), corev1.ResourceName(gr.Resource)) {
		out[corev1.ResourceName(gr.Resource)] = one
	}
	switch o := obj.(type) {
	case *corev1.Pod:
		if countsTowardsQuota(o, now) {
			addResources(out, podQuota(PodRequests(o), PodLimits(o)))
		}
	case *corev1.Service:
		ports := 0
		switch o.Spec.Type {
		case corev1.ServiceTypeLoadBalancer:
			out[corev1.ResourceServicesLoadBalancers] = one
			// Those it would get count, and those it has.
			if o.Spec.AllocateLoadBalancerNodePorts == nil || *o.Spec.AllocateLoadBalancerNodePorts {
				ports = len(o.Spec.Ports)
			} else {
				for _, p := range o.Spec.Ports {
					if p.NodePort != 0 {
						ports++
					}
				}
			}
		case corev1.ServiceTypeNodePort:
			ports = len(o.Spec.Ports)
		}
		out[corev1.ResourceServicesNodePorts] = *resource.NewQuantity(int64(ports), resource.DecimalSI)
	case *corev1.PersistentVolumeClaim:
		size := o.Spec.Resources.Requests[corev1.ResourceStorage]
		out[corev1.ResourceRequestsStorage] = size
		if class := storageClassOf(o); class != "" {
			out[corev1.ResourceName(class+storageClassQuota+string(corev1.ResourceRequestsStorage))] = size
			out[corev1.ResourceName(class+storageClassQuota+string(corev1.ResourcePersistentVolumeClaims))] = one
		}
	case *resourcev1.ResourceClaim:
		addResources(out, claimQuota(o))
	}
	return out
}

func storageClassOf(c *corev1.PersistentVolumeClaim) string {
	if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	if c.Spec.StorageClassName != nil {
		return *c.Spec.StorageClassName
	}
	return ""
}

// countsTowardsQuota is false of a pod that has ended, or whose time to end is over: "count/pods" counts those, too.
func countsTowardsQuota(p *corev1.Pod, now time.Time) bool {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return false
	}
	// deletionTimestamp is when the grace period ends.
	return p.DeletionTimestamp == nil || p.DeletionGracePeriodSeconds == nil || !now.After(p.DeletionTimestamp.Time)
}

// podQuota names requests and limits as quotas do.
func podQuota(requests, limits corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(1, resource.DecimalSI)}
	for name, q := range requests {
		prefixed := corev1.ResourceName(corev1.DefaultResourceRequestsPrefix + string(name))
		switch {
		case slices.Contains(standardResources(), name), strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
			out[name], out[prefixed] = q, q
		case strings.Contains(string(name), "/"): // an extended one is limited by its requests only
			out[prefixed] = q
		}
	}
	for name, q := range limits {
		if slices.Contains(standardResources(), name) {
			out[corev1.ResourceName("limits."+string(name))] = q
		}
	}
	return out
}

// claimQuota counts the devices of each class that a claim may get: of alternatives, the most.
func claimQuota(c *resourcev1.ResourceClaim) corev1.ResourceList {
	count := func(mode resourcev1.DeviceAllocationMode, n int64) int64 {
		if mode == resourcev1.DeviceAllocationModeAll {
			return resourcev1.AllocationResultsMaxSize
		}
		return max(n, 1)
	}
	total := map[string]int64{}
	for _, r := range c.Spec.Devices.Requests {
		if r.Exactly != nil {
			total[r.Exactly.DeviceClassName] += count(r.Exactly.AllocationMode, r.Exactly.Count)
		}
		most := map[string]int64{}
		for _, s := range r.FirstAvailable {
			most[s.DeviceClassName] = max(most[s.DeviceClassName], count(s.AllocationMode, s.Count))
		}
		for class, n := range most {
			total[class] += n
		}
	}
	out := corev1.ResourceList{}
	for class, n := range total {
		out[corev1.ResourceName(class+deviceClassQuota)] = *resource.NewQuantity(n, resource.DecimalSI)
	}
	return out
}

// QuotaMatches says whether every scope of the quota takes the object in.
func QuotaMatches(q *corev1.ResourceQuota, obj Object) bool {
	for _, s := range q.Spec.Scopes {
		if !inScope(corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists}, obj) {
			return false
		}
	}
	if q.Spec.ScopeSelector != nil {
		for _, e := range q.Spec.ScopeSelector.MatchExpressions {
			if !inScope(e, obj) {
				return false
			}
		}
	}
	return true
}

func inScope(e corev1.ScopedResourceSelectorRequirement, obj Object) bool {
	switch o := obj.(type) {
	case *corev1.Pod:
		ends := o.Spec.ActiveDeadlineSeconds != nil && *o.Spec.ActiveDeadlineSeconds >= 0
		switch e.ScopeName {
		case corev1.ResourceQuotaScopeTerminating:
			return ends
		case corev1.ResourceQuotaScopeNotTerminating:
			return !ends
		case corev1.ResourceQuotaScopeBestEffort:
			return PodQOS(o) == corev1.PodQOSBestEffort
		case corev1.ResourceQuotaScopeNotBestEffort:
			return PodQOS(o) != corev1.PodQOSBestEffort
		case corev1.ResourceQuotaScopePriorityClass:
			return scopeValue(e, o.Spec.PriorityClassName)
		case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
			return crossesNamespaces(o.Spec.Affinity)
		}
	case *corev1.PersistentVolumeClaim:
		if e.ScopeName == corev1.ResourceQuotaScopeVolumeAttributesClass {
			name := ""
			if o.Spec.VolumeAttributesClassName != nil {
				name = *o.Spec.VolumeAttributesClassName
			}
			return scopeValue(e, name)
		}
	}
	return false
}

// scopeValue reads a requirement as one of a label that is absent where value is "".
func scopeValue(e corev1.ScopedResourceSelectorRequirement, value string) bool {
	switch e.Operator {
	case corev1.ScopeSelectorOpIn:
		return value != "" && slices.Contains(e.Values, value)
	case corev1.ScopeSelectorOpNotIn:
		return value == "" || !slices.Contains(e.Values, value)
	case corev1.ScopeSelectorOpExists:
		return value != ""
	case corev1.ScopeSelectorOpDoesNotExist:
		return value == ""
	}
	return false
}

func crossesNamespaces(a *corev1.Affinity) bool {
	if a == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	weighted := func(list []corev1.WeightedPodAffinityTerm) {
		for _, w := range list {
			terms = append(terms, w.PodAffinityTerm)
		}
	}
	if p := a.PodAffinity; p != nil {
		terms = append(terms, p.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if p := a.PodAntiAffinity; p != nil {
		terms = append(terms, p.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
}

// QuotaMissing says, in Kubernetes' words, which requests and limits a pod must name because a quota limits them: "" for none.
func QuotaMissing(hard corev1.ResourceList, pod *corev1.Pod) string {
	var missing []string
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceMemory,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory} {
		if _, limited := hard[name]; !limited {
			continue
		}
		var containers []string
		for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			for i := range list {
				if _, ok := podQuota(list[i].Resources.Requests, list[i].Resources.Limits)[name]; !ok {
					containers = append(containers, list[i].Name)
				}
			}
		}
		if len(containers) > 0 {
			slices.Sort(containers)
			missing = append(missing, string(name)+" for: "+strings.Join(slices.Compact(containers), ","))
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return "must specify " + strings.Join(missing, "; ")
}

// CountQuota is what the objects of a quota's namespace use of it: of every resource that it limits. each is called for
// the kinds that count towards it, and calls back for every object of the namespace.
func CountQuota(q *corev1.ResourceQuota, each func(kind *Kind, f func(Object)), kinds []*Kind, now time.Time) corev1.ResourceList {
	used := corev1.ResourceList{}
	for name := range q.Spec.Hard {
		used[name] = *resource.NewQuantity(0, resource.DecimalSI)
	}
	for _, k := range kinds {
		gr := k.GVR().GroupResource()
		if !k.Namespaced || !countedBy(q, gr) {
			continue
		}
		each(k, func(o Object) {
			if !QuotaMatches(q, o) {
				return
			}
			for name, n := range QuotaUsage(gr, o, now) {
				if sum, limited := used[name]; limited {
					sum.Add(n)
					used[name] = sum
				}
			}
		})
	}
	return used
}

// countedBy says whether objects of a resource may use something of the quota.
func countedBy(q *corev1.ResourceQuota, gr schema.GroupResource) bool {
	for name := range q.Spec.Hard {
		text := string(name)
		switch {
		case name == CountOf(gr), gr.Group == "" && text == gr.Resource:
			return true
		case gr == schema.GroupResource{Resource: "services"} && strings.HasPrefix(text, "services."),
			gr == schema.GroupResource{Group: resourcev1.GroupName, Resource: "resourceclaims"} && strings.HasSuffix(text, deviceClassQuota),
			gr == schema.GroupResource{Resource: "persistentvolumeclaims"} && (name == corev1.ResourceRequestsStorage || strings.Contains(text, storageClassQuota)):
			return true
		case gr == schema.GroupResource{Resource: "pods"} && (slices.Contains(podQuotaResources(), name) ||
			strings.HasPrefix(text, corev1.DefaultResourceRequestsPrefix) || strings.HasPrefix(text, corev1.ResourceHugePagesPrefix)):
			return true
		}
	}
	return false
}
