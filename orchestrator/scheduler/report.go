package scheduler

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
)

// report is what a person shall learn of one attempt: the node, or why there is none.
type report struct {
	pod  *corev1.Pod
	node string
	err  error
}

// maxRemembered bounds how many failing pods' last events are kept for counting.
const maxRemembered = 4096

// report writes events and conditions, one after the other, off the decision's path.
func (l *loop) report(ctx context.Context, reports <-chan report) error {
	last := map[types.UID]*corev1.Event{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-reports:
			if r.err == nil {
				delete(last, r.pod.UID)
				l.event(ctx, r.pod, nil, corev1.EventTypeNormal, "Scheduled",
					fmt.Sprintf("Successfully assigned %s/%s to %s", r.pod.Namespace, r.pod.Name, r.node))
				continue
			}
			if len(last) >= maxRemembered {
				clear(last)
			}
			if err := l.condition(ctx, r.pod, r.err.Error()); apierrors.IsNotFound(err) {
				delete(last, r.pod.UID)
				continue // deleted meanwhile: nobody reads an event of it
			}
			last[r.pod.UID] = l.event(ctx, r.pod, last[r.pod.UID], corev1.EventTypeWarning, "FailedScheduling", r.err.Error())
		}
	}
}

// event writes one event, or counts up the last one when it says the same.
func (l *loop) event(ctx context.Context, pod *corev1.Pod, last *corev1.Event, kind, reason, message string) *corev1.Event {
	now := metav1.NewTime(l.cfg.Clock.Now())
	if last != nil && last.Message == message {
		again := last.DeepCopy()
		again.Count++
		again.LastTimestamp = now
		if stored, err := l.cfg.Client.Update(ctx, eventsResource, "", again); err == nil {
			return stored.(*corev1.Event)
		}
	}
	stored, err := l.cfg.Client.Create(ctx, eventsResource, &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace,
			Name:      fmt.Sprintf("%s.%x", pod.Name, now.UnixNano()),
		},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
		},
		Reason: reason, Message: message, Type: kind, Count: 1,
		FirstTimestamp: now, LastTimestamp: now,
		Source:              corev1.EventSource{Component: l.cfg.Name},
		ReportingController: l.cfg.Name,
	})
	if err != nil {
		if ctx.Err() == nil {
			l.cfg.Logger.Warn("event was not written", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
		}
		return nil
	}
	return stored.(*corev1.Event)
}

// condition writes PodScheduled=False with the reason, unless it stands there already.
func (l *loop) condition(ctx context.Context, pod *corev1.Pod, message string) error {
	err := l.updateStatus(ctx, pod, func(p *corev1.Pod) bool {
		return p.Spec.NodeName == "" && setCondition(&p.Status, corev1.PodCondition{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
			Reason: corev1.PodReasonUnschedulable, Message: message, LastTransitionTime: metav1.NewTime(l.cfg.Clock.Now()),
		})
	})
	if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		l.cfg.Logger.Warn("condition was not written", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
	}
	return err
}

// updateStatus lets change make up the pod's new status; false from it writes nothing.
func (l *loop) updateStatus(ctx context.Context, pod *corev1.Pod, change func(*corev1.Pod) bool) error {
	const attempts = 3
	var err error
	for range attempts {
		var current api.Object
		if current, err = l.cfg.Client.Get(ctx, podsResource, pod.Namespace, pod.Name); err != nil {
			return err
		}
		changed := current.DeepCopyObject().(*corev1.Pod)
		if changed.UID != pod.UID {
			return apierrors.NewNotFound(podsResource.GroupResource(), pod.Name)
		}
		if !change(changed) {
			return nil
		}
		if _, err = l.cfg.Client.Update(ctx, podsResource, "status", changed); !apierrors.IsConflict(err) {
			break
		}
	}
	return err
}

// setCondition returns false when the status says so already.
func setCondition(status *corev1.PodStatus, want corev1.PodCondition) bool {
	for i := range status.Conditions {
		have := &status.Conditions[i]
		if have.Type != want.Type {
			continue
		}
		if have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message {
			return false
		}
		if have.Status == want.Status {
			want.LastTransitionTime = have.LastTransitionTime
		}
		*have = want
		return true
	}
	status.Conditions = append(status.Conditions, want)
	return true
}
