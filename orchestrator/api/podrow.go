package api

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func podColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(), column("Ready", "The aggregate readiness state of this pod for accepting traffic.", 0),
		column("Status", "The aggregate status of the containers in this pod.", 0),
		column("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.", 0),
		ageColumn(), column("IP", "The address of the pod", 1), column("Node", "The node that the pod runs on", 1),
		column("Nominated Node", "The node that is being cleared for the pod", 1),
		column("Readiness Gates", "How many of the pod's readiness gates are open", 1),
	}
}

func podRow(p *corev1.Pod) []any {
	s := summarizePod(p)
	restarts := AgoCell{Text: fmt.Sprint(s.restarts)}
	if s.restarts > 0 {
		restarts.At = s.lastRestart
	}
	ip := p.Status.PodIP
	if len(p.Status.PodIPs) > 0 {
		ip = p.Status.PodIPs[0].IP
	}
	gates := "<none>"
	if n := len(p.Spec.ReadinessGates); n > 0 {
		open := 0
		for _, g := range p.Spec.ReadinessGates {
			if PodConditionTrue(p, g.ConditionType) {
				open++
			}
		}
		gates = fmt.Sprintf("%d/%d", open, n)
	}
	return []any{
		p.Name, fmt.Sprintf("%d/%d", s.ready, s.containers), s.status, restarts,
		p.CreationTimestamp, orNone(ip), orNone(p.Spec.NodeName), orNone(p.Status.NominatedNodeName), gates,
	}
}

// podSummary is what kubectl get pods says of a pod's containers.
type podSummary struct {
	ready, containers int
	status            string
	restarts          int64
	lastRestart       metav1.Time // zero if nothing restarted
}

// summarizePod looks at the init containers first: while one has yet to end, it is the status, and only
// afterwards the containers are, the first of them last, so that its trouble is the one that shows.
func summarizePod(p *corev1.Pod) podSummary {
	s := podSummary{containers: len(p.Spec.Containers), status: string(p.Status.Phase)}
	if p.Status.Reason != "" {
		s.status = p.Status.Reason
	}
	if c := PodCondition(p, corev1.PodScheduled); c != nil && c.Reason == corev1.PodReasonSchedulingGated {
		s.status = corev1.PodReasonSchedulingGated
	}
	sidecars := map[string]bool{}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; Sidecar(c) {
			sidecars[c.Name] = true
			s.containers++
		}
	}
	initializing, beside := s.addInit(p, sidecars)
	if !initializing || PodConditionTrue(p, corev1.PodInitialized) {
		// Init containers that have ended count no longer, sidecars do.
		s.restarts, s.lastRestart = beside.restarts, beside.lastRestart
		s.addContainers(p)
	}
	if p.DeletionTimestamp != nil {
		if p.Status.Reason == "NodeLost" {
			s.status = "Unknown"
		} else if !PodEnded(p) {
			s.status = "Terminating"
		}
	}
	return s
}

// addInit adds the init containers, and returns whether one of them is still the pod's status, and the
// restarts of the sidecars alone.
func (s *podSummary) addInit(p *corev1.Pod, sidecars map[string]bool) (initializing bool, beside podSummary) {
	for i, c := range p.Status.InitContainerStatuses {
		s.addRestarts(c)
		if sidecars[c.Name] {
			beside.addRestarts(c)
		}
		ended, waiting := c.State.Terminated, c.State.Waiting
		switch {
		case ended != nil && ended.ExitCode == 0:
			continue
		case sidecars[c.Name] && c.Started != nil && *c.Started:
			if c.Ready {
				s.ready++
			}
			continue
		case ended != nil:
			s.status = "Init:" + endReason(ended)
		case waiting != nil && waiting.Reason != "" && waiting.Reason != "PodInitializing":
			s.status = "Init:" + waiting.Reason
		default:
			s.status = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return true, beside
	}
	return false, beside
}

func (s *podSummary) addContainers(p *corev1.Pod) {
	running := false
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := p.Status.ContainerStatuses[i]
		s.addRestarts(c)
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			s.status = c.State.Waiting.Reason
		case c.State.Terminated != nil:
			s.status = endReason(c.State.Terminated)
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	// Some containers have completed, others still run.
	if s.status == "Completed" && running {
		s.status = "NotReady"
		if PodReady(p) {
			s.status = "Running"
		}
	}
}

func (s *podSummary) addRestarts(c corev1.ContainerStatus) {
	s.restarts += int64(c.RestartCount)
	if t := c.LastTerminationState.Terminated; t != nil && t.FinishedAt.After(s.lastRestart.Time) {
		s.lastRestart = t.FinishedAt
	}
}

func endReason(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}
