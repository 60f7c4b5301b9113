package api

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	// LabelPodGroup names the PodGroup of a pod that has no spec.schedulingGroup: the coscheduling plugin's label.
	LabelPodGroup = "scheduling.x-k8s.io/pod-group"
	// AnnotationGroupTimeout on a PodGroup is how long it may wait for its nodes, as a duration ("90s"), before it is told
	// so and makes way for others for as long again. Default 1m.
	AnnotationGroupTimeout = "scheduling.pintle.dev/timeout"
	// AnnotationPreferredTopology on a PodGroup lists label keys of nodes, separated by commas, the most wanted first: its
	// pods shall share one value of the first that allows it, and run anywhere where none does. It narrows the domain that
	// spec.schedulingConstraints asks for.
	AnnotationPreferredTopology = "scheduling.pintle.dev/preferred-topology"

	// DefaultGroupTimeout is used where a PodGroup says nothing.
	DefaultGroupTimeout = time.Minute
)

// PodGroupOf names the PodGroup that a pod belongs to, in its own namespace; "": none.
func PodGroupOf(p *corev1.Pod) string {
	if g := p.Spec.SchedulingGroup; g != nil && g.PodGroupName != nil {
		return *g.PodGroupName
	}
	return p.Labels[LabelPodGroup]
}

// GroupTimeout is how long a PodGroup may wait before it is told so.
func GroupTimeout(g *schedulingv1beta1.PodGroup) time.Duration {
	if d, err := time.ParseDuration(g.Annotations[AnnotationGroupTimeout]); err == nil && d > 0 {
		return d
	}
	return DefaultGroupTimeout
}

