package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	custommetrics "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalmetrics "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controller's name in events and metrics.
const Name = "horizontal-pod-autoscaler"

// Metrics is where the values come from. Its methods are called at the same time.
type Metrics interface {
	// MetricsOf is the use of those of the pods that are known.
	MetricsOf(ctx context.Context, pods []*corev1.Pod) ([]metricsv1beta1.PodMetrics, error)
	CustomValues(ctx context.Context, query api.CustomMetricQuery) ([]custommetrics.MetricValue, error)
	ExternalValues(ctx context.Context, namespace, metric string, selector labels.Selector) ([]externalmetrics.ExternalMetricValue, error)
}

// Config has useful zero values: kube-controller-manager's.
type Config struct {
	Metrics   Metrics       // nil: there are none, and every autoscaler says so
	Sync      time.Duration // between two looks at an autoscaler; 0: 15 s
	Tolerance float64       // how far from its target a metric may be, as a share of 1; 0: 0.1

	DownscaleStabilization  time.Duration // 0: 5 m
	CPUInitializationPeriod time.Duration // 0: 5 m
	InitialReadinessDelay   time.Duration // 0: 30 s
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&c.Sync, 15*time.Second)
	set(&c.DownscaleStabilization, 5*time.Minute)
	set(&c.CPUInitializationPeriod, 5*time.Minute)
	set(&c.InitialReadinessDelay, 30*time.Second)
	if c.Tolerance <= 0 {
		c.Tolerance = 0.1
	}
	return c
}

// patience bounds the questions of one look.
const patience = 10 * time.Second

// Autoscalers names the resource.
func Autoscalers() schema.GroupVersionResource {
	return autoscalingv2.SchemeGroupVersion.WithResource("horizontalpodautoscalers")
}

func kind() schema.GroupVersionKind {
	return autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler")
}

type shell struct {
	cfg    Config
	env    reconcile.Env
	events *reconcile.Recorder
	kinds  []*api.Kind

	holdings *holdings
	pods     podLists

	mu        sync.Mutex // guards the rest
	past      map[types.UID]history
	selectors map[string]labels.Selector // by their text: parsing is dear
}

// New makes the controller; nothing runs yet. kinds are those that may be scaled or described.
func New(env reconcile.Env, events *reconcile.Recorder, kinds []*api.Kind, cfg Config, workers int) *reconcile.Controller {
	c := &shell{cfg: cfg.withDefaults(), env: env.WithDefaults(), events: events, kinds: kinds, holdings: newHoldings(), pods: podLists{shared: map[string]podList{}}, past: map[types.UID]history{}, selectors: map[string]labels.Selector{}}
	return &reconcile.Controller{Name: Name, Workers: workers, Reconcile: c.reconcile, Watches: []reconcile.Watch{{Resource: Autoscalers(), Map: c.changed}}}
}

// changed looks again at an autoscaler that wants something else, and not at one whose status was written.
func (c *shell) changed(ctx context.Context, e reconcile.Event, enqueue func(reconcile.Key)) error {
	switch {
	case e.Type == watch.Deleted:
		c.holdings.drop(e.Object.GetUID())
		c.mu.Lock()
		delete(c.past, e.Object.GetUID())
		c.mu.Unlock()
	case e.Old == nil || e.Old.GetGeneration() != e.Object.GetGeneration():
		// Noted before it is looked at: of two that appear together neither scales first.
		if hpa, ok := e.Object.(*autoscalingv2.HorizontalPodAutoscaler); ok {
			_, _, _, _ = c.note(ctx, hpa)
		}
		enqueue(reconcile.KeyOf(e.Object))
	}
	return nil
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	hpa, err := reconcile.Get[*autoscalingv2.HorizontalPodAutoscaler](ctx, c.env.Client, Autoscalers(), k.Namespace, k.Name)
	if err != nil || hpa == nil || hpa.DeletionTimestamp != nil {
		return 0, err
	}
	p, t := c.plan(ctx, hpa)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	for _, e := range p.events {
		c.events.Emit(Name, hpa, kind(), e.kind, e.reason, e.message)
	}
	if t != nil && p.scales(t.replicas()) {
		if err := c.scale(ctx, hpa, t, &p); err != nil {
			return 0, err
		}
	}
	c.remember(hpa.UID, p.history)
	if err := c.writeStatus(ctx, hpa, p.status); err != nil {
		return 0, err
	}
	return c.cfg.Sync, nil
}

