package api

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateAffinity(a *corev1.Affinity, at *field.Path) (errs field.ErrorList) {
	if a == nil {
		return nil
	}
	if n := a.NodeAffinity; n != nil {
		p := at.Child("nodeAffinity")
		if r := n.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
			f := p.Child("requiredDuringSchedulingIgnoredDuringExecution")
			if len(r.NodeSelectorTerms) == 0 {
				errs = append(errs, field.Required(f.Child("nodeSelectorTerms"), "must have at least one node selector term"))
			}
			for i := range r.NodeSelectorTerms {
				errs = append(errs, validateNodeTerm(&r.NodeSelectorTerms[i], f.Child("nodeSelectorTerms").Index(i))...)
			}
		}
		f := p.Child("preferredDuringSchedulingIgnoredDuringExecution")
		for i := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			t := &n.PreferredDuringSchedulingIgnoredDuringExecution[i]
			errs = append(errs, validateWeight(t.Weight, f.Index(i).Child("weight"))...)
			errs = append(errs, validateNodeTerm(&t.Preference, f.Index(i).Child("preference"))...)
		}
	}
	if p := a.PodAffinity; p != nil {
		errs = append(errs, validatePodTerms(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAffinity"))...)
	}
	if p := a.PodAntiAffinity; p != nil {
		errs = append(errs, validatePodTerms(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAntiAffinity"))...)
	}
	return errs
}

func validateNodeTerm(t *corev1.NodeSelectorTerm, at *field.Path) (errs field.ErrorList) {
	for i := range t.MatchExpressions {
		r, f := &t.MatchExpressions[i], at.Child("matchExpressions").Index(i)
		switch r.Operator {
		case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(f.Child("values"), "must be specified when `operator` is 'In' or 'NotIn'"))
			}
		case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
			if len(r.Values) > 0 {
				errs = append(errs, field.Forbidden(f.Child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
			}
		case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
			if len(r.Values) != 1 {
				errs = append(errs, field.Required(f.Child("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'"))
			}
		default:
			errs = append(errs, field.Invalid(f.Child("operator"), r.Operator, "not a valid selector operator"))
		}
		errs = append(errs, invalid(validation.IsQualifiedName(r.Key), f.Child("key"), r.Key)...)
		for j, v := range r.Values {
			errs = append(errs, invalid(validation.IsValidLabelValue(v), f.Child("values").Index(j), v)...)
		}
	}
	for i := range t.MatchFields {
		r, f := &t.MatchFields[i], at.Child("matchFields").Index(i)
		switch r.Operator {
		case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
			if len(r.Values) != 1 {
				errs = append(errs, field.Required(f.Child("values"), "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"))
			}
		default:
			errs = append(errs, field.Invalid(f.Child("operator"), r.Operator, "not a valid selector operator"))
		}
		if r.Key != metav1.ObjectNameField {
			errs = append(errs, field.Invalid(f.Child("key"), r.Key, "not a valid field selector key"))
			continue
		}
		for j, v := range r.Values {
			errs = append(errs, invalid(validation.IsDNS1123Subdomain(v), f.Child("values").Index(j), v)...)
		}
	}
	return errs
}

func validateWeight(w int32, at *field.Path) field.ErrorList {
	if w < 1 || w > 100 {
		return field.ErrorList{field.Invalid(at, w, "must be in the range 1-100")}
	}
	return nil
}

func validatePodTerms(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm, at *field.Path) (errs field.ErrorList) {
	for i := range required {
		errs = append(errs, validatePodTerm(&required[i], at.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i))...)
	}
	for i := range preferred {
		f := at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
		errs = append(errs, validateWeight(preferred[i].Weight, f.Child("weight"))...)
		errs = append(errs, validatePodTerm(&preferred[i].PodAffinityTerm, f.Child("podAffinityTerm"))...)
	}
	return errs
}

func validatePodTerm(t *corev1.PodAffinityTerm, at *field.Path) (errs field.ErrorList) {
	if t.TopologyKey == "" {
		errs = append(errs, field.Required(at.Child("topologyKey"), "can not be empty"))
	} else {
		errs = append(errs, invalid(validation.IsQualifiedName(t.TopologyKey), at.Child("topologyKey"), t.TopologyKey)...)
	}
	errs = append(errs, validateSelector(t.LabelSelector, at.Child("labelSelector"))...)
	errs = append(errs, validateSelector(t.NamespaceSelector, at.Child("namespaceSelector"))...)
	errs = append(errs, validateLabelKeys(t.MatchLabelKeys, "matchLabelKeys", t.LabelSelector, true, at)...)
	errs = append(errs, validateLabelKeys(t.MismatchLabelKeys, "mismatchLabelKeys", t.LabelSelector, false, at)...)
	for i, key := range t.MatchLabelKeys {
		if contains(t.MismatchLabelKeys, key) {
			errs = append(errs, field.Invalid(at.Child("matchLabelKeys").Index(i), key, "exists in both matchLabelKeys and mismatchLabelKeys"))
		}
	}
	for i, n := range t.Namespaces {
		errs = append(errs, invalid(validation.IsDNS1123Label(n), at.Child("namespaces").Index(i), n)...)
	}
	return errs
}

func validateSelector(s *metav1.LabelSelector, at *field.Path) field.ErrorList {
	return metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, at)
}

// validateLabelKeys checks the keys by which a selector takes over the values of the pod's own labels.
func validateLabelKeys(keys []string, name string, s *metav1.LabelSelector, disjoint bool, at *field.Path) (errs field.ErrorList) {
	if len(keys) == 0 {
		return nil
	}
	at = at.Child(name)
	if s == nil {
		return field.ErrorList{field.Forbidden(at, "must not be specified when labelSelector is not set")}
	}
	for i, key := range keys {
		errs = append(errs, metav1validation.ValidateLabelName(key, at.Index(i))...)
		named := func(r metav1.LabelSelectorRequirement) bool { return r.Key == key }
		if _, ok := s.MatchLabels[key]; disjoint && (ok || slices.ContainsFunc(s.MatchExpressions, named)) {
			errs = append(errs, field.Invalid(at.Index(i), key, "exists in both "+name+" and labelSelector"))
		}
	}
	return errs
}

func validateTopologySpread(constraints []corev1.TopologySpreadConstraint, at *field.Path) (errs field.ErrorList) {
	pairs := map[string]bool{}
	for i, c := range constraints {
		f := at.Index(i)
		if c.MaxSkew <= 0 {
			errs = append(errs, field.Invalid(f.Child("maxSkew"), c.MaxSkew, "must be greater than zero"))
		}
		errs = append(errs, required(c.TopologyKey, f.Child("topologyKey"), "can not be empty")...)
		errs = append(errs, oneOf(c.WhenUnsatisfiable, []corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}, f.Child("whenUnsatisfiable"))...)
		if c.MinDomains != nil {
			if *c.MinDomains <= 0 {
				errs = append(errs, field.Invalid(f.Child("minDomains"), *c.MinDomains, "must be greater than zero"))
			}
			if c.WhenUnsatisfiable != corev1.DoNotSchedule {
				errs = append(errs, field.Invalid(f.Child("minDomains"), *c.MinDomains, "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not "+string(c.WhenUnsatisfiable)))
			}
		}
		policies := []corev1.NodeInclusionPolicy{corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore}
		if p := c.NodeAffinityPolicy; p != nil && !contains(policies, *p) {
			errs = append(errs, field.NotSupported(f.Child("nodeAffinityPolicy"), *p, policies))
		}
		if p := c.NodeTaintsPolicy; p != nil && !contains(policies, *p) {
			errs = append(errs, field.NotSupported(f.Child("nodeTaintsPolicy"), *p, policies))
		}
		errs = append(errs, validateSelector(c.LabelSelector, f.Child("labelSelector"))...)
		errs = append(errs, validateLabelKeys(c.MatchLabelKeys, "matchLabelKeys", c.LabelSelector, true, f)...)
		pair := fmt.Sprintf("{%v, %v}", c.TopologyKey, c.WhenUnsatisfiable)
		if pairs[pair] {
			errs = append(errs, field.Duplicate(f.Child("{topologyKey, whenUnsatisfiable}"), pair))
		}
		pairs[pair] = true
	}
	return errs
}

func defaultTolerations(tolerations []corev1.Toleration) {
	for i := range tolerations {
		setZero(&tolerations[i].Operator, corev1.TolerationOpEqual)
	}
}

func validateTolerations(tolerations []corev1.Toleration, at *field.Path) (errs field.ErrorList) {
	for i, t := range tolerations {
		f := at.Index(i)
		if t.Key != "" {
			errs = append(errs, invalid(validation.IsQualifiedName(t.Key), f.Child("key"), t.Key)...)
		} else if t.Operator != corev1.TolerationOpExists {
			errs = append(errs, field.Invalid(f.Child("operator"), t.Operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\""))
		}
		switch t.Operator {
		case "", corev1.TolerationOpEqual:
			errs = append(errs, invalid(validation.IsValidLabelValue(t.Value), f.Child("operator"), t.Value)...)
		case corev1.TolerationOpExists:
			if t.Value != "" {
				errs = append(errs, field.Invalid(f.Child("operator"), t, "value must be empty when `operator` is 'Exists'"))
			}
		default:
			errs = append(errs, field.NotSupported(f.Child("operator"), t.Operator, []corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists}))
		}
		if t.Effect != "" {
			errs = append(errs, oneOf(t.Effect, []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}, f.Child("effect"))...)
		}
		if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
			errs = append(errs, field.Invalid(f.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"))
		}
	}
	return errs
}
