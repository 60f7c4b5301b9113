package runtime

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// finish takes the pod's remains off the node and, when it was deleted, off the API.
func (w *worker) finish(ctx context.Context, pod *corev1.Pod) (bool, time.Duration) {
	if !w.settled {
		w.settled = true
		w.pump.flush(ctx, 2*time.Second)
		w.a.retryResizes()
	}
	w.stopProbers()
	if w.engine != nil && w.looked && w.sandbox != nil {
		if err := w.engine.RemoveSandbox(ctx, string(w.uid)); err != nil {
			w.log.Warn("remove sandbox", "error", err)
			return false, time.Second
		}
		w.sandbox = nil
	}
	if w.a.cfg.Devices != nil {
		if err := w.a.cfg.Devices.Release(w.uid); err != nil {
			w.log.Warn("release devices", "error", err)
			return false, time.Second
		}
		w.setDevices(false)
	}
	if w.a.pins != nil {
		if err := w.a.pins.release(w.uid); err != nil {
			w.log.Warn("release CPUs", "error", err)
			return false, time.Second
		}
	}
	if !w.provided.end() {
		return false, 200 * time.Millisecond
	}
	if err := w.a.unmountDrivers(ctx, w.uid); err != nil {
		if now := w.a.cfg.Clock(); now.Sub(w.said["unmount"]) > mountSaid {
			w.said["unmount"] = now
			w.event(pod, corev1.EventTypeWarning, "FailedUnMount", err.Error())
		}
		return false, time.Second
	}
	w.a.release(w.uid)
	if err := removeTree(w.a.podDir(w.uid)); err != nil {
		w.log.Warn("remove volumes", "error", err)
		return false, time.Second
	}
	w.volumes = nil
	if pod.DeletionTimestamp == nil {
		return false, idle // its logs stay until it is deleted
	}
	w.a.removePodDir(w.uid)
	if w.isGone() {
		return true, 0
	}
	zero := int64(0)
	uid := w.uid
	err := w.a.cfg.Client.CoreV1().Pods(w.namespace).Delete(ctx, w.name,
		metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &uid}})
	switch {
	case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err):
		if len(pod.Finalizers) > 0 && err == nil {
			return false, idle
		}
		return true, 0
	}
	w.log.Debug("delete pod", "error", err)
	return false, time.Second
}
