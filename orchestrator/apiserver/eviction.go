package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pintle/pintle/orchestrator/registry"
)

// maxDisrupted bounds the pods that a budget remembers as being evicted, as in Kubernetes.
const maxDisrupted = 2000

// evict deletes a pod if its budget allows the disruption. The budget's counter is taken down with a
// compare-and-swap before the pod is deleted, so that two evictions never share one disruption.
func (c *call) evict(w http.ResponseWriter, r *http.Request) error {
	opts, err := c.writeOptions(r, createOptionsKind)
	if err != nil {
		return err
	}
	var eviction policyv1.Eviction
	neg, err := c.readBeside(w, r, policyv1.SchemeGroupVersion.WithKind("Eviction"), &eviction, opts)
	if err != nil {
		return err
	}
	if err := c.checkIdentity(&eviction); err != nil {
		return err
	}
	var del metav1.DeleteOptions
	if eviction.DeleteOptions != nil {
		del = *eviction.DeleteOptions
	}
	if err := invalidOptions(deleteOptionsKind, validation.ValidateDeleteOptions(&del)); err != nil {
		return err
	}
	opts.dryRun = opts.dryRun || len(del.DryRun) > 0
	if opts.dryRun {
		del.DryRun = []string{metav1.DryRunAll}
	}
	entry, err := c.registry.Get(r.Context(), c.gvr, c.namespace, c.name)
	if err != nil {
		return err
	}
	pod, ok := entry.Object().(*corev1.Pod)
	if !ok {
		return errNoSuchPath()
	}
	// A pod that has ended, is ending or never ran is no disruption.
	free := pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodPending || pod.Status.Phase == ""
	if !free {
		if err := c.takeDisruption(r.Context(), pod, opts.dryRun); err != nil {
			return err
		}
	}
	if del.Preconditions == nil {
		uid := pod.UID
		del.Preconditions = &metav1.Preconditions{UID: &uid}
	}
	if _, _, err := c.registry.Delete(r.Context(), c.gvr, c.namespace, c.name, del, c.user.Name, c.user.Groups...); err != nil {
		return err
	}
	return c.writeObject(w, r, http.StatusCreated, success(), neg)
}

// takeDisruption takes one allowed disruption from the budget that covers the pod, if one does.
func (c *call) takeDisruption(ctx context.Context, pod *corev1.Pod, dry bool) error {
	gvr := policyv1.SchemeGroupVersion.WithResource("poddisruptionbudgets")
	if c.registry.Kind(gvr) == nil {
		return nil
	}
	for attempt := 1; ; attempt++ {
		list, err := c.registry.List(ctx, gvr, pod.Namespace, registry.ListOptions{})
		if err != nil {
			return err
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
				return apierrors.NewInternalError(fmt.Errorf("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."))
			}
			budget = b
		}
		if budget == nil || unhealthyIsFree(budget, pod) {
			return nil
		}
		if err := allowsDisruption(budget); err != nil {
			return err
		}
		if dry {
			return nil
		}
		changed := budget.DeepCopy()
		changed.Status.DisruptionsAllowed--
		if changed.Status.DisruptedPods == nil {
			changed.Status.DisruptedPods = map[string]metav1.Time{}
		}
		changed.Status.DisruptedPods[pod.Name] = metav1.NewTime(c.clock.Now().Truncate(time.Second))
		_, err = c.registry.Update(ctx, gvr, "status", changed, c.updateOptions(writeOptions{manager: "pintle-eviction"}))
		if apierrors.IsConflict(err) && attempt < maxAttempts {
			continue
		}
		return err
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
