package api

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func nodeKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Node"),
		Resource:         "nodes", Singular: "node", ShortNames: []string{"no"},
		New:     func() Object { return &corev1.Node{} },
		NewList: func() runtime.Object { return &corev1.NodeList{} },
		Default: of(func(n *corev1.Node) { // two names of one field
			if n.Spec.PodCIDR == "" && len(n.Spec.PodCIDRs) > 0 {
				n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
			} else if n.Spec.PodCIDR != "" && len(n.Spec.PodCIDRs) == 0 {
				n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
			}
		}),
		PrepareUpdate: pair(func(n, old *corev1.Node) { n.Status = old.Status }),
		Validate:      check(validateNode),
		ValidateUpdate: checkPair(func(n, old *corev1.Node) field.ErrorList {
			var errs field.ErrorList
			if old.Spec.PodCIDR != "" && n.Spec.PodCIDR != old.Spec.PodCIDR {
				errs = append(errs, field.Forbidden(field.NewPath("spec", "podCIDR"), `node updates may not change podCIDR except from "" to valid`))
			}
			if old.Spec.ProviderID != "" && n.Spec.ProviderID != old.Spec.ProviderID {
				errs = append(errs, field.Forbidden(field.NewPath("spec", "providerID"), `node updates may not change providerID except from "" to valid`))
			}
			return errs
		}),
		Status:       &Status{PrepareUpdate: pair(func(n, old *corev1.Node) { n.Spec = old.Spec })},
		Subresources: []string{"proxy"},
		Columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Status", "The status of the node", 0), column("Roles", "The roles of the node", 0), ageColumn(),
			column("Version", "Kubelet Version reported by the node.", 0),
			column("Internal-IP", "Internal IP of the node", 1), column("External-IP", "External IP of the node", 1),
			column("OS-Image", "OS Image reported by the node", 1), column("Kernel-Version", "Kernel version reported by the node", 1),
			column("Container-Runtime", "Container runtime of the node", 1),
		},
		Row: row(nodeRow),
		Fields: func(o Object) fields.Set {
			unschedulable := "false"
			if o.(*corev1.Node).Spec.Unschedulable {
				unschedulable = "true"
			}
			return fields.Set{"spec.unschedulable": unschedulable}
		},
	}
}

func validateNode(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "taints")
	for i, taint := range n.Spec.Taints {
		for _, message := range validation.IsQualifiedName(taint.Key) {
			errs = append(errs, field.Invalid(path.Index(i).Child("key"), taint.Key, message))
		}
		effects := []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}
		if !slices.Contains(effects, taint.Effect) {
			errs = append(errs, field.NotSupported(path.Index(i).Child("effect"), taint.Effect, effects))
		}
	}
	unique := map[[2]string]bool{}
	for i, taint := range n.Spec.Taints {
		errs = append(errs, invalid(validation.IsValidLabelValue(taint.Value), path.Index(i).Child("value"), taint.Value)...)
		key := [2]string{taint.Key, string(taint.Effect)}
		if unique[key] {
			e := field.Duplicate(path.Index(i), taint)
			e.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, e)
		}
		unique[key] = true
	}
	spec := field.NewPath("spec")
	for i, cidr := range n.Spec.PodCIDRs {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			errs = append(errs, field.Invalid(spec.Child("podCIDRs").Index(i), cidr, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"))
		}
	}
	if len(n.Spec.PodCIDRs) > 1 {
		errs = append(errs, unsupported(spec.Child("podCIDRs"), "pods have IPv4 addresses only"))
	}
	if cidr := n.Spec.PodCIDR; cidr != "" && len(n.Spec.PodCIDRs) > 0 && n.Spec.PodCIDRs[0] != cidr {
		errs = append(errs, field.Invalid(spec.Child("podCIDRs").Index(0), n.Spec.PodCIDRs[0], "must match `podCIDR`"))
	}
	if n.Spec.ConfigSource != nil {
		errs = append(errs, field.Forbidden(spec.Child("configSource"), "configSource may not be set; it is no longer supported"))
	}
	if n.Spec.PodPreemptionPolicy != nil {
		errs = append(errs, unsupported(spec.Child("podPreemptionPolicy"), "no pod is preempted for the resize of another"))
	}
	return errs
}

func nodeRow(n *corev1.Node) []any {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status = "NotReady"
			if c.Status == corev1.ConditionTrue {
				status = "Ready"
			}
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	var roles []string
	for label := range n.Labels {
		if role, ok := strings.CutPrefix(label, "node-role.kubernetes.io/"); ok && role != "" {
			roles = append(roles, role)
		} else if label == "kubernetes.io/role" && n.Labels[label] != "" {
			roles = append(roles, n.Labels[label])
		}
	}
	slices.Sort(roles)
	roles = slices.Compact(roles)
	internal, external := "<none>", "<none>"
	for _, a := range n.Status.Addresses {
		switch {
		case a.Type == corev1.NodeInternalIP && internal == "<none>":
			internal = a.Address
		case a.Type == corev1.NodeExternalIP && external == "<none>":
			external = a.Address
		}
	}
	info := n.Status.NodeInfo
	return []any{n.Name, status, orNone(strings.Join(roles, ",")), n.CreationTimestamp, info.KubeletVersion,
		internal, external, orUnknown(info.OSImage), orUnknown(info.KernelVersion), orUnknown(info.ContainerRuntimeVersion)}
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

func orUnknown(s string) string {
	if s == "" {
		return "<unknown>"
	}
	return s
}