// plan observes and decides. The target is nil where it can't be scaled.
func (c *shell) plan(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler) (plan, *target) {
	now := c.env.Clock.Now()
	c.mu.Lock()
	past := c.past[hpa.UID]
	c.mu.Unlock()
	t, selector, reason, err := c.note(ctx, hpa)
	if t == nil {
		return undecided(hpa, past, hpa.Status.CurrentReplicas, autoscalingv2.AbleToScale, reason,
			"the HPA controller was unable to get the target's current scale: "+err.Error(), now), nil
	}
	inactive := func(reason, message string) (plan, *target) {
		p := undecided(hpa, past, t.replicas(), autoscalingv2.ScalingActive, reason, message, now)
		p.status.CurrentReplicas = t.replicas()
		p.status.Conditions = set(p.status.Conditions, autoscalingv2.AbleToScale, true, "SucceededGetScale", "the HPA controller was able to get the target's current scale", now)
		return p, nil
	}
	f := facts{hpa: hpa, current: t.replicas(), running: t.kind.Scale.StatusReplicas(t.object), history: past, now: now,
		tolerance: c.cfg.Tolerance, window: c.cfg.DownscaleStabilization, ripening: ripening{c.cfg.CPUInitializationPeriod, c.cfg.InitialReadinessDelay}}
	if disabled(hpa, f.current) {
		return decide(f), t
	}
	if err != nil {
		return inactive(reason, err.Error())
	}
	if f.pods, err = c.pods.find(ctx, c.env, hold{by: reconcile.KeyOf(hpa), selector: selector}, c.holdings.many(hpa.Namespace)); err != nil {
		return inactive("FailedListPods", err.Error())
	}
	if rivals := c.holdings.rivals(hpa.UID, f.pods); len(rivals) > 0 {
		return inactive("AmbiguousSelector", fmt.Sprintf("pods by selector %s are controlled by multiple HPAs: [%s]", selector, strings.Join(rivals, " ")))
	}
	f.metrics = c.observe(ctx, hpa, selector, f.pods)
	return decide(f), t
}

// note tells the others what an autoscaler scales, and returns it; a target that can't be had holds nothing.
func (c *shell) note(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler) (*target, labels.Selector, string, error) {
	t, err := c.target(ctx, hpa)
	if err != nil {
		c.holdings.drop(hpa.UID)
		return nil, nil, "FailedGetScale", err
	}
	text := t.kind.Scale.Selector(t.object)
	if text == "" || text == "<none>" {
		return t, nil, "InvalidSelector", errors.New("the HPA target's scale is missing a selector")
	}
	selector, err := c.selector(text)
	if err != nil {
		return t, nil, "InvalidSelector", fmt.Errorf("couldn't convert selector into a corresponding internal selector object: %w", err)
	}
	c.holdings.put(hpa.UID, hold{by: reconcile.KeyOf(hpa), target: t.object.GetUID(), selector: selector})
	return t, selector, "", nil
}

func (c *shell) selector(text string) (labels.Selector, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.selectors[text]; ok {
		return s, nil
	}
	s, err := labels.Parse(text)
	if err != nil {
		return nil, err
	}
	if len(c.selectors) > 10_000 {
		clear(c.selectors)
	}
	c.selectors[text] = s
	return s, nil
}

func (c *shell) remember(uid types.UID, h history) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.past[uid] = h
}