// PreferredTopology are the label keys of AnnotationPreferredTopology.
func PreferredTopology(g *schedulingv1beta1.PodGroup) (keys []string) {
	for key := range strings.SplitSeq(g.Annotations[AnnotationPreferredTopology], ",") {
		if key = strings.TrimSpace(key); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// DisruptedTogether says whether the group's pods can only be disrupted all at once.
func DisruptedTogether(g *schedulingv1beta1.PodGroup) bool {
	return g.Spec.DisruptionMode != nil && g.Spec.DisruptionMode.All != nil
}

// AdmitGroupPriority resolves a PodGroup's priority class as AdmitPriority does a pod's.
func AdmitGroupPriority(g *schedulingv1beta1.PodGroup, classes []*schedulingv1.PriorityClass) error {
	pod := corev1.Pod{Spec: corev1.PodSpec{PriorityClassName: g.Spec.PriorityClassName, Priority: g.Spec.Priority}}
	if p := g.Spec.PreemptionPolicy; p != nil {
		pod.Spec.PreemptionPolicy = ptr(corev1.PreemptionPolicy(*p))
	}
	if err := AdmitPriority(&pod, classes); err != nil {
		return err
	}
	g.Spec.PriorityClassName, g.Spec.Priority = pod.Spec.PriorityClassName, pod.Spec.Priority
	g.Spec.PreemptionPolicy = ptr(schedulingv1beta1.PreemptionPolicy(*pod.Spec.PreemptionPolicy))
	return nil
}

func podGroupKind() *Kind {
	return &Kind{
		GroupVersionKind: schedulingv1beta1.SchemeGroupVersion.WithKind("PodGroup"),
		Resource:         "podgroups", Singular: "podgroup", Namespaced: true,
		New:     func() Object { return &schedulingv1beta1.PodGroup{} },
		NewList: func() runtime.Object { return &schedulingv1beta1.PodGroupList{} },
		Default: of(func(g *schedulingv1beta1.PodGroup) {
			setDefault(&g.Spec.DisruptionMode, schedulingv1beta1.DisruptionMode{Single: &schedulingv1beta1.SingleDisruptionMode{}})
		}),
		PrepareCreate: of(func(g *schedulingv1beta1.PodGroup) {
			g.Generation, g.Status = 1, schedulingv1beta1.PodGroupStatus{}
		}),
		PrepareUpdate: pair(func(g, old *schedulingv1beta1.PodGroup) {
			g.Status = old.Status
			bump(g, old, g.Spec, old.Spec)
		}),
		Validate:       check(validatePodGroup),
		ValidateUpdate: checkPair(validatePodGroupUpdate),
		Status: &Status{
			PrepareUpdate: pair(func(g, old *schedulingv1beta1.PodGroup) { g.Spec, g.Generation = old.Spec, old.Generation }),
		},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Policy", "Whether the pods are placed whole or not at all (Gang), or as they come (Basic)", 0),
			typed(column("Min", "How many pods must find nodes at once", 0), "integer"),
			column("Scheduled", "Whether they have, or why not", 0), ageColumn(),
			column("Topology", "The node label whose value all pods share", 1), column("Disruption", "Whether pods are disrupted alone (Single) or together (All)", 1),
			column("Message", "Why they have no nodes", 1),
		},
		Row: row(podGroupRow),
	}
}

func podGroupRow(g *schedulingv1beta1.PodGroup) []any {
	policy, least := "Basic", int64(1)
	if gang := g.Spec.SchedulingPolicy.Gang; gang != nil {
		policy, least = "Gang", int64(gang.MinCount)
	}
	scheduled, message := "Unknown", ""
	if c := meta.FindStatusCondition(g.Status.Conditions, schedulingv1beta1.PodGroupInitiallyScheduled); c != nil {
		if scheduled = string(c.Status); c.Status != metav1.ConditionTrue {
			scheduled, message = c.Reason, c.Message
		}
	}
	topology, disruption := "<none>", "Single"
	if c := g.Spec.SchedulingConstraints; c != nil && len(c.Topology) > 0 {
		topology = c.Topology[0].Key
	}
	if DisruptedTogether(g) {
		disruption = "All"
	}
	return []any{g.Name, policy, least, scheduled, g.CreationTimestamp, topology, disruption, message}
}

func validatePodGroup(g *schedulingv1beta1.PodGroup) field.ErrorList {
	errs := validateGroupAnnotations(g.Annotations, field.NewPath("metadata", "annotations"))
	s, at := &g.Spec, field.NewPath("spec")
	if s.ParentCompositePodGroupName != nil {
		errs = append(errs, unsupported(at.Child("parentCompositePodGroupName"), "groups of groups are not served"))
	}
	if len(s.ResourceClaims) > 0 {
		errs = append(errs, unsupported(at.Child("resourceClaims"), "let each pod have its own claim"))
	}
	if ref := s.WorkloadRef; ref != nil {
		errs = append(errs, invalid(validation.IsDNS1123Subdomain(ref.WorkloadName), at.Child("workloadRef", "workloadName"), ref.WorkloadName)...)
		errs = append(errs, invalid(validation.IsDNS1123Label(ref.TemplateName), at.Child("workloadRef", "templateName"), ref.TemplateName)...)
	}
	policy := at.Child("schedulingPolicy")
	switch gang := s.SchedulingPolicy.Gang; {
	case gang == nil && s.SchedulingPolicy.Basic == nil:
		errs = append(errs, field.Required(policy, "must specify one of: `basic`, `gang`"))
	case gang != nil && s.SchedulingPolicy.Basic != nil:
		errs = append(errs, field.Invalid(policy, "{basic, gang}", "must specify exactly one of: `basic`, `gang`"))
	case gang != nil && gang.MinCount < 1:
		errs = append(errs, field.Invalid(policy.Child("gang", "minCount"), gang.MinCount, "must be greater than or equal to 1"))
	}
	if c := s.SchedulingConstraints; c != nil {
		topology := at.Child("schedulingConstraints", "topology")
		if n := len(c.Topology); n > 1 {
			errs = append(errs, field.TooMany(topology, n, 1))
		}
		for i, t := range c.Topology {
			where := topology.Index(i).Child("key")
			if t.Key == "" {
				errs = append(errs, field.Required(where, ""))
			} else {
				errs = append(errs, invalid(validation.IsQualifiedName(t.Key), where, t.Key)...)
			}
		}
	}
	if m := s.DisruptionMode; m != nil && (m.All == nil) == (m.Single == nil) {
		errs = append(errs, field.Invalid(at.Child("disruptionMode"), "", "must specify exactly one of: `all`, `single`"))
	}
	if s.PriorityClassName != "" {
		errs = append(errs, invalid(validation.IsDNS1123Subdomain(s.PriorityClassName), at.Child("priorityClassName"), s.PriorityClassName)...)
	}
	if p := s.Priority; p != nil && *p > HighestUserPriority && !strings.HasPrefix(s.PriorityClassName, "system-") {
		errs = append(errs, field.Invalid(at.Child("priority"), *p, fmt.Sprintf("must be less than or equal to %d", HighestUserPriority)))
	}
	if p := s.PreemptionPolicy; p != nil {
		errs = append(errs, oneOf(*p, []schedulingv1beta1.PreemptionPolicy{schedulingv1beta1.PreemptLowerPriority, schedulingv1beta1.PreemptNever}, at.Child("preemptionPolicy"))...)
	}
	return errs
}

func validateGroupAnnotations(annotations map[string]string, at *field.Path) (errs field.ErrorList) {
	if text, ok := annotations[AnnotationGroupTimeout]; ok {
		if d, err := time.ParseDuration(text); err != nil || d <= 0 {
			errs = append(errs, field.Invalid(at.Key(AnnotationGroupTimeout), text, `must be a duration above 0, as "90s"`))
		}
	}
	if text, ok := annotations[AnnotationPreferredTopology]; ok {
		for key := range strings.SplitSeq(text, ",") {
			errs = append(errs, invalid(validation.IsQualifiedName(strings.TrimSpace(key)), at.Key(AnnotationPreferredTopology), text)...)
		}
	}
	return errs
}

// validatePodGroupUpdate lets only a gang's minCount change.
func validatePodGroupUpdate(g, old *schedulingv1beta1.PodGroup) field.ErrorList {
	at := field.NewPath("spec")
	errs := immutable(g.Spec.WorkloadRef, old.Spec.WorkloadRef, at.Child("workloadRef"))
	errs = append(errs, immutable(g.Spec.SchedulingPolicy.Basic, old.Spec.SchedulingPolicy.Basic, at.Child("schedulingPolicy", "basic"))...)
	if (g.Spec.SchedulingPolicy.Gang == nil) != (old.Spec.SchedulingPolicy.Gang == nil) {
		errs = append(errs, field.Invalid(at.Child("schedulingPolicy", "gang"), g.Spec.SchedulingPolicy.Gang, "field cannot be set or unset once the group is created"))
	}
	errs = append(errs, immutable(g.Spec.SchedulingConstraints, old.Spec.SchedulingConstraints, at.Child("schedulingConstraints"))...)
	errs = append(errs, immutable(g.Spec.DisruptionMode, old.Spec.DisruptionMode, at.Child("disruptionMode"))...)
	errs = append(errs, immutable(g.Spec.PriorityClassName, old.Spec.PriorityClassName, at.Child("priorityClassName"))...)
	errs = append(errs, immutable(g.Spec.Priority, old.Spec.Priority, at.Child("priority"))...)
	return append(errs, immutable(g.Spec.PreemptionPolicy, old.Spec.PreemptionPolicy, at.Child("preemptionPolicy"))...)
}

func validateSchedulingGroup(g *corev1.PodSchedulingGroup, at *field.Path) field.ErrorList {
	switch {
	case g == nil:
		return nil
	case g.PodGroupName == nil:
		return field.ErrorList{field.Required(at, "must specify one of: `podGroupName`")}
	}
	return invalid(validation.IsDNS1123Subdomain(*g.PodGroupName), at.Child("podGroupName"), *g.PodGroupName)
}
