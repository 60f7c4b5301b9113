package podautoscaler

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// observed is what was found of one metric.
type observed struct {
	samples map[string]sample // of pods, by name
	value   int64             // of an object, or the sum of an external metric's series, in thousandths
	err     error
}

// facts are all that a decision rests on.
type facts struct {
	hpa       *autoscalingv2.HorizontalPodAutoscaler
	current   int32 // the size that the target's spec asks for
	running   int32 // the size that its status shows
	pods      []*corev1.Pod
	metrics   []observed // one for each of the spec's
	history   history
	tolerance float64
	window    time.Duration // for scaling down where the spec names none
	ripening  ripening
	now       time.Time
}

// A plan is what to do and what to say.
type plan struct {
	desired int32 // other than facts.current: scale
	reason  string
	status  autoscalingv2.HorizontalPodAutoscalerStatus
	history history
	events  []event
}

type event struct{ kind, reason, message string }

// scales says whether the target is to be changed.
func (p plan) scales(current int32) bool { return p.desired != current }

// set writes a condition; its time is that of the last change of its status.
func set(conditions []autoscalingv2.HorizontalPodAutoscalerCondition, kind autoscalingv2.HorizontalPodAutoscalerConditionType, ok bool,
	reason, message string, now time.Time) []autoscalingv2.HorizontalPodAutoscalerCondition {
	status := corev1.ConditionFalse
	if ok {
		status = corev1.ConditionTrue
	}
	c := autoscalingv2.HorizontalPodAutoscalerCondition{Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now)}
	out := slices.Clone(conditions)
	i := slices.IndexFunc(out, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool { return c.Type == kind })
	if i < 0 {
		return append(out, c)
	}
	if out[i].Status == status {
		c.LastTransitionTime = out[i].LastTransitionTime
	}
	out[i] = c
	return out
}

func holds(conditions []autoscalingv2.HorizontalPodAutoscalerCondition, kind autoscalingv2.HorizontalPodAutoscalerConditionType) bool {
	return slices.ContainsFunc(conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
		return c.Type == kind && c.Status == corev1.ConditionTrue
	})
}

// undecided is a plan that changes nothing but a condition and, once, an event.
func undecided(hpa *autoscalingv2.HorizontalPodAutoscaler, h history, current int32, kind autoscalingv2.HorizontalPodAutoscalerConditionType, reason, message string, now time.Time) plan {
	p := plan{desired: current, history: h, status: *hpa.Status.DeepCopy(), events: []event{{corev1.EventTypeWarning, reason, message}}}
	p.status.ObservedGeneration = &hpa.Generation
	p.status.Conditions = set(p.status.Conditions, kind, false, reason, message, now)
	return p
}

// leastReplicas is where scaling down ends.
func leastReplicas(hpa *autoscalingv2.HorizontalPodAutoscaler) int32 {
	if hpa.Spec.MinReplicas == nil {
		return 1
	}
	return *hpa.Spec.MinReplicas
}

// disabled says whether a target of this size is left alone: a person scaled it to 0. An autoscaler that did so itself
// remembers it in a condition, and goes on.
func disabled(hpa *autoscalingv2.HorizontalPodAutoscaler, current int32) bool {
	return current == 0 && !holds(hpa.Status.Conditions, autoscalingv2.ScaledToZero)
}