// scale writes the new size, and says so. What fails is said too; the next look tries again.
func (c *shell) scale(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, t *target, p *plan) error {
	obj := t.object.DeepCopyObject().(api.Object)
	t.kind.Scale.SetReplicas(obj, p.desired)
	now := c.env.Clock.Now()
	if owned, err := owning(obj.GetManagedFields(), t.kind.GroupVersionKind.GroupVersion(), now); err == nil {
		obj.SetManagedFields(owned)
	} else {
		c.env.Logger.Warn("managed fields are not tracked", "object", t.object.GetName(), "error", err)
	}
	_, err := c.env.Client.Update(ctx, t.kind.GVR(), "scale", obj)
	switch {
	case apierrors.IsConflict(err):
		return fmt.Errorf("scale: %w", err) // somebody else wrote: look again at once
	case err != nil:
		c.events.Emit(Name, hpa, kind(), corev1.EventTypeWarning, "FailedRescale", fmt.Sprintf("New size: %d; reason: %s; error: %v", p.desired, p.reason, err))
		p.status.Conditions = set(p.status.Conditions, autoscalingv2.AbleToScale, false, "FailedUpdateScale",
			fmt.Sprintf("the HPA controller was unable to update the target scale: %v", err), now)
		p.status.DesiredReplicas, p.status.LastScaleTime = t.replicas(), hpa.Status.LastScaleTime
		p.history.steps = p.history.steps[:len(p.history.steps)-1]
		if !holds(hpa.Status.Conditions, autoscalingv2.ScaledToZero) && holds(p.status.Conditions, autoscalingv2.ScaledToZero) {
			p.status.Conditions = set(p.status.Conditions, autoscalingv2.ScaledToZero, false, "NotScaledToZero", "the target has replicas", now)
		}
		return nil
	}
	c.events.Emit(Name, hpa, kind(), corev1.EventTypeNormal, "SuccessfulRescale", fmt.Sprintf("New size: %d; reason: %s", p.desired, p.reason))
	p.status.Conditions = set(p.status.Conditions, autoscalingv2.AbleToScale, true, "SucceededRescale",
		fmt.Sprintf("the HPA controller was able to update the target scale to %d", p.desired), now)
	return nil
}

func (c *shell) writeStatus(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, status autoscalingv2.HorizontalPodAutoscalerStatus) error {
	if apiequality.Semantic.DeepEqual(status, hpa.Status) {
		return nil
	}
	n := hpa.DeepCopy()
	n.Status = status
	n.ResourceVersion = "" // a status is its controller's alone
	if _, err := c.env.Client.Update(ctx, Autoscalers(), "status", n); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("update status: %w", err)
	}
	return nil
}

// target is what an autoscaler scales.
type target struct {
	kind   *api.Kind
	object api.Object
}

func (t *target) replicas() int32 { return t.kind.Scale.SpecReplicas(t.object) }

// target finds it. As in Kubernetes the version that the reference names doesn't matter.
func (c *shell) target(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler) (*target, error) {
	ref := hpa.Spec.ScaleTargetRef
	k, err := c.kindOf(ref)
	if err != nil {
		return nil, err
	}
	if k.Scale == nil || !k.Namespaced {
		return nil, fmt.Errorf("%s has no scale subresource: it can't be scaled", k.GVR().GroupResource())
	}
	obj, err := c.env.Client.Get(ctx, k.GVR(), hpa.Namespace, ref.Name)
	if err != nil {
		return nil, err
	}
	return &target{k, obj}, nil
}

func (c *shell) kindOf(ref autoscalingv2.CrossVersionObjectReference) (*api.Kind, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, fmt.Errorf("invalid API version in scale target reference: %w", err)
	}
	for _, k := range c.kinds {
		if k.GroupVersionKind.Group == gv.Group && k.GroupVersionKind.Kind == ref.Kind && k.StoredAs.Resource == "" {
			return k, nil
		}
	}
	return nil, fmt.Errorf("unable to determine resource for scale target reference: no matches for kind %q in group %q", ref.Kind, gv.Group)
}

// observe asks for every metric of the spec. Two that come from the same answer ask once.
func (c *shell) observe(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, selector labels.Selector, pods []*corev1.Pod) []observed {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	used := sync.OnceValues(func() ([]metricsv1beta1.PodMetrics, error) {
		return c.cfg.Metrics.MetricsOf(ctx, pods)
	})
	out := make([]observed, len(hpa.Spec.Metrics))
	for i := range hpa.Spec.Metrics {
		if c.cfg.Metrics == nil {
			out[i].err = errors.New("this control plane was started without metrics")
			continue
		}
		out[i] = c.observeOne(ctx, hpa, &hpa.Spec.Metrics[i], selector, used)
	}
	return out
}

