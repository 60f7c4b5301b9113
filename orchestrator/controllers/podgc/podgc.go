// Package podgc removes pods that nobody else will: of nodes that are gone, ended ones beyond a
// threshold, and terminating ones that were never scheduled.
package podgc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const (
	// DefaultThreshold is how many ended pods are kept.
	DefaultThreshold = 12500
	period           = 20 * time.Second
	quarantine       = 40 * time.Second
)

type shell struct {
	env       reconcile.Env
	threshold int
	missing   map[string]time.Time // nodes, since when; only the one worker touches it
}

// New makes the controller; threshold 0 is DefaultThreshold, negative keeps all ended pods.
func New(env reconcile.Env, threshold int) *reconcile.Controller {
	if threshold == 0 {
		threshold = DefaultThreshold
	}
	c := &shell{env.WithDefaults(), threshold, map[string]time.Time{}}
	return &reconcile.Controller{Name: "pod-garbage-collector", Workers: 1, Reconcile: c.reconcile, Start: []reconcile.Key{{Name: "all"}}}
}

// decide returns the pods to remove; orphans of missing nodes are told apart.
func decide(pods []*corev1.Pod, lost func(node string) bool, threshold int) (remove, orphans []*corev1.Pod) {
	var ended []*corev1.Pod
	for _, p := range pods {
		switch {
		case p.Spec.NodeName != "" && lost(p.Spec.NodeName):
			orphans = append(orphans, p)
		case p.Spec.NodeName == "" && p.DeletionTimestamp != nil:
			remove = append(remove, p)
		case reconcile.PodTerminal(p):
			ended = append(ended, p)
		}
	}
	if n := len(ended) - threshold; threshold >= 0 && n > 0 {
		slices.SortFunc(ended, func(a, b *corev1.Pod) int { return a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time) })
		remove = append(remove, ended[:n]...)
	}
	return remove, orphans
}

func (c *shell) reconcile(ctx context.Context, _ reconcile.Key) (time.Duration, error) {
	cl, now := c.env.Client, c.env.Clock.Now()
	nodes, err := cl.List(ctx, reconcile.Nodes(), "", nil)
	if err != nil {
		return 0, fmt.Errorf("list nodes: %w", err)
	}
	pods, err := reconcile.List[*corev1.Pod](ctx, cl, reconcile.Pods(), "", nil)
	if err != nil {
		return 0, err
	}
	have := map[string]bool{}
	for _, n := range nodes {
		have[n.GetName()] = true
		delete(c.missing, n.GetName())
	}
	seen := map[string]bool{}
	remove, orphans := decide(pods, func(node string) bool {
		if have[node] {
			return false
		}
		seen[node] = true
		since, ok := c.missing[node]
		if !ok {
			c.missing[node] = now
			return false
		}
		return now.Sub(since) >= quarantine
	}, c.threshold)
	for n := range c.missing {
		if !seen[n] {
			delete(c.missing, n)
		}
	}
	var errs []error
	for _, p := range orphans {
		m := p.DeepCopy()
		if !reconcile.PodTerminal(p) {
			m.Status.Phase = corev1.PodFailed
			m.Status.Conditions = slices.DeleteFunc(m.Status.Conditions, func(x corev1.PodCondition) bool { return x.Type == corev1.DisruptionTarget })
			m.Status.Conditions = append(m.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
				Reason: "DeletionByPodGC", Message: "PodGC: node no longer exists", LastTransitionTime: metav1.NewTime(now)})
			if _, err := cl.Update(ctx, reconcile.Pods(), "status", m); err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, err)
				continue
			}
		}
		remove = append(remove, p)
	}
	zero := int64(0)
	for _, p := range remove {
		uid := p.UID
		err := cl.Delete(ctx, reconcile.Pods(), p.Namespace, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &uid}})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return period, errors.Join(errs...)
}
