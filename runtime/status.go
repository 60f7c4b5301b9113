package runtime

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// statusInput is what the status is computed from, beside the snapshot.
type statusInput struct {
	*snapshot
	plan       plan
	engine     string
	hostIPs    []string
	waiting    map[string]corev1.ContainerStateWaiting // failures to start, by container
	images     map[string]string                       // container ID → image ID with digest
	messages   map[string]string                       // container ID → termination message
	volumesOK  bool
	hold       bool // the pod must not be reported ready: it is ending
	podIPs     []string
	resources  map[string]*corev1.ResourceRequirements
	resize     resizeStatus
	everExists bool
}

// computeStatus is what the API is told. It is pure; conditions of others are kept.
func computeStatus(in *statusInput) corev1.PodStatus {
	pod := in.pod
	st := *pod.Status.DeepCopy()
	st.ObservedGeneration = pod.Generation
	st.QOSClass = qosClass(pod)
	st.HostIP, st.HostIPs, st.PodIP, st.PodIPs = "", nil, "", nil
	for i, ip := range in.hostIPs {
		if i == 0 {
			st.HostIP = ip
		}
		st.HostIPs = append(st.HostIPs, corev1.HostIP{IP: ip})
	}
	for i, ip := range in.podIPs {
		if i == 0 {
			st.PodIP = ip
		}
		st.PodIPs = append(st.PodIPs, corev1.PodIP{IP: ip})
	}
	if st.StartTime == nil {
		t := metav1.NewTime(in.startedAt).Rfc3339Copy()
		st.StartTime = &t
	}
	oldMain, oldInit := byName(pod.Status.ContainerStatuses), byName(pod.Status.InitContainerStatuses)
	st.InitContainerStatuses, st.ContainerStatuses = nil, nil
	initDone := initialized(in.snapshot)
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		st.InitContainerStatuses = append(st.InitContainerStatuses, containerStatus(in, c, oldInit[c.Name], true, "PodInitializing"))
	}
	reason := "ContainerCreating"
	if len(pod.Spec.InitContainers) > 0 && !initDone {
		reason = "PodInitializing"
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		st.ContainerStatuses = append(st.ContainerStatuses, containerStatus(in, c, oldMain[c.Name], false, reason))
	}
	st.Phase = phase(in)
	// A final phase is final; and the reason with it.
	if p := pod.Status.Phase; p == corev1.PodSucceeded || p == corev1.PodFailed {
		st.Phase = p
	} else if in.plan.failed != nil {
		st.Phase, st.Reason, st.Message = corev1.PodFailed, in.plan.failed.reason, in.plan.failed.message
	}
	if in.refused != nil && !in.everExists {
		st.ContainerStatuses, st.InitContainerStatuses = pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses
	}
	conditions(in, &st, initDone)
	resizeConditions(in, &st)
	if r := in.plan.failed; r != nil && r.disruption {
		disrupt(&st, r.message, metav1.NewTime(in.now).Rfc3339Copy())
	}
	return st
}

func byName(l []corev1.ContainerStatus) map[string]*corev1.ContainerStatus {
	m := map[string]*corev1.ContainerStatus{}
	for i := range l {
		m[l[i].Name] = &l[i]
	}
	return m
}

// initialized reports that every init container has done its part, or that a main one already ran.
func initialized(s *snapshot) bool {
	for i := range s.pod.Spec.Containers {
		if s.containers[s.pod.Spec.Containers[i].Name].last != nil {
			return true
		}
	}
	for i := range s.pod.Spec.InitContainers {
		c := &s.pod.Spec.InitContainers[i]
		last := s.containers[c.Name].last
		if isSidecar(c) {
			if !up(s, c.Name) {
				return false
			}
		} else if last == nil || last.State != Exited || last.ExitCode != 0 {
			return false
		}
	}
	return true
}