func (c *shell) observeOne(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, m *autoscalingv2.MetricSpec, selector labels.Selector,
	used func() ([]metricsv1beta1.PodMetrics, error)) observed {
	of := func(resource corev1.ResourceName, container string) observed {
		all, err := used()
		if err == nil && len(all) == 0 {
			err = errors.New("no metrics returned from resource metrics API")
		}
		if err != nil {
			return observed{err: fmt.Errorf("unable to get metrics for resource %s: %w", resource, err)}
		}
		o := observed{samples: samplesOf(all, resource, container)}
		if len(o.samples) == 0 && container != "" {
			o.err = fmt.Errorf("container %s not present in metrics for the pods of this target", container)
		}
		return o
	}
	custom := func(q api.CustomMetricQuery, id autoscalingv2.MetricIdentifier) ([]custommetrics.MetricValue, error) {
		q.Metric = id.Name
		var err error
		if q.Selector, err = metav1.LabelSelectorAsSelector(selectorOf(id)); err != nil {
			return nil, err
		}
		return c.cfg.Metrics.CustomValues(ctx, q)
	}
	switch m.Type {
	case autoscalingv2.ResourceMetricSourceType:
		return of(m.Resource.Name, "")
	case autoscalingv2.ContainerResourceMetricSourceType:
		return of(m.ContainerResource.Name, m.ContainerResource.Container)
	case autoscalingv2.PodsMetricSourceType:
		values, err := custom(api.CustomMetricQuery{Resource: corev1.Resource("pods"), Namespace: hpa.Namespace, Objects: selector}, m.Pods.Metric)
		if err != nil {
			return observed{err: fmt.Errorf("unable to get metric %s: %w", m.Pods.Metric.Name, err)}
		}
		o := observed{samples: map[string]sample{}}
		for _, v := range values {
			o.samples[v.DescribedObject.Name] = sample{value: v.Value.MilliValue(), at: v.Timestamp.Time, window: windowOf(v.WindowSeconds)}
		}
		return o
	case autoscalingv2.ObjectMetricSourceType:
		q := api.CustomMetricQuery{Namespace: hpa.Namespace, Name: m.Object.DescribedObject.Name}
		k, err := c.kindOf(m.Object.DescribedObject)
		if err != nil {
			return observed{err: fmt.Errorf("unable to get metric %s: %w", m.Object.Metric.Name, err)}
		}
		q.Resource = k.GVR().GroupResource()
		if !k.Namespaced && k.Resource != "namespaces" {
			q.Namespace = ""
		}
		values, err := custom(q, m.Object.Metric)
		if err == nil && len(values) != 1 {
			err = fmt.Errorf("%d values were returned for one object", len(values))
		}
		if err != nil {
			return observed{err: fmt.Errorf("unable to get metric %s: %s on %s %s: %w", m.Object.Metric.Name, m.Object.DescribedObject.Kind, hpa.Namespace, m.Object.DescribedObject.Name, err)}
		}
		return observed{value: values[0].Value.MilliValue()}
	case autoscalingv2.ExternalMetricSourceType:
		series, err := metav1.LabelSelectorAsSelector(selectorOf(m.External.Metric))
		var values []externalmetrics.ExternalMetricValue
		if err == nil {
			values, err = c.cfg.Metrics.ExternalValues(ctx, hpa.Namespace, m.External.Metric.Name, series)
		}
		if err != nil {
			return observed{err: fmt.Errorf("unable to get external metric %s/%s: %w", hpa.Namespace, m.External.Metric.Name, err)}
		}
		var o observed
		for _, v := range values {
			o.value += v.Value.MilliValue()
		}
		return o
	}
	return observed{err: fmt.Errorf("unknown metric source type %q", m.Type)}
}

// selectorOf is a metric's selector; one that isn't there selects everything.
func selectorOf(id autoscalingv2.MetricIdentifier) *metav1.LabelSelector {
	if id.Selector == nil {
		return &metav1.LabelSelector{}
	}
	return id.Selector
}

func windowOf(seconds *int64) time.Duration {
	if seconds == nil {
		return 0
	}
	return time.Duration(*seconds) * time.Second
}

// samplesOf are the pods' use of a resource: of all their containers, or of the one named. A pod of which one part isn't
// known is left out.
func samplesOf(all []metricsv1beta1.PodMetrics, resource corev1.ResourceName, container string) map[string]sample {
	out := map[string]sample{}
	for i := range all {
		m := &all[i]
		s, known := sample{at: m.Timestamp.Time, window: m.Window.Duration}, false
		for _, c := range m.Containers {
			if container != "" && c.Name != container {
				continue
			}
			q, ok := c.Usage[resource]
			if known = ok; !ok {
				break
			}
			s.value += q.MilliValue()
		}
		if known {
			out[m.Name] = s
		}
	}
	return out
}
