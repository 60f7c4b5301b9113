package runtime

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Restart back-off, as Kubernetes': the first restart is immediate.
const (
	backoffFirst = 10 * time.Second
	backoffMax   = 5 * time.Minute
	backoffReset = 10 * time.Minute
)

// snapshot is all that decide looks at.
type snapshot struct {
	pod        *corev1.Pod
	sandbox    *Sandbox
	containers map[string]history // by container name
	probes     map[string]probeView
	stopping   map[string]bool // container IDs that are being ended
	backoff    map[string]backoff
	retry      map[string]time.Time // container name → not before, after a failure to start; "" is the pod itself
	postStart  map[string]bool      // container IDs whose postStart hook still runs
	resized    map[string]bool      // containers that get another size by a restart, by name
	startedAt  time.Time            // when the pod was first seen here
	refused    *refusal             // the node won't run it, or gave up on it
	killed     bool                 // everything was ended: only the sandbox is left to remove
	now        time.Time
}

// history is one container's attempts: the newest, and the one before it.
type history struct {
	last *Container
	prev *Container
}

// probeView is what the probes of the newest attempt say.
type probeView struct {
	id      string
	started bool
	ready   bool
	failed  string // "liveness" or "startup" once the threshold is reached
}

// backoff is the pause after the newest exit.
type backoff struct {
	pause time.Duration
	at    time.Time // when it was last used
}

type refusal struct {
	reason, message string
	disruption      bool // the pod is a disruption's target, not to blame itself
}

type actionKind int

const (
	actCreateSandbox actionKind = iota
	actRemoveSandbox            // its namespaces are gone, or nothing is left to run
	actStart
	actRestart // as actStart, for a container that ended: its back-off grows
	actStop
	actKillPod
	actBackOff // say that a restart waits
)

func (k actionKind) String() string {
	return [...]string{"create-sandbox", "remove-sandbox", "start", "restart", "stop", "kill-pod", "back-off"}[k]
}

type action struct {
	kind      actionKind
	container *corev1.Container
	init      bool
	attempt   int
	id        string
	message   string
}

// plan is what to do now, what the containers that don't run wait for, and when to look again.
type plan struct {
	actions []action
	waiting map[string]corev1.ContainerStateWaiting
	wake    time.Time // zero: when something changes
	failed  *refusal  // the pod as a whole has failed, for this reason
	done    bool      // nothing will run again: the phase is final
}

func (p *plan) add(a action) { p.actions = append(p.actions, a) }

func (p *plan) wakeAt(t time.Time) {
	if p.wake.IsZero() || t.Before(p.wake) {
		p.wake = t
	}
}

// decide says what is to be done for one pod. It is a pure function.
func decide(s *snapshot) plan {
	p := plan{waiting: map[string]corev1.ContainerStateWaiting{}}
	pod := s.pod
	final := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	switch {
	case s.refused != nil:
		p.failed, p.done = s.refused, true
	case pod.DeletionTimestamp != nil || final:
		p.done = true
	case pod.Spec.ActiveDeadlineSeconds != nil:
		began := s.startedAt
		if t := pod.Status.StartTime; t != nil {
			began = t.Time
		}
		end := began.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second)
		if !s.now.Before(end) {
			p.failed = &refusal{reason: "DeadlineExceeded", message: "Pod was active on the node longer than the specified deadline"}
			p.done = true
		} else {
			p.wakeAt(end)
		}
	}
	if !p.done && finished(s) {
		p.done = true
	}
	if p.done {
		if !s.killed && (anyAlive(s) || s.sandbox != nil) {
			p.add(action{kind: actKillPod})
		}
		return p
	}
	if t := s.retry[""]; t.After(s.now) {
		p.wakeAt(t)
		return p
	}
	if s.sandbox != nil && !s.sandbox.Ready {
		p.add(action{kind: actRemoveSandbox, message: "Pod sandbox changed, it will be killed and re-created."})
		return p
	}
	if s.sandbox == nil {
		p.add(action{kind: actCreateSandbox})
		return p
	}
	// Main containers start only after the init containers, so one that exists says that those are done:
	// their records may have been removed since.
	mainExists := false
	for i := range pod.Spec.Containers {
		if s.containers[pod.Spec.Containers[i].Name].last != nil {
			mainExists = true
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if isSidecar(c) {
			decideContainer(s, &p, c, true)
			if !mainExists && !up(s, c.Name) {
				return p
			}
			continue
		}
		if mainExists {
			continue
		}
		last := s.containers[c.Name].last
		if last != nil && last.State == Exited && last.ExitCode == 0 {
			continue
		}
		decideContainer(s, &p, c, true)
		return p
	}
	for i := range pod.Spec.Containers {
		decideContainer(s, &p, &pod.Spec.Containers[i], false)
	}
	return p
}

