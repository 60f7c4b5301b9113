// Package podgc removes pods that nobody else will: of nodes that are gone, ended ones beyond a
// threshold, terminating ones that were never scheduled, and those of a node that isn't ready and of which somebody
// says, with the taint node.kubernetes.io/out-of-service, that it is down (non-graceful node shutdown).
package podgc

import (
	"context"
	"errors"
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

// outOfService says whether nothing runs on the node any more.
func outOfService(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return false
		}
	}
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// decide returns the pods to remove; those that must be marked as failed before are told apart: orphans of missing
// nodes, and terminating ones of nodes that are down.
func decide(pods []*corev1.Pod, lost, down func(node string) bool, threshold int) (remove, orphans, stranded []*corev1.Pod) {
	var ended []*corev1.Pod
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil && p.Spec.NodeName != "" && down(p.Spec.NodeName):
			stranded = append(stranded, p)
		case p.Spec.NodeName != "" && lost(p.Spec.NodeName):
			orphans = append(orphans, p)
		case p.Spec.NodeName == "" && p.DeletionTimestamp != nil:
			remove = append(remove, p)
		case reconcile.PodTerminal(p):
			ended = append(ended, p)
		}
	}
	if n := len(ended) - threshold; threshold >= 0 && n > 0 {
		slices.SortFunc(ended, func(a, b *corev1.Pod) int { // those that were evicted go first
			if x, y := a.Status.Reason == "Evicted", b.Status.Reason == "Evicted"; x != y {
				if x {
					return -1
				}
				return 1
			}
			return a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time)
		})
		remove = append(remove, ended[:n]...)
	}
	return remove, orphans, stranded
}

func (c *shell) reconcile(ctx context.Context, _ reconcile.Key) (time.Duration, error) {
	cl, now := c.env.Client, c.env.Clock.Now()
	nodes, err := reconcile.List[*corev1.Node](ctx, cl, reconcile.Nodes(), "", nil)
	if err != nil {
		return 0, err
	}
	pods, err := reconcile.List[*corev1.Pod](ctx, cl, reconcile.Pods(), "", nil)
	if err != nil {
		return 0, err
	}
	have, down := map[string]bool{}, map[string]bool{}
	for _, n := range nodes {
		have[n.Name], down[n.Name] = true, outOfService(n)
		delete(c.missing, n.Name)
	}
	seen := map[string]bool{}
	remove, orphans, stranded := decide(pods, func(node string) bool {
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
	}, func(node string) bool { return down[node] }, c.threshold)
	for n := range c.missing {
		if !seen[n] {
			delete(c.missing, n)
		}
	}
	var errs []error
	for n, p := range append(orphans, stranded...) {
		m := p.DeepCopy()
		if !reconcile.PodTerminal(p) {
			m.Status.Phase = corev1.PodFailed
			if n < len(orphans) { // others were told why when their deletion began
				m.Status.Conditions = slices.DeleteFunc(m.Status.Conditions, func(x corev1.PodCondition) bool { return x.Type == corev1.DisruptionTarget })
				m.Status.Conditions = append(m.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
					Reason: "DeletionByPodGC", Message: "PodGC: node no longer exists", LastTransitionTime: metav1.NewTime(now)})
			}
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