// decide is pure: the same facts make the same plan.
func decide(f facts) plan {
	hpa, now := f.hpa, f.now
	p := plan{desired: f.current, history: f.history.forget(now), status: *hpa.Status.DeepCopy()}
	p.status.ObservedGeneration, p.status.CurrentReplicas, p.status.DesiredReplicas = &hpa.Generation, f.current, f.current
	if len(p.history.recommendations) == 0 {
		p.history.recommendations = append(p.history.recommendations, recommendation{now, f.current})
	}
	condition := func(kind autoscalingv2.HorizontalPodAutoscalerConditionType, ok bool, reason, message string) {
		p.status.Conditions = set(p.status.Conditions, kind, ok, reason, message, now)
	}
	condition(autoscalingv2.AbleToScale, true, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	least, most := leastReplicas(hpa), hpa.Spec.MaxReplicas
	switch {
	case disabled(hpa, f.current):
		condition(autoscalingv2.ScalingActive, false, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		return p
	case f.current > most:
		p.desired, p.reason = most, "Current number of replicas above Spec.MaxReplicas"
	case f.current < least:
		p.desired, p.reason = least, "Current number of replicas below Spec.MinReplicas"
	default:
		if !p.byMetrics(f, rulesOf(hpa.Spec.Behavior, f.window, f.tolerance)) {
			return p
		}
	}
	p.status.DesiredReplicas = p.desired
	if p.desired != f.current {
		p.history.steps = append(p.history.steps, step{now, p.desired - f.current})
		p.status.LastScaleTime = &metav1.Time{Time: now}
	}
	switch {
	case p.desired == 0 && f.current > 0:
		condition(autoscalingv2.ScaledToZero, true, "ScaledToZero", "the HPA controller scaled the target to zero replicas")
	case f.current == 0 && p.desired > 0, f.current > 0 && holds(hpa.Status.Conditions, autoscalingv2.ScaledToZero):
		condition(autoscalingv2.ScaledToZero, false, "NotScaledToZero", "the target has replicas")
	}
	return p
}

// byMetrics takes the largest of what the metrics ask for, as far as the rules let it. It is false where nothing is to
// be done for want of metrics.
func (p *plan) byMetrics(f facts, r rules) bool {
	now := f.now
	condition := func(kind autoscalingv2.HorizontalPodAutoscalerConditionType, ok bool, reason, message string) {
		p.status.Conditions = set(p.status.Conditions, kind, ok, reason, message, now)
	}
	p.status.CurrentMetrics = nil
	wanted, by, found := int32(0), "", false
	var first error
	var firstReason string
	failed := 0
	for i := range f.hpa.Spec.Metrics {
		m := &f.hpa.Spec.Metrics[i]
		prop, err := f.propose(m, f.metrics[i], r.tolerances)
		if err != nil {
			reason := "FailedGet" + string(m.Type) + "Metric"
			p.events = append(p.events, event{corev1.EventTypeWarning, reason, err.Error()})
			if failed++; first == nil {
				first, firstReason = fmt.Errorf("failed to get %s: %w", nameOf(m, false), err), reason
			}
			p.status.CurrentMetrics = append(p.status.CurrentMetrics, autoscalingv2.MetricStatus{})
			continue
		}
		p.status.CurrentMetrics = append(p.status.CurrentMetrics, statusOf(m, prop))
		if !found || prop.replicas > wanted {
			wanted, by, found = prop.replicas, nameOf(m, true), true
		}
	}
	if failed == len(f.hpa.Spec.Metrics) {
		p.status.CurrentMetrics = nil
	}
	// What can't be known might ask for more: it keeps everybody from scaling down.
	if !found || failed > 0 && wanted < f.current {
		if first == nil {
			first, firstReason = errors.New("there are no metrics"), "InvalidMetricSourceType"
		}
		condition(autoscalingv2.ScalingActive, false, firstReason, "the HPA was unable to compute the replica count: "+first.Error())
		p.events = append(p.events, event{corev1.EventTypeWarning, "FailedComputeMetricsReplicas",
			fmt.Sprintf("invalid metrics (%d invalid out of %d), first error is: %v", failed, len(f.hpa.Spec.Metrics), first)})
		return false
	}
	condition(autoscalingv2.ScalingActive, true, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from "+by)

	p.history.recommendations = append(p.history.recommendations, recommendation{now, wanted})
	stable := r.stabilized(p.history, wanted, f.current, now)
	switch {
	case stable == wanted:
		condition(autoscalingv2.AbleToScale, true, "ReadyForNewScale", "recommended size matches current size")
	case wanted >= f.current:
		condition(autoscalingv2.AbleToScale, true, "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation")
	default:
		condition(autoscalingv2.AbleToScale, true, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation")
	}
	desired, limited, message := r.limited(p.history, stable, f.current, leastReplicas(f.hpa), f.hpa.Spec.MaxReplicas, now)
	condition(autoscalingv2.ScalingLimited, limited != "DesiredWithinRange", limited, message)
	p.desired = desired
	switch {
	case desired > f.current:
		p.reason = by + " above target"
	case desired < f.current:
		p.reason = "All metrics below target"
	}
	return true
}

// limited keeps a size within what the policies and the spec allow, and says what it was that didn't.
func (r rules) limited(h history, wanted, current, least, most int32, now time.Time) (size int32, reason, message string) {
	highest, lowest := r.limits(h, current, now)
	switch {
	case wanted > current && wanted > min(highest, most) && highest < most:
		return highest, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"
	case wanted > most:
		return most, "TooManyReplicas", "the desired replica count is more than the maximum replica count"
	case wanted < current && wanted < max(lowest, least) && lowest > least:
		return lowest, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"
	case wanted < least:
		return least, "TooFewReplicas", "the desired replica count is less than the minimum replica count"
	}
	return wanted, "DesiredWithinRange", "the desired count is within the acceptable range"
}

// propose is what one metric asks for.
func (f facts) propose(m *autoscalingv2.MetricSpec, o observed, tol tolerances) (proposal, error) {
	if o.err != nil {
		return proposal{}, o.err
	}
	pods := func(resource corev1.ResourceName, container string, t autoscalingv2.MetricTarget) (proposal, error) {
		target := podTarget{resource: resource}
		switch {
		case t.AverageUtilization != nil:
			var err error
			if target.requests, err = requestsOf(f.pods, resource, container); err != nil {
				return proposal{}, err
			}
			target.target = int64(*t.AverageUtilization)
		case t.AverageValue != nil:
			target.target = t.AverageValue.MilliValue()
		default:
			return proposal{}, errors.New("invalid metric source: neither an average utilization target nor an average value (raw) target was set")
		}
		return ofPods(f.pods, o.samples, target, f.current, tol, f.ripening, f.now)
	}
	value := func(t autoscalingv2.MetricTarget) (proposal, error) {
		switch {
		case t.AverageValue != nil:
			return ofShare(o.value, t.AverageValue.MilliValue(), f.running, f.current, tol), nil
		case t.Value == nil:
			return proposal{}, errors.New("invalid metric source: neither a value target nor an average value target was set")
		case f.current > 0 && len(f.pods) == 0:
			return proposal{}, errNoPods
		}
		return ofValue(o.value, t.Value.MilliValue(), readyPods(f.pods), f.current, tol), nil
	}
	switch m.Type {
	case autoscalingv2.ResourceMetricSourceType:
		return pods(m.Resource.Name, "", m.Resource.Target)
	case autoscalingv2.ContainerResourceMetricSourceType:
		return pods(m.ContainerResource.Name, m.ContainerResource.Container, m.ContainerResource.Target)
	case autoscalingv2.PodsMetricSourceType:
		return pods("", "", m.Pods.Target)
	case autoscalingv2.ObjectMetricSourceType:
		return value(m.Object.Target)
	case autoscalingv2.ExternalMetricSourceType:
		return value(m.External.Target)
	}
	return proposal{}, fmt.Errorf("unknown metric source type %q", m.Type)
}

// nameOf is a metric as reasons name it; full adds what its target is in.
func nameOf(m *autoscalingv2.MetricSpec, full bool) string {
	ofResource := func(name string, t autoscalingv2.MetricTarget) string {
		if t.AverageUtilization == nil {
			return name
		}
		if !full {
			return name + " utilization"
		}
		return name + " utilization (percentage of request)"
	}
	switch m.Type {
	case autoscalingv2.ResourceMetricSourceType:
		if full {
			return ofResource(string(m.Resource.Name)+" resource", m.Resource.Target)
		}
		return ofResource(string(m.Resource.Name), m.Resource.Target)
	case autoscalingv2.ContainerResourceMetricSourceType:
		return ofResource(string(m.ContainerResource.Name)+" container resource", m.ContainerResource.Target)
	case autoscalingv2.PodsMetricSourceType:
		return "pods metric " + m.Pods.Metric.Name
	case autoscalingv2.ObjectMetricSourceType:
		return m.Object.DescribedObject.Kind + " metric " + m.Object.Metric.Name
	case autoscalingv2.ExternalMetricSourceType:
		name := "external metric " + m.External.Metric.Name
		if m.External.Metric.Selector != nil {
			name += "(" + metav1.FormatLabelSelector(m.External.Metric.Selector) + ")"
		}
		return name
	}
	return string(m.Type)
}

// statusOf shows what a metric read.
func statusOf(m *autoscalingv2.MetricSpec, p proposal) autoscalingv2.MetricStatus {
	quantity := func(milli *int64, name corev1.ResourceName) *resource.Quantity {
		if milli == nil {
			return nil
		}
		if name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage {
			return resource.NewQuantity(int64(math.Round(float64(*milli)/1000)), resource.BinarySI)
		}
		return resource.NewMilliQuantity(*milli, resource.DecimalSI)
	}
	current := func(name corev1.ResourceName) autoscalingv2.MetricValueStatus {
		return autoscalingv2.MetricValueStatus{Value: quantity(p.value, name), AverageValue: quantity(p.average, name), AverageUtilization: p.utilization}
	}
	out := autoscalingv2.MetricStatus{Type: m.Type}
	switch m.Type {
	case autoscalingv2.ResourceMetricSourceType:
		out.Resource = &autoscalingv2.ResourceMetricStatus{Name: m.Resource.Name, Current: current(m.Resource.Name)}
	case autoscalingv2.ContainerResourceMetricSourceType:
		out.ContainerResource = &autoscalingv2.ContainerResourceMetricStatus{Name: m.ContainerResource.Name, Container: m.ContainerResource.Container, Current: current(m.ContainerResource.Name)}
	case autoscalingv2.PodsMetricSourceType:
		out.Pods = &autoscalingv2.PodsMetricStatus{Metric: m.Pods.Metric, Current: current("")}
	case autoscalingv2.ObjectMetricSourceType:
		out.Object = &autoscalingv2.ObjectMetricStatus{Metric: m.Object.Metric, DescribedObject: m.Object.DescribedObject, Current: current("")}
	case autoscalingv2.ExternalMetricSourceType:
		out.External = &autoscalingv2.ExternalMetricStatus{Metric: m.External.Metric, Current: current("")}
	}
	return out
}
