package api

import (
	"fmt"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	// DefaultHPAUtilization is the target where an autoscaler names no metric: percent of the CPU that pods ask for.
	DefaultHPAUtilization = 80

	maxHPAStabilization = 3600 // seconds
	maxHPAPolicyPeriod  = 1800 // seconds
	defaultHPAPeriod    = 15   // seconds
)

func horizontalPodAutoscalerKind() *Kind {
	return &Kind{
		GroupVersionKind: autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		Resource:         "horizontalpodautoscalers", Singular: "horizontalpodautoscaler", ShortNames: []string{"hpa"}, Categories: []string{"all"}, Namespaced: true,
		New:     func() Object { return &autoscalingv2.HorizontalPodAutoscaler{} },
		NewList: func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscalerList{} },
		Default: of(defaultHPA),
		PrepareCreate: of(func(h *autoscalingv2.HorizontalPodAutoscaler) {
			h.Status, h.Generation = autoscalingv2.HorizontalPodAutoscalerStatus{}, 1
		}),
		PrepareUpdate: pair(func(h, old *autoscalingv2.HorizontalPodAutoscaler) {
			h.Status = old.Status
			bump(h, old, h.Spec, old.Spec)
		}),
		Validate: check(validateHPA),
		Status: &Status{PrepareUpdate: pair(func(h, old *autoscalingv2.HorizontalPodAutoscaler) {
			h.Spec, h.Generation = old.Spec, old.Generation
		})},
		Columns: hpaColumns(),
		Row:     row(hpaRow),
	}
}

func hpaColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		nameColumn(), column("Reference", "What is scaled", 0), column("Targets", "The newest value of each metric, and its target", 0),
		column("MinPods", "The fewest replicas that it scales to", 0), column("MaxPods", "The most replicas that it scales to", 0),
		column("Replicas", "How many replicas it last saw", 0), ageColumn(),
	}
}

func hpaRow(h *autoscalingv2.HorizontalPodAutoscaler) []any {
	least := "<unset>"
	if h.Spec.MinReplicas != nil {
		least = fmt.Sprint(*h.Spec.MinReplicas)
	}
	return []any{h.Name, h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name, hpaTargets(h), least,
		fmt.Sprint(h.Spec.MaxReplicas), fmt.Sprint(h.Status.CurrentReplicas), h.CreationTimestamp}
}

// hpaTargets shows the first two metrics, "current/target", and how many more there are.
func hpaTargets(h *autoscalingv2.HorizontalPodAutoscaler) string {
	const shown = 2
	if len(h.Spec.Metrics) == 0 {
		return "<none>"
	}
	var out []string
	for i := range h.Spec.Metrics {
		if len(out) == shown {
			break
		}
		var now autoscalingv2.MetricStatus
		if i < len(h.Status.CurrentMetrics) {
			now = h.Status.CurrentMetrics[i]
		}
		out = append(out, hpaTarget(&h.Spec.Metrics[i], &now))
	}
	text := strings.Join(out, ", ")
	if more := len(h.Spec.Metrics) - shown; more > 0 {
		text += fmt.Sprintf(" + %d more...", more)
	}
	return text
}

func hpaTarget(m *autoscalingv2.MetricSpec, now *autoscalingv2.MetricStatus) string {
	quantity := func(q *resource.Quantity) string {
		if q == nil {
			return "<unknown>"
		}
		return q.String()
	}
	percent := func(n *int32, unset string) string {
		if n == nil {
			return unset
		}
		return fmt.Sprintf("%d%%", *n)
	}
	ofObject := func(t autoscalingv2.MetricTarget, v autoscalingv2.MetricValueStatus) string {
		if t.AverageValue != nil {
			return quantity(v.AverageValue) + "/" + t.AverageValue.String() + " (avg)"
		}
		return quantity(v.Value) + "/" + quantity(t.Value)
	}
	ofResource := func(name string, t autoscalingv2.MetricTarget, v autoscalingv2.MetricValueStatus) string {
		if t.AverageValue != nil {
			return name + ": " + quantity(v.AverageValue) + "/" + t.AverageValue.String()
		}
		return name + ": " + percent(v.AverageUtilization, "<unknown>") + "/" + percent(t.AverageUtilization, "<auto>")
	}
	var current autoscalingv2.MetricValueStatus
	switch {
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		if now.External != nil {
			current = now.External.Current
		}
		return ofObject(m.External.Target, current)
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		if now.Object != nil {
			current = now.Object.Current
		}
		return ofObject(m.Object.Target, current)
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		if now.Pods != nil {
			current = now.Pods.Current
		}
		return quantity(current.AverageValue) + "/" + quantity(m.Pods.Target.AverageValue)
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		if now.Resource != nil {
			current = now.Resource.Current
		}
		return ofResource(string(m.Resource.Name), m.Resource.Target, current)
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		if now.ContainerResource != nil {
			current = now.ContainerResource.Current
		}
		return ofResource(string(m.ContainerResource.Name), m.ContainerResource.Target, current)
	}
	return "<unknown type>"
}

