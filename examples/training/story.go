package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// limit is how long the run may take on a slow machine.
const limit = 4 * time.Minute

// progress is the trainer's checkpoint, and its result.
type progress struct {
	Step               int
	Slope, Shift, Loss float64
	ResumedAt          []int
}

func (c *cluster) train(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took more than %v", limit))
	defer cancel()
	shared := filepath.Join(c.dir, "shared")
	if err := os.Mkdir(shared, 0o755); err != nil {
		return err
	}
	_, err := c.client.SchedulingV1beta1().PodGroups(namespace).Create(ctx, group(), metav1.CreateOptions{})
	if err == nil {
		_, err = c.client.CoreV1().Services(namespace).Create(ctx, service(), metav1.CreateOptions{})
	}
	if err == nil {
		_, err = c.client.BatchV1().Jobs(namespace).Create(ctx, job(shared), metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	c.say("Job %s: %d ranks, a GPU each, all or none", jobName, world)

	lost := ""
	last := ""
	for {
		ranks, err := c.ranks(ctx)
		if err != nil {
			return err
		}
		if now := strings.Join(ranks, " "); now != last && len(ranks) == world {
			last = now
			c.say("ranks run: %s", now)
		}
		at, err := read(filepath.Join(shared, "checkpoint"))
		if err == nil && at.Step >= steps/3 && lost == "" && len(ranks) == world {
			_, lost, _ = strings.Cut(ranks[0], "@")
			c.say("step %d, loss %.4f; now node %s is lost, and rank 0 with it", at.Step, at.Loss, lost)
			if err := c.lose(ctx, lost); err != nil {
				return err
			}
		}
		j, err := c.client.BatchV1().Jobs(namespace).Get(ctx, jobName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if kind, message := ended(j); kind == batchv1.JobFailed {
			return fmt.Errorf("the Job failed: %s", message)
		} else if kind == batchv1.JobComplete {
			c.say("the Job is complete: indexes %s, %d failure of the gang on its way", j.Status.CompletedIndexes, j.Status.Failed)
			return c.judge(shared, lost)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tellFailures says why ranks have failed, once for each.
func (c *cluster) tellFailures(pods []corev1.Pod) {
	for _, p := range pods {
		if p.Status.Phase == corev1.PodFailed && p.Status.Reason != "" && !c.told[p.Name] {
			c.told[p.Name] = true
			c.say("%s on %s failed: %s: %s", p.Name, p.Spec.NodeName, p.Status.Reason, p.Status.Message)
		}
		for _, s := range p.Status.ContainerStatuses {
			if t := s.State.Terminated; t != nil && t.ExitCode != 0 && !c.told[p.Name] {
				c.told[p.Name] = true
				c.say("%s on %s ended with %d: %s", p.Name, p.Spec.NodeName, t.ExitCode, strings.TrimSpace(t.Message))
			}
		}
	}
}

// ranks are those that run, as "0@node", in order.
func (c *cluster) ranks(ctx context.Context) (out []string, err error) {
	pods, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + jobName})
	if err != nil {
		return nil, err
	}
	c.tellFailures(pods.Items)
	for _, p := range pods.Items {
		if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			out = append(out, p.Labels[batchv1.JobCompletionIndexAnnotation]+"@"+p.Spec.NodeName)
		}
	}
	slices.Sort(out)
	return out, nil
}

// lose ends a node's process in the middle of everything; then whoever runs the machines takes the node and its pods off the
// cluster, which can't know whether they are gone for good.
func (c *cluster) lose(ctx context.Context, name string) error {
	if err := c.all[name].stop(); err != nil {
		return err
	}
	if err := c.client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return c.client.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: ptr[int64](0)},
		metav1.ListOptions{FieldSelector: "spec.nodeName=" + name})
}

func ended(j *batchv1.Job) (batchv1.JobConditionType, string) {
	for _, c := range j.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
			return c.Type, c.Message
		}
	}
	return "", ""
}

func read(path string) (p progress, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(b, &p)
}

// judge says whether what was trained is right, and whether it was resumed and not begun again.
func (c *cluster) judge(shared, lost string) error {
	p, err := read(filepath.Join(shared, "result"))
	if err != nil {
		return err
	}
	c.say("trained: y = %.3fx + %.3f, loss %.6f, after %d steps; resumed at step %v", p.Slope, p.Shift, p.Loss, p.Step, p.ResumedAt)
	switch {
	case math.Abs(p.Slope-3) > 0.05 || math.Abs(p.Shift-2) > 0.05 || p.Step != steps:
		return fmt.Errorf("y = 3x + 2 was to be learned")
	case lost == "":
		return fmt.Errorf("it was over before a node was lost")
	case len(p.ResumedAt) == 0 || p.ResumedAt[0] < steps/3:
		return fmt.Errorf("it was not resumed from its checkpoint")
	}
	c.say("right: nothing was lost with node %s but a few steps", lost)
	return nil
}