func containerStatus(in *statusInput, c *corev1.Container, old *corev1.ContainerStatus, init bool, idle string) corev1.ContainerStatus {
	st := corev1.ContainerStatus{Name: c.Name, Image: c.Image}
	h := in.containers[c.Name]
	started := false
	wait, failing := in.waiting[c.Name]
	if w, ok := in.plan.waiting[c.Name]; ok && !failing {
		wait, failing = w, true
	}
	if h.last == nil {
		if old != nil && (in.plan.done || old.ContainerID != "") {
			// What ran here is gone (a reboot, a removed sandbox): keep what was known of it.
			st = *old.DeepCopy()
			st.Ready, st.Started = false, &started
			if st.State.Running != nil {
				st.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
					ExitCode: 137, Reason: "ContainerStatusUnknown", ContainerID: st.ContainerID,
					Message: "The container could not be located when the pod was terminated"}}
			}
			if failing && !in.plan.done {
				if st.State.Terminated != nil {
					st.LastTerminationState = st.State
				}
				st.State = corev1.ContainerState{Waiting: &wait}
			}
			return st
		}
		if !failing {
			wait = corev1.ContainerStateWaiting{Reason: idle}
		}
		st.State.Waiting = &wait
		st.Started = &started
		return st
	}
	last := h.last
	st.RestartCount = int32(last.Attempt)
	st.ContainerID = in.engine + "://" + last.ID
	st.ImageID = in.images[last.ID]
	if img := last.Labels[labelImage]; img != "" {
		st.Image = img
	}
	if st.ImageID == "" {
		st.ImageID = last.ImageID
	}
	if h.prev != nil && h.prev.State == Exited {
		st.LastTerminationState.Terminated = terminated(in, h.prev)
	} else if old != nil && old.ContainerID != st.ContainerID && old.State.Terminated != nil {
		st.LastTerminationState.Terminated = old.State.Terminated.DeepCopy()
	} else if old != nil {
		st.LastTerminationState = *old.LastTerminationState.DeepCopy()
	}
	v := in.probes[c.Name]
	switch last.State {
	case Created:
		if !failing {
			wait = corev1.ContainerStateWaiting{Reason: idle}
		}
		st.State.Waiting = &wait
	case Running:
		st.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(last.StartedAt).Rfc3339Copy()}
		mine := v.id == last.ID
		started = mine && v.started && !in.postStart[last.ID]
		st.Ready = started && v.ready && !in.hold
		if init && !isSidecar(c) {
			st.Ready = false
		}
	case Exited:
		term := terminated(in, last)
		if failing && !in.plan.done {
			st.LastTerminationState.Terminated = term
			st.State.Waiting = &wait
		} else {
			st.State.Terminated = term
		}
		if init && !isSidecar(c) {
			st.Ready = last.ExitCode == 0
		}
	}
	st.Started = &started
	st.Resources = c.Resources.DeepCopy()
	if has, ok := in.resize.real[last.ID]; ok && last.State == Running {
		st.Resources = has.DeepCopy()
	}
	if len(c.Resources.Requests) == 0 && len(c.Resources.Limits) == 0 {
		st.Resources = nil
	} else {
		st.AllocatedResources = c.Resources.Requests.DeepCopy()
	}
	for _, m := range c.VolumeMounts {
		ms := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			disabled := corev1.RecursiveReadOnlyDisabled
			ms.RecursiveReadOnly = &disabled
		}
		st.VolumeMounts = append(st.VolumeMounts, ms)
	}
	return st
}

func terminated(in *statusInput, c *Container) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: int32(c.ExitCode), Signal: 0, Reason: "Completed",
		StartedAt:   metav1.NewTime(c.StartedAt).Rfc3339Copy(),
		FinishedAt:  metav1.NewTime(c.FinishedAt).Rfc3339Copy(),
		ContainerID: in.engine + "://" + c.ID,
		Message:     in.messages[c.ID],
	}
	switch {
	case c.OOMKilled:
		t.Reason = "OOMKilled"
	case c.StartedAt.IsZero() && c.Message != "":
		t.Reason = "StartError"
	case c.ExitCode != 0:
		t.Reason = "Error"
	}
	if t.Message == "" {
		t.Message = c.Message
	}
	return t
}

func phase(in *statusInput) corev1.PodPhase {
	pod := in.pod
	running, waitingN, stopped, failed, n := 0, 0, 0, 0, 0
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		last := in.containers[c.Name].last
		if !isSidecar(c) && last != nil && last.State == Exited && last.ExitCode != 0 && !restarts(pod, c, true, last.ExitCode) {
			return corev1.PodFailed
		}
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		n++
		last := in.containers[c.Name].last
		switch {
		case last == nil || last.State == Created:
			waitingN++
		case last.State == Running:
			running++
		case restarts(pod, c, false, last.ExitCode) && !in.plan.done:
			running++ // it will be again: a pod in back-off is Running
		default:
			stopped++
			if last.ExitCode != 0 {
				failed++
			}
		}
	}
	old := pod.Status.Phase
	switch {
	case n == 0 || !initialized(in.snapshot):
		if old == corev1.PodRunning {
			return old
		}
		return corev1.PodPending
	case waitingN > 0:
		if old == corev1.PodRunning || running > 0 {
			return corev1.PodRunning
		}
		return corev1.PodPending
	case running > 0:
		return corev1.PodRunning
	case failed > 0:
		return corev1.PodFailed
	case stopped == n:
		// Ended on request: an Always pod that stops cleanly is on its way out, and is reported as
		// what its containers did.
		return corev1.PodSucceeded
	}
	return corev1.PodPending
}

