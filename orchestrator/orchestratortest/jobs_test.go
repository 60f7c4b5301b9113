package orchestratortest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/api"
)

// A gang of a Job through the whole control plane: it starts on nodes at once, restarts as a whole when one rank fails,
// counts that once, completes, and is deleted with its pods; a CronJob starts its Jobs.
func TestAGangOfAJobRunsFailsAndCompletesAsAWhole(t *testing.T) {
	c := startGangs(t)
	c.node("n1", "r1", 2)
	c.node("n2", "r1", 1)
	c.group("ranks", 3, nil)
	jobs := c.Client.BatchV1().Jobs("default")
	one := corev1.ResourceList{gpus: *resource.NewQuantity(1, resource.DecimalSI)}
	_, err := jobs.Create(c.ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "train"}, Spec: batchv1.JobSpec{
		CompletionMode: ptr.To(batchv1.IndexedCompletion), Completions: ptr.To[int32](3), Parallelism: ptr.To[int32](3),
		PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{Action: batchv1.PodFailurePolicyActionIgnore,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{75}}}}},
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Subdomain: "train", TerminationGracePeriodSeconds: ptr.To[int64](0),
			SchedulingGroup: &corev1.PodSchedulingGroup{PodGroupName: ptr.To("ranks")},
			Containers:      []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{Limits: one, Requests: one}}}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rank := func(index string) (out *corev1.Pod) {
		list, err := c.Client.CoreV1().Pods("default").List(c.ctx, metav1.ListOptions{LabelSelector: "batch.kubernetes.io/job-name=train,batch.kubernetes.io/job-completion-index=" + index})
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range list.Items {
			if p.DeletionTimestamp == nil && !api.PodEnded(&p) && p.Spec.NodeName != "" {
				out = &list.Items[i]
			}
		}
		return out
	}
	end := func(p *corev1.Pod, code int32) {
		p.Status.Phase = corev1.PodSucceeded
		if code != 0 {
			p.Status.Phase = corev1.PodFailed
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.Now()}}}}
		if _, err := c.Client.CoreV1().Pods("default").UpdateStatus(c.ctx, p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	all := func() (names []string) {
		for _, index := range []string{"0", "1", "2"} {
			if p := rank(index); p != nil {
				names = append(names, p.Name)
			}
		}
		return names
	}
	status := func() string {
		j, err := jobs.Get(c.ctx, "train", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		kind := ""
		if f := api.JobFinished(j); f != nil {
			kind = string(f.Type)
		}
		return fmt.Sprintf("%d %d %s%s", j.Status.Active, j.Status.Failed, j.Status.CompletedIndexes, kind)
	}
	within := func(what string, ok func() bool) {
		t.Helper()
		eventually(t, what, func(context.Context) (bool, error) { return ok(), nil })
	}
	within("three ranks on nodes", func() bool { return len(all()) == 3 })
	first := all()
	if p := rank("1"); p.Spec.Hostname != "train-1" || p.Labels["job-name"] != "train" {
		t.Errorf("rank 1: host %s, labels %v", p.Spec.Hostname, p.Labels)
	}
	end(rank("0"), 0)
	end(rank("1"), 75)
	within("all are replaced", func() bool {
		now := all()
		return len(now) == 3 && now[0] != first[0] && now[1] != first[1] && now[2] != first[2]
	})
	if got := status(); !strings.HasSuffix(got, " 0 ") {
		t.Errorf("after a failure that is ignored: %s", got)
	}
	for _, index := range []string{"2", "0", "1"} {
		end(rank(index), 0)
	}
	within("it is complete", func() bool { return status() == "0 0 0-2Complete" })
	if err := jobs.Delete(c.ctx, "train", metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}); err != nil {
		t.Fatal(err)
	}
	within("its pods are gone with it", func() bool { return len(c.pods()) == 0 })

	_, err = c.Client.BatchV1().CronJobs("default").Create(c.ctx, &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "often"}, Spec: batchv1.CronJobSpec{Schedule: "@every 1s",
		JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{Name: "c", Image: "i"}}}}}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	within("a CronJob starts a Job", func() bool {
		list, err := jobs.List(c.ctx, metav1.ListOptions{})
		return err == nil && len(list.Items) > 0 && strings.HasPrefix(list.Items[0].Name, "often-") && metav1.Now().Sub(list.Items[0].CreationTimestamp.Time) < time.Minute
	})
}

func (c *gangCluster) pods() []corev1.Pod {
	list, err := c.Client.CoreV1().Pods("default").List(c.ctx, metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return list.Items
}