// up reports whether a sidecar has started, so that the next container may.
func up(s *snapshot, name string) bool {
	last := s.containers[name].last
	return last != nil && last.State == Running && s.probes[name].id == last.ID && s.probes[name].started && !s.postStart[last.ID]
}

func decideContainer(s *snapshot, p *plan, c *corev1.Container, init bool) {
	last := s.containers[c.Name].last
	if last != nil && s.stopping[last.ID] {
		return
	}
	if last == nil {
		if t := s.retry[c.Name]; t.After(s.now) {
			p.wakeAt(t)
			return
		}
		p.add(action{kind: actStart, container: c, init: init, attempt: firstAttempt(s.pod, c.Name)})
		return
	}
	switch last.State {
	case Created:
		if t := s.retry[c.Name]; t.After(s.now) {
			p.wakeAt(t)
			return
		}
		p.add(action{kind: actStart, container: c, init: init, attempt: last.Attempt})
	case Running:
		if img := last.Labels[labelImage]; img != "" && img != c.Image {
			p.add(action{kind: actStop, container: c, id: last.ID,
				message: fmt.Sprintf("Container %s definition changed, will be restarted", c.Name)})
			return
		}
		if s.resized[c.Name] {
			p.add(action{kind: actStop, container: c, id: last.ID, message: fmt.Sprintf("Container %s resize requires restart", c.Name)})
			return
		}
		if v := s.probes[c.Name]; v.id == last.ID && v.failed != "" {
			p.add(action{kind: actStop, container: c, id: last.ID,
				message: fmt.Sprintf("Container %s failed %s probe, will be restarted", c.Name, v.failed)})
		}
	case Exited:
		changed := last.Labels[labelImage] != "" && last.Labels[labelImage] != c.Image || s.resized[c.Name]
		if !changed && !restarts(s.pod, c, init, last.ExitCode) {
			return
		}
		if t := s.retry[c.Name]; t.After(s.now) {
			p.wakeAt(t)
			return
		}
		b := s.backoff[c.Name]
		if until := last.FinishedAt.Add(b.pause); b.pause > 0 && !changed && s.now.Before(until) {
			msg := fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
				b.pause, c.Name, s.pod.Name, s.pod.Namespace, s.pod.UID)
			p.waiting[c.Name] = corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: msg}
			p.add(action{kind: actBackOff, container: c, message: msg})
			p.wakeAt(until)
			return
		}
		p.add(action{kind: actRestart, container: c, init: init, attempt: last.Attempt + 1})
	}
}

// nextBackoff is the pause that will follow the restart which happens now.
func nextBackoff(b backoff, now time.Time) backoff {
	if b.pause == 0 || now.Sub(b.at) > backoffReset {
		return backoff{pause: backoffFirst, at: now}
	}
	return backoff{pause: min(2*b.pause, backoffMax), at: now}
}

// firstAttempt goes on counting where the status left off, for a pod whose containers were lost with
// the machine's.
func firstAttempt(pod *corev1.Pod, name string) int {
	for _, l := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for _, st := range l {
			if st.Name == name && st.ContainerID != "" {
				return int(st.RestartCount) + 1
			}
		}
	}
	return 0
}

func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// restarts says whether a container that ended is started again.
func restarts(pod *corev1.Pod, c *corev1.Container, init bool, code int) bool {
	if init {
		if isSidecar(c) {
			return true
		}
		return code != 0 && pod.Spec.RestartPolicy != corev1.RestartPolicyNever
	}
	switch pod.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	}
	return true
}

// finished reports that no container will run again.
func finished(s *snapshot) bool {
	for i := range s.pod.Spec.InitContainers {
		c := &s.pod.Spec.InitContainers[i]
		last := s.containers[c.Name].last
		if !isSidecar(c) && last != nil && last.State == Exited && last.ExitCode != 0 && !restarts(s.pod, c, true, last.ExitCode) {
			return true
		}
	}
	for i := range s.pod.Spec.Containers {
		c := &s.pod.Spec.Containers[i]
		last := s.containers[c.Name].last
		if last == nil || last.State != Exited || s.stopping[last.ID] || s.resized[c.Name] || restarts(s.pod, c, false, last.ExitCode) {
			return false
		}
	}
	return len(s.pod.Spec.Containers) > 0
}

func anyAlive(s *snapshot) bool {
	for _, h := range s.containers {
		if h.last != nil && h.last.State != Exited {
			return true
		}
	}
	return false
}
