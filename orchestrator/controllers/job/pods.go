package job

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const (
	indexVariable = "JOB_COMPLETION_INDEX"
	maxPrefix     = 58 // of a generated name, for which five random characters are kept
)

// makePod is the pod of the Job's template.
func makePod(j *batchv1.Job, n newPod) *corev1.Pod {
	t := j.Spec.Template.DeepCopy()
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Spec: t.Spec}
	pod.Namespace, pod.GenerateName = j.Namespace, j.Name+"-"
	pod.Labels, pod.Annotations = t.Labels, t.Annotations
	pod.Finalizers = append(t.Finalizers, batchv1.JobTrackingFinalizer)
	pod.OwnerReferences = []metav1.OwnerReference{reconcile.ControllerRef(j, kind())}
	if n.index == noIndex {
		return pod
	}
	index := strconv.Itoa(n.index)
	suffix := "-" + index + "-"
	pod.GenerateName = j.Name[:min(len(j.Name), maxPrefix-len(suffix))] + suffix
	set(&pod.Labels, batchv1.JobCompletionIndexAnnotation, index)
	set(&pod.Annotations, batchv1.JobCompletionIndexAnnotation, index)
	if j.Spec.BackoffLimitPerIndex != nil {
		set(&pod.Annotations, batchv1.JobIndexFailureCountAnnotation, strconv.Itoa(n.failures))
		if n.ignored > 0 {
			set(&pod.Annotations, batchv1.JobIndexIgnoredFailureCountAnnotation, strconv.Itoa(n.ignored))
		}
	}
	if pod.Spec.Hostname == "" {
		pod.Spec.Hostname = j.Name + "-" + index
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if slices.ContainsFunc(list[i].Env, func(v corev1.EnvVar) bool { return v.Name == indexVariable }) {
				continue
			}
			list[i].Env = append(list[i].Env, corev1.EnvVar{Name: indexVariable, ValueFrom: &corev1.EnvVarSource{
				FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.labels['" + batchv1.JobCompletionIndexAnnotation + "']"}}})
		}
	}
	return pod
}

func set(m *map[string]string, key, value string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[key] = value
}

// createPods creates 1, 2, 4, … pods at a time and stops at the first batch that fails, so that a quota or a policy that
// refuses one pod isn't asked for all of them.
func (c *shell) createPods(ctx context.Context, j *batchv1.Job, pods []newPod) error {
	for size := 1; len(pods) > 0; size *= 2 {
		batch := pods[:min(size, len(pods))]
		if err := inParallel(len(batch), func(i int) error { return c.createPod(ctx, j, batch[i]) }); err != nil {
			return err
		}
		pods = pods[len(batch):]
	}
	return nil
}

func (c *shell) createPod(ctx context.Context, j *batchv1.Job, n newPod) error {
	got, err := c.env.Client.Create(ctx, reconcile.Pods(), makePod(j, n))
	if err != nil {
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			c.events.Emit(Name, j, kind(), corev1.EventTypeWarning, "FailedCreate", "Error creating: "+err.Error())
		}
		return fmt.Errorf("create pod: %w", err)
	}
	c.events.Emit(Name, j, kind(), corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+got.GetName())
	return nil
}

func (c *shell) deletePod(ctx context.Context, j *batchv1.Job, pod *corev1.Pod) error {
	uid := pod.UID
	err := c.env.Client.Delete(ctx, reconcile.Pods(), pod.Namespace, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		c.events.Emit(Name, j, kind(), corev1.EventTypeWarning, "FailedDelete", fmt.Sprintf("Error deleting: %v", err))
		return fmt.Errorf("delete pod %s: %w", pod.Name, err)
	}
	c.events.Emit(Name, j, kind(), corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+pod.Name)
	return nil
}

// inParallel runs f for 0..n-1, some at the same time, and returns the first error. A panic becomes an error: these
// goroutines are outside the loop's recover.
func inParallel(n int, f func(int) error) error {
	const together = 64
	errs := make([]error, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, together)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					errs[i] = fmt.Errorf("panic: %v", p)
				}
				<-slots
			}()
			errs[i] = f(i)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
