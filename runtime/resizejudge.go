package runtime

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// sizes are the resources of a pod's containers, by their names.
type sizes map[string]corev1.ResourceRequirements

func sizesOf(pod *corev1.Pod) sizes {
	s := sizes{}
	for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range l {
			s[l[i].Name] = l[i].Resources
		}
	}
	return s
}

// statusSizes are those that the pod's status says its containers have, which an agent of before wrote there.
func statusSizes(pod *corev1.Pod) sizes {
	s := sizesOf(pod)
	for _, l := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range l {
			st := &l[i]
			r, ok := s[st.Name]
			if !ok || st.ContainerID == "" || st.Resources == nil {
				continue
			}
			had := *r.DeepCopy()
			for _, n := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				put(&had.Requests, n, st.AllocatedResources)
				put(&had.Limits, n, st.Resources.Limits)
			}
			s[st.Name] = had
		}
	}
	return s
}

// put makes one amount of to what it is in from.
func put(to *corev1.ResourceList, n corev1.ResourceName, from corev1.ResourceList) {
	q, ok := from[n]
	if !ok {
		delete(*to, n)
		return
	}
	if *to == nil {
		*to = corev1.ResourceList{}
	}
	(*to)[n] = q
}

// resized names the resources in which a container's size changes.
func resized(a, b corev1.ResourceRequirements) (names []corev1.ResourceName) {
	for _, n := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if differ(a.Requests, b.Requests, n) || differ(a.Limits, b.Limits, n) {
			names = append(names, n)
		}
	}
	return names
}

func differ(a, b corev1.ResourceList, n corev1.ResourceName) bool {
	x, has := a[n]
	y, had := b[n]
	return has != had || x.Cmp(y) != 0
}

// same says whether the pod's containers have these sizes.
func (s sizes) same(pod *corev1.Pod) bool {
	for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range l {
			if had, ok := s[l[i].Name]; ok && len(resized(had, l[i].Resources)) > 0 {
				return false
			}
		}
	}
	return true
}

// on is the pod with containers of these sizes; the pod itself where they are its own.
func (s sizes) on(pod *corev1.Pod) *corev1.Pod {
	if s.same(pod) {
		return pod
	}
	pod = pod.DeepCopy()
	for _, l := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range l {
			if had, ok := s[l[i].Name]; ok {
				l[i].Resources = had
			}
		}
	}
	return pod
}

// restartsFor says whether a container's change of size needs a restart, by its resizePolicy.
func restartsFor(c *corev1.Container, had corev1.ResourceRequirements) bool {
	changed := resized(had, c.Resources)
	for _, p := range c.ResizePolicy {
		if p.RestartPolicy == corev1.RestartContainer && slices.Contains(changed, p.ResourceName) {
			return true
		}
	}
	return false
}

// resizeRequest is a pod whose spec asks for other sizes than the node has given it.
type resizeRequest struct {
	pod   *corev1.Pod // as wanted
	has   *corev1.Pod // as given
	since time.Time   // when the node first heard of it
	fixed string      // the engine that can't change what runs; "": it can
}

// resizeVerdict is what becomes of it. Without a reason it is granted.
type resizeVerdict struct{ reason, message string }

// judgeResize says whether a node with alloc can give a pod what it asks for beside what its others have. static says
// that Guaranteed pods have CPUs and memory for themselves.
func judgeResize(r *resizeRequest, alloc, others corev1.ResourceList, static bool) resizeVerdict {
	infeasible := func(format string, args ...any) resizeVerdict {
		return resizeVerdict{corev1.PodReasonInfeasible, fmt.Sprintf(format, args...)}
	}
	if static && qosClass(r.pod) == corev1.PodQOSGuaranteed {
		return infeasible("Resize is infeasible for Guaranteed Pods alongside CPU Manager static policy")
	}
	had := sizesOf(r.has)
	for _, l := range [][]corev1.Container{r.pod.Spec.InitContainers, r.pod.Spec.Containers} {
		for i := range l {
			c := &l[i]
			limits := differ(had[c.Name].Limits, c.Resources.Limits, corev1.ResourceCPU) || differ(had[c.Name].Limits, c.Resources.Limits, corev1.ResourceMemory)
			if r.fixed != "" && limits && !restartsFor(c, had[c.Name]) {
				return infeasible("the engine %s can't change the limits of container %s while it runs: set its resizePolicy to RestartContainer", r.fixed, c.Name)
			}
		}
	}
	want, has := podRequests(r.pod), podRequests(r.has)
	for _, n := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		ask, all, now := want[n], alloc[n], has[n]
		value := func(l corev1.ResourceList) int64 {
			q := l[n]
			if n == corev1.ResourceCPU {
				return q.MilliValue()
			}
			return q.Value()
		}
		if ask.Cmp(all) > 0 {
			return infeasible("Node didn't have enough capacity: %s, requested: %d, capacity: %d", n, value(want), value(alloc))
		}
		if sum := others[n]; ask.Cmp(now) > 0 {
			if sum.Add(ask); sum.Cmp(all) > 0 {
				return resizeVerdict{corev1.PodReasonDeferred, fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
					n, value(want), value(others), value(alloc))}
			}
		}
	}
	return resizeVerdict{}
}

// resizeOrder is the order in which waiting resizes are tried: by the pods' priority, then the better quality of
// service, then who waits longer.
func resizeOrder(a, b *resizeRequest) int {
	rank := func(r *resizeRequest) int {
		return slices.Index([]corev1.PodQOSClass{corev1.PodQOSGuaranteed, corev1.PodQOSBurstable, corev1.PodQOSBestEffort}, qosClass(r.pod))
	}
	priority := func(r *resizeRequest) int32 {
		if r.pod.Spec.Priority == nil {
			return 0
		}
		return *r.pod.Spec.Priority
	}
	return cmp.Or(cmp.Compare(priority(b), priority(a)), cmp.Compare(rank(a), rank(b)), a.since.Compare(b.since), strings.Compare(string(a.pod.UID), string(b.pod.UID)))
}

// wider is the larger of two limits each, for while some containers have the old sizes and some the new. None is the
// largest.
func wider(a, b Resources) Resources {
	most := func(x, y int64) int64 {
		if x == 0 || y == 0 {
			return 0
		}
		return max(x, y)
	}
	return Resources{CPUShares: max(a.CPUShares, b.CPUShares), CPUQuota: most(a.CPUQuota, b.CPUQuota), CPUPeriod: max(a.CPUPeriod, b.CPUPeriod), MemoryLimit: most(a.MemoryLimit, b.MemoryLimit)}
}

// resizeNote is the message of an event about a resize, as the kubelet words it.
func resizeNote(what string, pod *corev1.Pod, problem string) string {
	type container struct {
		Name      string                      `json:"name"`
		Resources corev1.ResourceRequirements `json:"resources"`
	}
	note := struct {
		Init       []container `json:"initContainers,omitempty"`
		Containers []container `json:"containers,omitempty"`
		Generation int64       `json:"generation"`
		Error      string      `json:"error,omitempty"`
	}{Generation: pod.Generation, Error: problem}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; isSidecar(c) {
			note.Init = append(note.Init, container{c.Name, c.Resources})
		}
	}
	for i := range pod.Spec.Containers {
		note.Containers = append(note.Containers, container{pod.Spec.Containers[i].Name, pod.Spec.Containers[i].Resources})
	}
	raw, err := json.Marshal(note)
	if err != nil {
		return "Pod resize " + what
	}
	return "Pod resize " + what + ": " + string(raw)
}
