package runtime

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// qosClass is the pod's quality of service, by its containers' requests and limits.
func qosClass(pod *corev1.Pod) corev1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	any, guaranteed := false, true
	for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range l {
			for _, n := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				req, hasReq := c.Resources.Requests[n]
				lim, hasLim := c.Resources.Limits[n]
				if hasReq && !req.IsZero() || hasLim && !lim.IsZero() {
					any = true
				}
				if !hasLim || lim.IsZero() || hasReq && req.Cmp(lim) != 0 {
					guaranteed = false
				}
			}
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// cgroupPath is the pod's place below the node's cgroup parent.
func cgroupPath(pod *corev1.Pod) string {
	switch qosClass(pod) {
	case corev1.PodQOSGuaranteed:
		return "pod" + string(pod.UID)
	case corev1.PodQOSBestEffort:
		return "besteffort/pod" + string(pod.UID)
	}
	return "burstable/pod" + string(pod.UID)
}

const cpuPeriod = 100_000 // µs

func request(c *corev1.Container, n corev1.ResourceName) resource.Quantity {
	if q, ok := c.Resources.Requests[n]; ok {
		return q
	}
	return c.Resources.Limits[n]
}

// containerResources maps a container's requests and limits to cgroup values, by Kubernetes' rules:
// a thousandth of a CPU is 1.024 shares and 100 µs of each period.
func containerResources(pod *corev1.Pod, c *corev1.Container, nodeMemory int64) Resources {
	req, lim := request(c, corev1.ResourceCPU), c.Resources.Limits[corev1.ResourceCPU]
	r := Resources{CPUShares: shares(req.MilliValue()), OOMScoreAdj: oomScore(pod, c, nodeMemory)}
	if m := lim.MilliValue(); m > 0 {
		r.CPUPeriod, r.CPUQuota = cpuPeriod, max(m*cpuPeriod/1000, 1000)
	}
	mem := c.Resources.Limits[corev1.ResourceMemory]
	r.MemoryLimit = mem.Value()
	for n, q := range c.Resources.Limits {
		if size, ok := hugePage(n); ok {
			if r.HugePages == nil {
				r.HugePages = map[string]int64{}
			}
			r.HugePages[size] = q.Value()
		}
	}
	return r
}

func hugePage(n corev1.ResourceName) (string, bool) {
	const prefix = corev1.ResourceHugePagesPrefix
	if len(n) > len(prefix) && string(n[:len(prefix)]) == prefix {
		return string(n[len(prefix):]), true
	}
	return "", false
}

func shares(milli int64) uint64 {
	return uint64(min(max(milli*1024/1000, 2), 262144))
}

func oomScore(pod *corev1.Pod, c *corev1.Container, nodeMemory int64) int {
	switch qosClass(pod) {
	case corev1.PodQOSGuaranteed:
		return -997
	case corev1.PodQOSBestEffort:
		return 1000
	}
	mem := request(c, corev1.ResourceMemory)
	if nodeMemory <= 0 {
		return 999
	}
	return int(min(max(1000-1000*mem.Value()/nodeMemory, 3), 999))
}

// podResources is the sum for the pod's cgroup: limits only where every container has one.
func podResources(pod *corev1.Pod) Resources {
	req := podRequests(pod)
	cpu := req[corev1.ResourceCPU]
	r := Resources{CPUShares: shares(cpu.MilliValue())}
	cpuLim, memLim, cpuAll, memAll := int64(0), int64(0), true, true
	add := func(c *corev1.Container) {
		l, ok := c.Resources.Limits[corev1.ResourceCPU]
		cpuAll = cpuAll && ok && !l.IsZero()
		cpuLim += l.MilliValue()
		m, ok := c.Resources.Limits[corev1.ResourceMemory]
		memAll = memAll && ok && !m.IsZero()
		memLim += m.Value()
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if isSidecar(c) {
			add(c)
			continue
		}
		l, m := c.Resources.Limits[corev1.ResourceCPU], c.Resources.Limits[corev1.ResourceMemory]
		cpuLim, memLim = max(cpuLim, l.MilliValue()), max(memLim, m.Value())
		cpuAll, memAll = cpuAll && !l.IsZero(), memAll && !m.IsZero()
	}
	if cpuAll && cpuLim > 0 {
		r.CPUPeriod, r.CPUQuota = cpuPeriod, max(cpuLim*cpuPeriod/1000, 1000)
	}
	if memAll {
		r.MemoryLimit = memLim
	}
	return r
}

// podRequests is what the pod takes of the node: its containers and sidecars together, or its
// greediest init container with the sidecars before it, whichever is more; and the overhead.
func podRequests(pod *corev1.Pod) corev1.ResourceList {
	sum := corev1.ResourceList{}
	addTo := func(l corev1.ResourceList, c *corev1.Container) {
		for n := range c.Resources.Limits {
			if _, ok := c.Resources.Requests[n]; !ok {
				q := l[n]
				q.Add(c.Resources.Limits[n])
				l[n] = q
			}
		}
		for n, r := range c.Resources.Requests {
			q := l[n]
			q.Add(r)
			l[n] = q
		}
	}
	for i := range pod.Spec.Containers {
		addTo(sum, &pod.Spec.Containers[i])
	}
	side, peak := corev1.ResourceList{}, corev1.ResourceList{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if isSidecar(c) {
			addTo(sum, c)
			addTo(side, c)
			continue
		}
		need := side.DeepCopy()
		if need == nil {
			need = corev1.ResourceList{}
		}
		addTo(need, c)
		for n, q := range need {
			if p := peak[n]; q.Cmp(p) > 0 {
				peak[n] = q
			}
		}
	}
	for n, q := range peak {
		if s := sum[n]; q.Cmp(s) > 0 {
			sum[n] = q
		}
	}
	for n, o := range pod.Spec.Overhead {
		q := sum[n]
		q.Add(o)
		sum[n] = q
	}
	return sum
}
