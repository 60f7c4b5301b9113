package runtime

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// startKill ends all containers, once, in the order that DESIGN.md gives: no longer ready, drained,
// preStop, SIGTERM, grace, SIGKILL. Main containers end before sidecars, and sidecars in reverse.
func (w *worker) startKill(ctx context.Context, pod *corev1.Pod, s *snapshot) {
	w.mu.Lock()
	if w.killing {
		w.mu.Unlock()
		return
	}
	w.killing = true
	w.mu.Unlock()
	began := time.Now()
	// The grace period may be cut short by a second delete.
	deadline := func() time.Time {
		now := w.pod()
		g := w.grace(pod)
		if now.DeletionTimestamp != nil {
			g = min(g, w.grace(now))
		}
		return began.Add(g)
	}
	var mains, sidecars []action
	live := map[string]Container{}
	add := func(c *corev1.Container, init bool) {
		last := s.containers[c.Name].last
		if last == nil || last.State == Exited {
			return
		}
		live[last.ID] = *last
		a := action{container: c, id: last.ID}
		if init && isSidecar(c) {
			sidecars = append(sidecars, a)
		} else {
			mains = append(mains, a)
		}
	}
	for i := range pod.Spec.InitContainers {
		add(&pod.Spec.InitContainers[i], true)
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i], false)
	}
	// Containers that the spec doesn't name: an orphan's, whose pod object is lost.
	for name, h := range s.containers {
		if h.last != nil && h.last.State != Exited {
			if _, ok := live[h.last.ID]; !ok {
				live[h.last.ID] = *h.last
				mains = append(mains, action{container: &corev1.Container{Name: name}, id: h.last.ID})
			}
		}
	}
	sandbox := w.sandbox
	w.wg.Go(func() {
		if pod.DeletionTimestamp == nil {
			w.pump.flush(ctx, w.a.cfg.DrainTimeout)
		}
		if len(live) > 0 && w.a.cfg.Drainer != nil && sandbox != nil {
			w.drain(ctx, sandbox)
		}
		for _, a := range mains {
			w.eventFor(pod, a.container.Name, corev1.EventTypeNormal, "Killing", "Stopping container "+a.container.Name)
		}
		var wg sync.WaitGroup
		for _, a := range mains {
			wg.Go(func() { w.killContainer(ctx, pod, a.container, live[a.id], deadline) })
		}
		wg.Wait()
		for i := len(sidecars) - 1; i >= 0; i-- {
			a := sidecars[i]
			w.eventFor(pod, a.container.Name, corev1.EventTypeNormal, "Killing", "Stopping container "+a.container.Name)
			w.killContainer(ctx, pod, a.container, live[a.id], deadline)
		}
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		w.killed = true
		w.mu.Unlock()
		w.wake()
	})
}

func (w *worker) drain(ctx context.Context, s *Sandbox) {
	ctx, cancel := context.WithTimeout(ctx, w.a.cfg.DrainTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, ip := range s.IPs {
		wg.Go(func() {
			if err := w.a.cfg.Drainer.Drained(ctx, ip); err != nil {
				w.log.Debug("drain", "address", ip, "error", err)
			}
		})
	}
	wg.Wait()
}

// killContainer runs preStop, signals, waits until the deadline and kills. It returns when the
// container has ended or ctx has.
func (w *worker) killContainer(ctx context.Context, pod *corev1.Pod, c *corev1.Container, ctr Container, deadline func() time.Time) {
	if ctr.State == Created {
		_ = w.engine.RemoveContainer(ctx, ctr.ID)
		return
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		hctx, cancel := context.WithDeadline(ctx, deadline())
		if err := w.hook(hctx, pod, c, ctr.ID, c.Lifecycle.PreStop); err != nil && ctx.Err() == nil {
			w.eventFor(pod, c.Name, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
			w.log.Debug("preStop", "container", c.Name, "error", err)
		}
		cancel()
	}
	signal := "SIGTERM"
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		signal = string(*c.Lifecycle.StopSignal)
	}
	if err := w.engine.SignalContainer(ctx, ctr.ID, signal); err != nil {
		w.log.Debug("signal", "container", c.Name, "signal", signal, "error", err)
	}
	minimum := time.Now().Add(2 * time.Second) // as Kubernetes grants after a preStop that took all
	end := func() time.Time {
		d := deadline()
		if c.Lifecycle != nil && c.Lifecycle.PreStop != nil && d.Before(minimum) {
			return minimum
		}
		return d
	}
	if w.waitExit(ctx, ctr.ID, end) {
		return
	}
	for ctx.Err() == nil {
		if err := w.engine.SignalContainer(ctx, ctr.ID, "SIGKILL"); err != nil {
			w.log.Warn("kill", "container", c.Name, "error", err)
		}
		until := time.Now().Add(2 * time.Second)
		if w.waitExit(ctx, ctr.ID, func() time.Time { return until }) {
			return
		}
	}
}

// waitExit waits until the container isn't running.
func (w *worker) waitExit(ctx context.Context, id string, deadline func() time.Time) bool {
	for {
		ch := w.changed()
		if all, err := w.engine.Containers(ctx); err == nil {
			running := false
			for _, c := range all {
				running = running || c.ID == id && c.State != Exited
			}
			if !running {
				return true
			}
		}
		left := time.Until(deadline())
		if left <= 0 || ctx.Err() != nil {
			return false
		}
		t := time.NewTimer(min(left, 500*time.Millisecond))
		select {
		case <-ch:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// hook runs a lifecycle handler.
func (w *worker) hook(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id string, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		code, err := w.engine.Exec(ctx, id, h.Exec.Command, Streams{})
		if err != nil {
			return err
		}
		if code != 0 {
			return fmt.Errorf("command %q exited with %d", h.Exec.Command, code)
		}
		return nil
	case h.HTTPGet != nil:
		_, err := w.probeHTTP(ctx, pod, c, h.HTTPGet)
		return err
	case h.Sleep != nil:
		t := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