func defaultHPA(h *autoscalingv2.HorizontalPodAutoscaler) {
	setDefault(&h.Spec.MinReplicas, 1)
	if len(h.Spec.Metrics) == 0 {
		h.Spec.Metrics = []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: "cpu",
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr[int32](DefaultHPAUtilization)}}}}
	}
	if b := h.Spec.Behavior; b != nil {
		up, down := DefaultHPAScaleUp(), DefaultHPAScaleDown()
		b.ScaleUp, b.ScaleDown = withHPADefaults(b.ScaleUp, up), withHPADefaults(b.ScaleDown, down)
	}
}

// DefaultHPAScaleUp is how an autoscaler that says nothing scales up: at once, doubling or by four pods, whichever is
// more, every 15 s.
func DefaultHPAScaleUp() autoscalingv2.HPAScalingRules {
	return autoscalingv2.HPAScalingRules{
		StabilizationWindowSeconds: ptr[int32](0), SelectPolicy: ptr(autoscalingv2.MaxChangePolicySelect),
		Policies: []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: defaultHPAPeriod},
			{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: defaultHPAPeriod},
		},
	}
}

// DefaultHPAScaleDown is how it scales down: as far as it wants, once the controller's stabilization window allows it.
func DefaultHPAScaleDown() autoscalingv2.HPAScalingRules {
	return autoscalingv2.HPAScalingRules{
		SelectPolicy: ptr(autoscalingv2.MaxChangePolicySelect),
		Policies:     []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: defaultHPAPeriod}},
	}
}

// withHPADefaults takes from the defaults what rules leave open.
func withHPADefaults(rules *autoscalingv2.HPAScalingRules, defaults autoscalingv2.HPAScalingRules) *autoscalingv2.HPAScalingRules {
	if rules == nil {
		return &defaults
	}
	if rules.StabilizationWindowSeconds == nil {
		rules.StabilizationWindowSeconds = defaults.StabilizationWindowSeconds
	}
	if rules.SelectPolicy == nil {
		rules.SelectPolicy = defaults.SelectPolicy
	}
	if rules.Policies == nil {
		rules.Policies = defaults.Policies
	}
	return rules
}

