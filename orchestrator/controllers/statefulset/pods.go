package statefulset

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile/history"
)

// errClaimGoes says that a pod waits until a claim of its name, which goes with an earlier pod, is gone.
var errClaimGoes = errors.New("a claim of the pod's is being deleted")

// createPods creates 1, 2, 4, … pods at a time and stops at the first batch that fails.
func (c *shell) createPods(ctx context.Context, set *appsv1.StatefulSet, pods []creation) error {
	for size := 1; len(pods) > 0; size *= 2 {
		size = min(size, len(pods))
		if err := reconcile.Each(size, func(i int) error { return c.createPod(ctx, set, pods[i]) }); err != nil {
			return err
		}
		pods = pods[size:]
	}
	return nil
}

// createPod creates the claims that are missing, and then the pod.
func (c *shell) createPod(ctx context.Context, set *appsv1.StatefulSet, n creation) error {
	template, err := history.Template(n.revision)
	if err != nil {
		return err
	}
	pod := newPod(set, template, n.revision.Name, n.ordinal)
	if err = c.createClaims(ctx, set, n.ordinal, nil); errors.Is(err, errClaimGoes) {
		return err
	}
	if err == nil {
		_, err = c.env.Client.Create(ctx, reconcile.Pods(), pod)
	}
	if apierrors.IsAlreadyExists(err) {
		have, getErr := reconcile.Get[*corev1.Pod](ctx, c.env.Client, reconcile.Pods(), pod.Namespace, pod.Name)
		if getErr != nil {
			return getErr
		}
		if have != nil && metav1.IsControlledBy(have, set) { // our own, whose answer was lost
			return fmt.Errorf("pod %s has just been made: %w", pod.Name, apierrors.NewConflict(reconcile.Pods().GroupResource(), pod.Name, nil))
		}
	}
	if err != nil {
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			c.events.Emit(Name, set, kind(), corev1.EventTypeWarning, "FailedCreate",
				fmt.Sprintf("create Pod %s in StatefulSet %s failed error: %v", pod.Name, set.Name, err))
		}
		return fmt.Errorf("create pod %s: %w", pod.Name, err)
	}
	c.events.Emit(Name, set, kind(), corev1.EventTypeNormal, "SuccessfulCreate", fmt.Sprintf("create Pod %s in StatefulSet %s successful", pod.Name, set.Name))
	return nil
}

func (c *shell) deletePods(ctx context.Context, set *appsv1.StatefulSet, pods []*corev1.Pod) error {
	return reconcile.Each(len(pods), func(i int) error {
		uid := pods[i].UID
		err := c.env.Client.Delete(ctx, reconcile.Pods(), set.Namespace, pods[i].Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			c.events.Emit(Name, set, kind(), corev1.EventTypeWarning, "FailedDelete",
				fmt.Sprintf("delete Pod %s in StatefulSet %s failed error: %v", pods[i].Name, set.Name, err))
			return fmt.Errorf("delete pod %s: %w", pods[i].Name, err)
		}
		c.events.Emit(Name, set, kind(), corev1.EventTypeNormal, "SuccessfulDelete", fmt.Sprintf("delete Pod %s in StatefulSet %s successful", pods[i].Name, set.Name))
		return nil
	})
}

// createClaims creates the claims of an ordinal that are missing. pod is the one that there is, nil before its creation:
// then a claim that goes with its predecessor is waited for.
func (c *shell) createClaims(ctx context.Context, set *appsv1.StatefulSet, ordinal int, pod *corev1.Pod) error {
	for i := range set.Spec.VolumeClaimTemplates {
		want := newClaim(set, &set.Spec.VolumeClaimTemplates[i], ordinal)
		have, err := reconcile.Get[*corev1.PersistentVolumeClaim](ctx, c.env.Client, reconcile.PersistentVolumeClaims(), want.Namespace, want.Name)
		if err != nil {
			return err
		}
		if have != nil {
			if pod == nil && stale(set, have) {
				return errClaimGoes
			}
			continue
		}
		if _, err := c.env.Client.Create(ctx, reconcile.PersistentVolumeClaims(), want); err != nil && !apierrors.IsAlreadyExists(err) {
			c.events.Emit(Name, set, kind(), corev1.EventTypeWarning, "FailedCreate",
				fmt.Sprintf("create Claim %s for Pod %s in StatefulSet %s failed error: %v", want.Name, podName(set, ordinal), set.Name, err))
			return fmt.Errorf("create claim %s: %w", want.Name, err)
		} else if err == nil {
			c.events.Emit(Name, set, kind(), corev1.EventTypeNormal, "SuccessfulCreate",
				fmt.Sprintf("create Claim %s Pod %s in StatefulSet %s success", want.Name, podName(set, ordinal), set.Name))
		}
	}
	return nil
}

// keepClaims gives the claims of every pod the owners that the retention policy asks for, and a pod that waits for its
// claims those that are missing.
func (c *shell) keepClaims(ctx context.Context, in input) error {
	set := in.set
	if len(set.Spec.VolumeClaimTemplates) == 0 || set.DeletionTimestamp != nil {
		return nil
	}
	first := start(set)
	for _, p := range in.pods {
		ordinal, _ := ordinalOf(set, p.Name)
		var condemned *corev1.Pod
		if ordinal < first || ordinal >= first+replicas(set) {
			condemned = p
		} else if p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodPending {
			if err := c.createClaims(ctx, set, ordinal, p); err != nil {
				return err
			}
		}
		for i := range set.Spec.VolumeClaimTemplates {
			name := claimName(set, &set.Spec.VolumeClaimTemplates[i], ordinal)
			have, err := reconcile.Get[*corev1.PersistentVolumeClaim](ctx, c.env.Client, reconcile.PersistentVolumeClaims(), set.Namespace, name)
			if err != nil {
				return err
			}
			if have == nil {
				continue
			}
			n := have.DeepCopy()
			if !ownClaim(set, n, condemned) {
				continue
			}
			if _, err := c.env.Client.Update(ctx, reconcile.PersistentVolumeClaims(), "", n); err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("own claim %s: %w", name, err)
			}
		}
	}
	return nil
}
