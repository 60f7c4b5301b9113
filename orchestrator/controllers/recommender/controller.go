package recommender

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controller's name in metrics.
const Name = "recommender"

// Metrics is where use is read.
type Metrics interface {
	MetricsOf(ctx context.Context, pods []*corev1.Pod) ([]metricsv1beta1.PodMetrics, error)
}

// Recommendations names the resource.
func Recommendations() schema.GroupVersionResource {
	return api.AutoscalingGroupVersion().WithResource("recommendations")
}

// New makes the controller; nothing runs yet. kinds are those that a Recommendation may name.
func New(env reconcile.Env, kinds []*api.Kind, metrics Metrics) *reconcile.Controller {
	c := &shell{env: env.WithDefaults(), kinds: kinds, metrics: metrics, known: map[types.UID]*memory{}}
	return &reconcile.Controller{Name: Name, Workers: 1, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: Recommendations(), Map: func(_ context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
			if e.Type == "DELETED" || e.Old == nil || e.Old.GetGeneration() != e.Object.GetGeneration() { // not what was written here
				enqueue(reconcile.KeyOf(e.Object))
			}
			if e.Type == "DELETED" {
				c.mu.Lock()
				delete(c.known, e.Object.GetUID())
				c.mu.Unlock()
			}
			return nil
		}},
	}}
}

type shell struct {
	env     reconcile.Env
	kinds   []*api.Kind
	metrics Metrics

	mu    sync.Mutex // guards known, whose values the one worker uses
	known map[types.UID]*memory
}

// memory is what this controller knows of a Recommendation.
type memory struct {
	target  api.TargetRef
	state   state
	read    map[string]time.Time // pod and container → time of the sample that was counted last
	written time.Time
}

func (c *shell) remember(r *api.Recommendation) *memory {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.known[r.UID]
	if m == nil {
		m = &memory{target: r.Spec.TargetRef, state: load(r.Status.Checkpoint), written: c.env.Clock.Now()}
		if r.Status.ObservedGeneration != 0 && r.Status.ObservedGeneration != r.Generation { // of another workload, perhaps
			m.state = state{}
		}
		c.known[r.UID] = m
	}
	if m.target != r.Spec.TargetRef {
		*m = memory{target: r.Spec.TargetRef, state: state{}, written: m.written}
	}
	if m.read == nil {
		m.read = map[string]time.Time{}
	}
	return m
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	r, err := reconcile.Get[*api.Recommendation](ctx, c.env.Client, Recommendations(), k.Namespace, k.Name)
	if err != nil || r == nil || r.DeletionTimestamp != nil {
		return 0, err
	}
	m, now := c.remember(r), c.env.Clock.Now()
	status := api.RecommendationStatus{ObservedGeneration: r.Generation, Checkpoint: r.Status.Checkpoint}
	pods, message, err := c.pods(ctx, r)
	if err != nil {
		return 0, err
	}
	if message == "" && len(pods) > 0 {
		message, err = c.observe(ctx, m, pods, now)
		if err != nil {
			return 0, err
		}
	}
	status.Message = message
	switch {
	case len(pods) > 0:
		status.Containers = m.state.suggest(&newest(pods).Spec)
	case message == "":
		status.Message, status.Containers = "the workload has no pods", r.Status.Containers
	}
	due := now.Sub(m.written) >= checkpoint && len(m.state) > 0
	if !due && status.Message == r.Status.Message && r.Status.ObservedGeneration == r.Generation && !worth(r.Status.Containers, status.Containers) {
		return period, nil
	}
	if len(m.state) > 0 {
		status.Checkpoint = m.state.save()
	}
	if apiequality.Semantic.DeepEqual(status, r.Status) {
		return period, nil
	}
	n := r.DeepCopyObject().(*api.Recommendation)
	n.Status = status
	if _, err := c.env.Client.Update(ctx, Recommendations(), "status", n); err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("update status: %w", err)
	}
	m.written = now
	return period, nil
}

// observe reads what the pods use and takes it in. A sample is counted once.
func (c *shell) observe(ctx context.Context, m *memory, pods []*corev1.Pod, now time.Time) (message string, err error) {
	if c.metrics == nil {
		return "there are no metrics", nil
	}
	used, err := c.metrics.MetricsOf(ctx, pods)
	if err != nil {
		return "", fmt.Errorf("read what pods use: %w", err)
	}
	uid := map[string]types.UID{}
	for _, p := range pods {
		uid[p.Name] = p.UID
	}
	var samples []sample
	read := map[string]time.Time{}
	for _, u := range used {
		id, ok := uid[u.Name]
		if !ok {
			continue
		}
		for _, x := range u.Containers {
			key := string(id) + "/" + x.Name
			read[key] = u.Timestamp.Time
			if !u.Timestamp.Time.After(m.read[key]) {
				continue
			}
			cpu, bytes := x.Usage[corev1.ResourceCPU], x.Usage[corev1.ResourceMemory]
			samples = append(samples, sample{string(id), x.Name, cpu.AsApproximateFloat64(), bytes.AsApproximateFloat64()})
		}
	}
	m.read = read
	m.state.observe(samples, kills(pods), now)
	return "", nil
}

func newest(pods []*corev1.Pod) *corev1.Pod {
	out := pods[0]
	for _, p := range pods {
		if out.CreationTimestamp.Before(&p.CreationTimestamp) {
			out = p
		}
	}
	return out
}

// pods are those of the workload: its own, and those of the objects that it owns.
func (c *shell) pods(ctx context.Context, r *api.Recommendation) (out []*corev1.Pod, message string, err error) {
	ref := r.Spec.TargetRef
	var target api.Object
	served := false
	for _, k := range c.kinds {
		if !k.Namespaced || k.StoredAs.Resource != "" || !strings.EqualFold(k.GroupVersionKind.Kind, ref.Kind) ||
			ref.APIVersion != "" && k.GroupVersionKind.GroupVersion().String() != ref.APIVersion {
			continue
		}
		served = true
		if target, err = reconcile.Get[api.Object](ctx, c.env.Client, k.GVR(), r.Namespace, ref.Name); err != nil {
			return nil, "", err
		}
		break
	}
	switch {
	case !served:
		return nil, fmt.Sprintf("there is no kind %s %s", ref.APIVersion, ref.Kind), nil
	case target == nil:
		return nil, fmt.Sprintf("there is no %s %s", ref.Kind, ref.Name), nil
	}
	owners := []types.UID{target.GetUID()}
	for _, between := range []schema.GroupVersionResource{reconcile.ReplicaSets(), {Group: "batch", Version: "v1", Resource: "jobs"}} {
		if api.ByGVR(c.kinds, between) == nil {
			continue
		}
		owned, err := c.env.Client.Owned(ctx, between, target.GetUID())
		if err != nil {
			return nil, "", fmt.Errorf("list %s: %w", between.Resource, err)
		}
		for _, o := range owned {
			owners = append(owners, o.GetUID())
		}
	}
	for _, uid := range owners {
		owned, err := c.env.Client.Owned(ctx, reconcile.Pods(), uid)
		if err != nil {
			return nil, "", fmt.Errorf("list pods: %w", err)
		}
		for _, p := range reconcile.As[*corev1.Pod](owned) {
			out = append(out, p)
		}
	}
	return out, "", nil
}
