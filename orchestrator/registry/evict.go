package registry

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// maxDisrupted bounds the pods that a budget remembers as being evicted, as in Kubernetes.
const maxDisrupted = 2000

// Evict deletes a pod if its budget allows the disruption, and is answered TooManyRequests otherwise. The budget's
// counter is taken down with a compare-and-swap before the pod is deleted, so that two evictions never share one
// disruption. The pod's condition DisruptionTarget says why it ends.
func (r *Registry) Evict(ctx context.Context, namespace, name string, del metav1.DeleteOptions, as UpdateOptions) error {
	if len(del.DryRun) > 0 {
		as.DryRun = true
	}
	taken := false
	for attempt := 1; ; attempt++ {
		again, err := r.tryEvict(ctx, namespace, name, del, as, &taken)
		if !apierrors.IsConflict(err) || !again || attempt >= raceAttempts {
			return err
		}
	}
}

// tryEvict asks the budget, says why in the pod's conditions, and deletes it. A Conflict with again set is about a pod
// that has changed meanwhile. taken says that the budget has given its disruption already.
func (r *Registry) tryEvict(ctx context.Context, namespace, name string, del metav1.DeleteOptions, as UpdateOptions, taken *bool) (again bool, err error) {
	entry, err := r.Get(ctx, podsGVR(), namespace, name)
	if err != nil {
		return false, err
	}
	pod, ok := entry.Object().(*corev1.Pod)
	if !ok {
		return false, apierrors.NewBadRequest("only pods are evicted")
	}
	asked := metav1.Preconditions{}
	if del.Preconditions != nil {
		asked = *del.Preconditions
	}
	switch {
	case asked.UID != nil && *asked.UID != pod.UID, asked.ResourceVersion != nil && *asked.ResourceVersion != pod.ResourceVersion:
		return false, r.deleteEvicted(ctx, namespace, name, del, as) // which says what is wrong
	}
	// A pod that has ended, is ending or never ran is no disruption.
	free := pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodPending || pod.Status.Phase == ""
	if !free && !*taken {
		if *taken, err = r.takeDisruption(ctx, pod, as); err != nil {
			return false, err
		}
	}
	uid, version := pod.UID, pod.ResourceVersion
	if !as.DryRun && pod.DeletionTimestamp == nil {
		marked := pod.DeepCopy()
		setDisruptionTarget(marked, metav1.NewTime(r.clock.Now().Truncate(time.Second)))
		e, err := r.Update(ctx, podsGVR(), subStatus, marked, as)
		if err != nil {
			return asked.ResourceVersion == nil, err
		}
		version = e.Object().GetResourceVersion()
	}
	del.Preconditions = &metav1.Preconditions{UID: &uid}
	// One that went free of the budget must still be as it was.
	if asked.ResourceVersion != nil || !*taken {
		del.Preconditions.ResourceVersion = &version
	}
	return asked.ResourceVersion == nil, r.deleteEvicted(ctx, namespace, name, del, as)
}

func (r *Registry) deleteEvicted(ctx context.Context, namespace, name string, del metav1.DeleteOptions, as UpdateOptions) error {
	_, _, err := r.DeleteAs(ctx, podsGVR(), namespace, name, del, as)
	return err
}

// setDisruptionTarget says why the pod ends: a Job's podFailurePolicy, for one, doesn't count that as a failure.
func setDisruptionTarget(pod *corev1.Pod, now metav1.Time) {
	condition := corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI",
		Message: "Eviction API: evicting", LastTransitionTime: now}
	for i := range pod.Status.Conditions {
		if had := &pod.Status.Conditions[i]; had.Type == corev1.DisruptionTarget {
			if had.Status == condition.Status {
				condition.LastTransitionTime = had.LastTransitionTime
			}
			*had = condition
			return
		}
	}
	pod.Status.Conditions = append(pod.Status.Conditions, condition)
}

// takeDisruption takes one allowed disruption from the budget that covers the pod, and says whether one does and
// the pod isn't free of it.
func (r *Registry) takeDisruption(ctx context.Context, pod *corev1.Pod, as UpdateOptions) (taken bool, err error) {
	gvr := policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets")
	if r.Kind(gvr) == nil {
		return false, nil
	}
	for attempt := 1; ; attempt++ {
		list, err := r.List(ctx, gvr, pod.Namespace, ListOptions{})
		if err != nil {
			return false, err
		}
		var budget *policyv1.PodDisruptionBudget
		for _, entry := range list.Entries {
			b, ok := entry.Object().(*policyv1.PodDisruptionBudget)
			if !ok || b.Spec.Selector == nil {
				continue
			}
			selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			if err != nil || !selector.Matches(labels.Set(pod.Labels)) {
				continue
			}
			if budget != nil {
				return false, apierrors.NewInternalError(fmt.Errorf("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."))
			}
			budget = b
		}
		if budget == nil || unhealthyIsFree(budget, pod) {
			return false, nil
		}
		if err := allowsDisruption(budget); err != nil {
			return false, err
		}
		if as.DryRun {
			return true, nil
		}
		changed := budget.DeepCopy()
		changed.Status.DisruptionsAllowed--
		if changed.Status.DisruptedPods == nil {
			changed.Status.DisruptedPods = map[string]metav1.Time{}
		}
		changed.Status.DisruptedPods[pod.Name] = metav1.NewTime(r.clock.Now().Truncate(time.Second))
		_, err = r.Update(ctx, gvr, subStatus, changed, as)
		if apierrors.IsConflict(err) && attempt < raceAttempts {
			continue
		}
		return err == nil, err
	}
}

// unhealthyIsFree reports whether a pod that isn't ready may go whatever the counter says.
func unhealthyIsFree(b *policyv1.PodDisruptionBudget, pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
			return false
		}
	}
	if b.Spec.UnhealthyPodEvictionPolicy != nil && *b.Spec.UnhealthyPodEvictionPolicy == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

func allowsDisruption(b *policyv1.PodDisruptionBudget) error {
	const message = "Cannot evict pod as it would violate the pod's disruption budget."
	refuse := func(detail string, retry int) error {
		err := apierrors.NewTooManyRequests(message, retry)
		err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: detail})
		return err
	}
	switch {
	case b.Status.ObservedGeneration < b.Generation:
		return refuse(fmt.Sprintf("The disruption budget %s is still being processed by the server.", b.Name), 10)
	case len(b.Status.DisruptedPods) > maxDisrupted:
		return apierrors.NewForbidden(policyv1.Resource("poddisruptionbudget"), b.Name, fmt.Errorf("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
	case b.Status.DisruptionsAllowed <= 0:
		return refuse(fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy), 0)
	}
	return nil
}