func validateHPA(h *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	at := field.NewPath("spec")
	errs := validateHPAReference(h.Spec.ScaleTargetRef, at.Child("scaleTargetRef"))
	least := int32(1)
	if h.Spec.MinReplicas != nil {
		least = *h.Spec.MinReplicas
		errs = append(errs, nonNegative(int64(least), at.Child("minReplicas"))...)
	}
	if h.Spec.MaxReplicas < 1 {
		errs = append(errs, field.Invalid(at.Child("maxReplicas"), h.Spec.MaxReplicas, "must be greater than 0"))
	}
	if h.Spec.MaxReplicas < least {
		errs = append(errs, field.Invalid(at.Child("maxReplicas"), h.Spec.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	lasting := false // is there a metric without pods?
	for i := range h.Spec.Metrics {
		m := &h.Spec.Metrics[i]
		errs = append(errs, validateHPAMetric(m, at.Child("metrics").Index(i))...)
		lasting = lasting || m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
	}
	if least == 0 && !lasting {
		errs = append(errs, field.Forbidden(at.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	if b := h.Spec.Behavior; b != nil {
		errs = append(errs, validateHPARules(b.ScaleUp, at.Child("behavior", "scaleUp"))...)
		errs = append(errs, validateHPARules(b.ScaleDown, at.Child("behavior", "scaleDown"))...)
	}
	return errs
}

func validateHPAReference(ref autoscalingv2.CrossVersionObjectReference, at *field.Path) (errs field.ErrorList) {
	for _, part := range []struct{ name, value string }{{"kind", ref.Kind}, {"name", ref.Name}} {
		if part.value == "" {
			errs = append(errs, field.Required(at.Child(part.name), ""))
			continue
		}
		errs = append(errs, invalid(path.IsValidPathSegmentName(part.value), at.Child(part.name), part.value)...)
	}
	if _, err := schema.ParseGroupVersion(ref.APIVersion); err != nil {
		errs = append(errs, field.Invalid(at.Child("apiVersion"), ref.APIVersion, err.Error()))
	}
	return errs
}

// validateHPAMetric holds a metric to its type: the source that it names, and no other.
func validateHPAMetric(m *autoscalingv2.MetricSpec, at *field.Path) (errs field.ErrorList) {
	sources := map[string]bool{"object": m.Object != nil, "pods": m.Pods != nil, "resource": m.Resource != nil, "containerResource": m.ContainerResource != nil, "external": m.External != nil}
	types := map[autoscalingv2.MetricSourceType]string{
		autoscalingv2.ObjectMetricSourceType: "object", autoscalingv2.PodsMetricSourceType: "pods", autoscalingv2.ResourceMetricSourceType: "resource",
		autoscalingv2.ContainerResourceMetricSourceType: "containerResource", autoscalingv2.ExternalMetricSourceType: "external",
	}
	wanted, known := types[m.Type]
	if !known {
		var names []string
		for name := range inOrder(types) {
			names = append(names, string(name))
		}
		if m.Type == "" {
			return field.ErrorList{field.Required(at.Child("type"), "must specify a metric source type")}
		}
		return field.ErrorList{field.NotSupported(at.Child("type"), m.Type, names)}
	}
	if !sources[wanted] {
		errs = append(errs, field.Required(at.Child(wanted), "must populate information for the given metric source"))
	}
	for name, set := range inOrder(sources) {
		if set && name != wanted {
			errs = append(errs, field.Forbidden(at.Child(name), "must populate the given metric source only"))
		}
	}
	if s := m.Object; s != nil {
		at := at.Child("object")
		errs = append(errs, validateHPAReference(s.DescribedObject, at.Child("describedObject"))...)
		errs = append(errs, validateHPAIdentifier(s.Metric, at.Child("metric"))...)
		errs = append(errs, validateHPATarget(s.Target, at.Child("target"), false)...)
	}
	if s := m.External; s != nil {
		at := at.Child("external")
		errs = append(errs, validateHPAIdentifier(s.Metric, at.Child("metric"))...)
		errs = append(errs, validateHPATarget(s.Target, at.Child("target"), false)...)
	}
	if s := m.Pods; s != nil {
		at := at.Child("pods")
		errs = append(errs, validateHPAIdentifier(s.Metric, at.Child("metric"))...)
		errs = append(errs, validateHPATarget(s.Target, at.Child("target"), false)...)
		if s.Target.AverageValue == nil {
			errs = append(errs, field.Required(at.Child("target", "averageValue"), "must specify a positive target averageValue"))
		}
	}
	if s := m.Resource; s != nil {
		at := at.Child("resource")
		errs = append(errs, required(string(s.Name), at.Child("name"), "must specify a resource name")...)
		errs = append(errs, validateHPATarget(s.Target, at.Child("target"), true)...)
	}
	if s := m.ContainerResource; s != nil {
		at := at.Child("containerResource")
		errs = append(errs, required(string(s.Name), at.Child("name"), "must specify a resource name")...)
		errs = append(errs, required(s.Container, at.Child("container"), "must specify a container")...)
		errs = append(errs, validateHPATarget(s.Target, at.Child("target"), true)...)
	}
	return errs
}

func validateHPAIdentifier(id autoscalingv2.MetricIdentifier, at *field.Path) (errs field.ErrorList) {
	if id.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "must specify a metric name"))
	} else {
		errs = append(errs, invalid(path.IsValidPathSegmentName(id.Name), at.Child("name"), id.Name)...)
	}
	if id.Selector != nil {
		errs = append(errs, validateSelector(id.Selector, at.Child("selector"))...)
	}
	return errs
}

// validateHPATarget checks one target. ofRequests says whether it may be a share of what pods ask for.
func validateHPATarget(t autoscalingv2.MetricTarget, at *field.Path, ofRequests bool) (errs field.ErrorList) {
	errs = append(errs, oneOf(t.Type, []autoscalingv2.MetricTargetType{autoscalingv2.AverageValueMetricType, autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType}, at.Child("type"))...)
	if t.Value != nil && t.Value.Sign() != 1 {
		errs = append(errs, field.Invalid(at.Child("value"), t.Value.String(), "must be positive"))
	}
	if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
		errs = append(errs, field.Invalid(at.Child("averageValue"), t.AverageValue.String(), "must be positive"))
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		errs = append(errs, field.Invalid(at.Child("averageUtilization"), *t.AverageUtilization, "must be greater than 0"))
	}
	if ofRequests {
		switch {
		case t.AverageUtilization == nil && t.AverageValue == nil:
			errs = append(errs, field.Required(at.Child("averageUtilization"), "must set either a target raw value or a target utilization"))
		case t.AverageUtilization != nil && t.AverageValue != nil:
			errs = append(errs, field.Forbidden(at.Child("averageValue"), "may not set both a target raw value and a target utilization"))
		}
		if t.Value != nil {
			errs = append(errs, field.Forbidden(at.Child("value"), "a resource has an averageValue or an averageUtilization"))
		}
		return errs
	}
	switch {
	case t.Value == nil && t.AverageValue == nil:
		errs = append(errs, field.Required(at.Child("averageValue"), "must set either a target value for metric or a per-pod target"))
	case t.Value != nil && t.AverageValue != nil:
		errs = append(errs, field.Forbidden(at.Child("value"), "may not set both a target value for metric and a per-pod target"))
	}
	if t.AverageUtilization != nil {
		errs = append(errs, field.Forbidden(at.Child("averageUtilization"), "only a resource has an averageUtilization"))
	}
	return errs
}

func validateHPARules(r *autoscalingv2.HPAScalingRules, at *field.Path) (errs field.ErrorList) {
	if r == nil {
		return nil
	}
	if w := r.StabilizationWindowSeconds; w != nil {
		errs = append(errs, nonNegative(int64(*w), at.Child("stabilizationWindowSeconds"))...)
		if *w > maxHPAStabilization {
			errs = append(errs, field.Invalid(at.Child("stabilizationWindowSeconds"), *w, fmt.Sprintf("must be less than or equal to %d", maxHPAStabilization)))
		}
	}
	if p := r.SelectPolicy; p != nil {
		choices := []autoscalingv2.ScalingPolicySelect{autoscalingv2.DisabledPolicySelect, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect}
		if !slices.Contains(choices, *p) {
			errs = append(errs, field.NotSupported(at.Child("selectPolicy"), *p, choices))
		}
	}
	if t := r.Tolerance; t != nil && t.Sign() < 0 {
		errs = append(errs, field.Invalid(at.Child("tolerance"), t.String(), "must be greater or equal to zero"))
	}
	policies := at.Child("policies")
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(policies, "must specify at least one Policy"))
	}
	for i, p := range r.Policies {
		at := policies.Index(i)
		errs = append(errs, oneOf(p.Type, []autoscalingv2.HPAScalingPolicyType{autoscalingv2.PercentScalingPolicy, autoscalingv2.PodsScalingPolicy}, at.Child("type"))...)
		if p.Value <= 0 {
			errs = append(errs, field.Invalid(at.Child("value"), p.Value, "must be greater than zero"))
		}
		if p.PeriodSeconds <= 0 {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, "must be greater than zero"))
		}
		if p.PeriodSeconds > maxHPAPolicyPeriod {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %d", maxHPAPolicyPeriod)))
		}
	}
	return errs
}