func conditions(in *statusInput, st *corev1.PodStatus, initDone bool) {
	final := st.Phase == corev1.PodSucceeded || st.Phase == corev1.PodFailed
	set := func(t corev1.PodConditionType, ok bool, reason, message string) {
		c := corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: in.pod.Generation}
		if ok {
			c.Status, c.Reason, c.Message = corev1.ConditionTrue, "", ""
		}
		now := metav1.NewTime(in.now).Rfc3339Copy()
		for i := range st.Conditions {
			if o := &st.Conditions[i]; o.Type == t {
				if o.Status == c.Status {
					c.LastTransitionTime = o.LastTransitionTime
				} else {
					c.LastTransitionTime = now
				}
				if t == corev1.PodInitialized && final && st.Phase == corev1.PodSucceeded {
					c.Reason = "PodCompleted"
				}
				c.LastProbeTime = o.LastProbeTime
				*o = c
				return
			}
		}
		c.LastTransitionTime = now
		st.Conditions = append(st.Conditions, c)
	}
	completed := st.Phase == corev1.PodSucceeded
	set(corev1.PodReadyToStartContainers, in.sandbox != nil && in.sandbox.Ready, "", "")
	var notInit []string
	for i := range in.pod.Spec.InitContainers {
		c := &in.pod.Spec.InitContainers[i]
		last := in.containers[c.Name].last
		if isSidecar(c) && !up(in.snapshot, c.Name) || !isSidecar(c) && (last == nil || last.State != Exited || last.ExitCode != 0) {
			notInit = append(notInit, c.Name)
		}
	}
	if initDone || completed {
		set(corev1.PodInitialized, true, "", "")
	} else {
		set(corev1.PodInitialized, false, "ContainersNotInitialized", "containers with incomplete status: ["+strings.Join(notInit, " ")+"]")
	}
	var unready []string
	for _, l := range [][]corev1.ContainerStatus{st.InitContainerStatuses, st.ContainerStatuses} {
		for _, c := range l {
			sidecar := false
			init := false
			for i := range in.pod.Spec.InitContainers {
				if ic := &in.pod.Spec.InitContainers[i]; ic.Name == c.Name {
					init, sidecar = true, isSidecar(ic)
				}
			}
			if init && !sidecar {
				continue
			}
			if !c.Ready {
				unready = append(unready, c.Name)
			}
		}
	}
	reason, message := "", ""
	ok := len(unready) == 0 && initDone
	switch {
	case completed:
		ok, reason = false, "PodCompleted"
	case st.Phase == corev1.PodFailed:
		ok, reason = false, "PodFailed"
	case !ok:
		reason, message = "ContainersNotReady", "containers with unready status: ["+strings.Join(unready, " ")+"]"
	}
	set(corev1.ContainersReady, ok, reason, message)
	if ok {
		for _, g := range in.pod.Spec.ReadinessGates {
			good, found := false, false
			for _, c := range st.Conditions {
				if c.Type == g.ConditionType {
					found, good = true, c.Status == corev1.ConditionTrue
				}
			}
			if !good {
				ok, reason = false, "ReadinessGatesNotReady"
				message = fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but False", g.ConditionType)
				if !found {
					message = fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType)
				}
				break
			}
		}
	}
	set(corev1.PodReady, ok, reason, message)
	scheduled := false
	for _, c := range st.Conditions {
		scheduled = scheduled || c.Type == corev1.PodScheduled
	}
	if !scheduled {
		set(corev1.PodScheduled, true, "", "")
	}
}

// disrupt says that the pod ends for no fault of its own, as the kubelet says it of those that it evicts.
func disrupt(st *corev1.PodStatus, message string, now metav1.Time) {
	for i := range st.Conditions {
		if c := &st.Conditions[i]; c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return
		}
	}
	st.Conditions = append(slices.DeleteFunc(st.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.DisruptionTarget }),
		corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: message, LastTransitionTime: now})
}
