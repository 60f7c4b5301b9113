package runtime

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// mergeStatus keeps what others write into the status (conditions of other types) and takes the rest from ours.
func mergeStatus(theirs, ours *corev1.PodStatus) corev1.PodStatus {
	st := *ours.DeepCopy()
	mine := map[corev1.PodConditionType]bool{corev1.PodReady: true, corev1.PodInitialized: true, corev1.ContainersReady: true, corev1.PodReadyToStartContainers: true,
		corev1.PodResizePending: true, corev1.PodResizeInProgress: true}
	st.Conditions = slices.DeleteFunc(st.Conditions, func(c corev1.PodCondition) bool {
		if mine[c.Type] {
			return false
		}
		return slices.ContainsFunc(theirs.Conditions, func(o corev1.PodCondition) bool { return o.Type == c.Type })
	})
	for _, c := range theirs.Conditions {
		if !mine[c.Type] {
			st.Conditions = append(st.Conditions, c)
		}
	}
	st.NominatedNodeName = theirs.NominatedNodeName
	if theirs.Phase == corev1.PodFailed || theirs.Phase == corev1.PodSucceeded {
		st.Phase, st.Reason, st.Message = theirs.Phase, theirs.Reason, theirs.Message
	}
	return st
}

// attachEngine picks the engine once, and finds the sandbox that an earlier agent left.
func (w *worker) attachEngine(ctx context.Context, pod *corev1.Pod) error {
	if w.engine == nil {
		e, err := w.a.pickEngine(ctx, pod)
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.engine = e
		w.mu.Unlock()
	}
	if w.looked {
		return nil
	}
	boxes, err := w.engine.Sandboxes(ctx)
	if err != nil {
		return err
	}
	for i := range boxes {
		if boxes[i].ID == string(w.uid) {
			w.sandbox, w.adopted, w.admitted = &boxes[i], true, true
			had := statusSizes(pod)
			w.give(had, podResources(had.on(pod)))
			w.mu.Lock()
			w.sandboxed = true
			w.mu.Unlock()
		}
	}
	w.looked = true
	return nil
}

func (w *worker) observe(ctx context.Context) (map[string]history, error) {
	out := map[string]history{}
	w.mu.Lock()
	w.box = w.sandbox
	w.mu.Unlock()
	if w.sandbox == nil {
		return out, nil
	}
	all, err := w.engine.Containers(ctx)
	if err != nil {
		return nil, err
	}
	live := map[string]Container{}
	for i := range all {
		c := &all[i]
		if c.SandboxID != string(w.uid) {
			continue
		}
		live[c.ID] = *c
		h := out[c.Name]
		switch {
		case h.last == nil || c.Attempt > h.last.Attempt:
			h.prev, h.last = h.last, c
		case h.prev == nil || c.Attempt > h.prev.Attempt:
			h.prev = c
		}
		out[c.Name] = h
		if c.State == Exited {
			w.noteExit(c)
		}
	}
	w.mu.Lock()
	w.live = live
	for id := range w.stopping {
		if c, ok := live[id]; !ok || c.State == Exited {
			delete(w.stopping, id)
		}
	}
	w.mu.Unlock()
	return out, nil
}

// noteExit reads the termination message once.
func (w *worker) noteExit(c *Container) {
	if _, ok := w.messages[c.ID]; !ok {
		w.messages[c.ID] = w.terminationMessage(c)
	}
}

func (w *worker) snapshot(pod *corev1.Pod, containers map[string]history) *snapshot {
	s := &snapshot{pod: pod, sandbox: w.sandbox, containers: containers, probes: map[string]probeView{},
		stopping: map[string]bool{}, postStart: map[string]bool{}, resized: map[string]bool{}, backoff: w.backoff, retry: w.retry,
		startedAt: w.started, refused: w.refused, now: w.a.cfg.Clock()}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.killed = w.killed
	for id := range w.stopping {
		s.stopping[id] = true
	}
	for id := range w.postStart {
		s.postStart[id] = true
	}
	return s
}

// report computes the status and hands it to the pump.
func (w *worker) report(s *snapshot, p plan) {
	w.mu.Lock()
	hold := w.killing || w.killed
	w.mu.Unlock()
	in := &statusInput{snapshot: s, plan: p, engine: w.engine.Name(), hostIPs: w.a.hostIPs(), waiting: w.waiting,
		images: w.images, messages: w.messages, hold: hold || p.done, resize: w.resizeStatus(), everExists: len(s.containers) > 0}
	if w.sandbox != nil {
		for _, ip := range w.sandbox.IPs {
			in.podIPs = append(in.podIPs, ip.String())
		}
		if len(in.podIPs) == 0 && s.pod.Spec.HostNetwork {
			in.podIPs = in.hostIPs
		}
	} else if p.done {
		for _, ip := range s.pod.Status.PodIPs {
			in.podIPs = append(in.podIPs, ip.IP)
		}
	}
	st := computeStatus(in)
	w.mu.Lock()
	w.status = &st
	w.mu.Unlock()
	if !w.reported && ready(&st) {
		w.reported = true
		if !w.adopted {
			w.a.metrics.started(s.now.Sub(w.started))
		}
	}
	w.pump.set(&st)
}
