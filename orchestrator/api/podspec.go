package api

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePodSpec checks a defaulted pod spec. Fields that the runtime can't honour are refused by name.
func validatePodSpec(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	errs := unsupportedPodFields(s, path)
	volumes := sets.New[string]()
	for i := range s.Volumes {
		at := path.Child("volumes").Index(i)
		errs = append(errs, validateName(s.Volumes[i].Name, at.Child("name"), volumes)...)
		errs = append(errs, validateVolume(&s.Volumes[i], at)...)
	}
	errs = append(errs, validateContainers(s, volumes, path)...)
	errs = append(errs, validatePodClaims(s, path)...)
	errs = append(errs, oneOf(s.RestartPolicy, []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}, path.Child("restartPolicy"))...)
	errs = append(errs, validateDNS(s, path)...)
	errs = append(errs, validateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
	errs = append(errs, validateTolerations(s.Tolerations, path.Child("tolerations"))...)
	errs = append(errs, validateAffinity(s.Affinity, path.Child("affinity"))...)
	errs = append(errs, validateSchedulingGroup(s.SchedulingGroup, path.Child("schedulingGroup"))...)
	errs = append(errs, validateTopologySpread(s.TopologySpreadConstraints, path.Child("topologySpreadConstraints"))...)
	if p := s.PreemptionPolicy; p != nil {
		errs = append(errs, oneOf(*p, []corev1.PreemptionPolicy{corev1.PreemptLowerPriority, corev1.PreemptNever}, path.Child("preemptionPolicy"))...)
	}
	if c := s.RuntimeClassName; c != nil {
		errs = append(errs, invalid(validation.IsDNS1123Subdomain(*c), path.Child("runtimeClassName"), *c)...)
	}
	errs = append(errs, validatePodSecurity(s.SecurityContext, path.Child("securityContext"))...)
	errs = append(errs, validateHostSysctls(s, path.Child("securityContext", "sysctls"))...)
	errs = append(errs, validateResourceList(s.Overhead, path.Child("overhead"))...)
	if g := s.TerminationGracePeriodSeconds; g != nil {
		errs = append(errs, nonNegative(*g, path.Child("terminationGracePeriodSeconds"))...)
	}
	if d := s.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > 1<<31-1) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *d, "must be between 1 and 2147483647, inclusive"))
	}
	for child, value := range inOrder(map[string]string{"serviceAccountName": s.ServiceAccountName, "nodeName": s.NodeName, "priorityClassName": s.PriorityClassName}) {
		if value != "" {
			errs = append(errs, invalid(validation.IsDNS1123Subdomain(value), path.Child(child), value)...)
		}
	}
	for child, value := range inOrder(map[string]string{"hostname": s.Hostname, "subdomain": s.Subdomain}) {
		if value != "" {
			errs = append(errs, invalid(validation.IsDNS1123Label(value), path.Child(child), value)...)
		}
	}
	for i, a := range s.HostAliases {
		if _, err := netip.ParseAddr(a.IP); err != nil {
			errs = append(errs, field.Invalid(path.Child("hostAliases").Index(i).Child("ip"), a.IP, "must be a valid IP address"))
		}
		for j, h := range a.Hostnames {
			errs = append(errs, invalid(validation.IsDNS1123Subdomain(h), path.Child("hostAliases").Index(i).Child("hostnames").Index(j), h)...)
		}
	}
	if len(s.SchedulingGates) > 0 && s.NodeName != "" {
		errs = append(errs, field.Forbidden(path.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	gates := sets.New[string]()
	for i, g := range s.SchedulingGates {
		at := path.Child("schedulingGates").Index(i)
		errs = append(errs, invalid(validation.IsQualifiedName(g.Name), at, g.Name)...)
		if gates.Has(g.Name) {
			errs = append(errs, field.Duplicate(at, g.Name))
		}
		gates.Insert(g.Name)
	}
	for i, g := range s.ReadinessGates {
		errs = append(errs, invalid(validation.IsQualifiedName(string(g.ConditionType)), path.Child("readinessGates").Index(i).Child("conditionType"), g.ConditionType)...)
	}
	return errs
}

// validateDeletionCost checks the annotation by which the ReplicaSet controller chooses whom to delete first.
func validateDeletionCost(annotations map[string]string, at *field.Path) field.ErrorList {
	value, ok := annotations[corev1.PodDeletionCost]
	if !ok {
		return nil
	}
	if n, err := strconv.ParseInt(value, 10, 32); err != nil || strconv.FormatInt(n, 10) != value {
		return field.ErrorList{field.Invalid(at.Key(corev1.PodDeletionCost), value, "must be a 32bit integer")}
	}
	return nil
}

// unsupportedPodFields names what a pod asks for that this version can't do.
func unsupportedPodFields(s *corev1.PodSpec, path *field.Path) (errs field.ErrorList) {
	refuse := func(set bool, child, why string) {
		if set {
			errs = append(errs, unsupported(path.Child(child), why))
		}
	}
	refuse(len(s.EphemeralContainers) > 0, "ephemeralContainers", "run the tools in a container of the pod, or use exec")
	refuse(len(s.ImagePullSecrets) > 0, "imagePullSecrets", "images come from the node's own store, nothing is pulled from a registry")
	refuse(s.HostUsers != nil && !*s.HostUsers, "hostUsers", "user namespaces are not used")
	refuse(s.ShareProcessNamespace != nil && *s.ShareProcessNamespace, "shareProcessNamespace", "no process of the node's would hold the namespace; run the processes in one container")
	refuse(s.SetHostnameAsFQDN != nil && *s.SetHostnameAsFQDN, "setHostnameAsFQDN", "set hostname and subdomain")
	refuse(s.OS != nil && s.OS.Name != corev1.Linux, "os", "nodes run Linux")
	refuse(s.Resources != nil, "resources", "set resources on the containers")
	refuse(s.HostnameOverride != nil, "hostnameOverride", "set hostname")
	refuse(len(s.EvictionResponders) > 0, "evictionResponders", "use a PodDisruptionBudget")
	return errs
}

// validateName checks a DNS label that must be unique, and records it.
func validateName(name string, path *field.Path, seen sets.Set[string]) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	errs := invalid(validation.IsDNS1123Label(name), path, name)
	if seen.Has(name) {
		errs = append(errs, field.Duplicate(path, name))
	}
	seen.Insert(name)
	return errs
}

func validateDNS(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	errs := oneOf(s.DNSPolicy, []corev1.DNSPolicy{corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone}, path.Child("dnsPolicy"))
	at := path.Child("dnsConfig")
	if s.DNSPolicy == corev1.DNSNone && (s.DNSConfig == nil || len(s.DNSConfig.Nameservers) == 0) {
		errs = append(errs, field.Required(at.Child("nameservers"), fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", corev1.DNSNone)))
	}
	if s.DNSConfig == nil {
		return errs
	}
	if n := len(s.DNSConfig.Nameservers); n > 3 {
		errs = append(errs, field.Invalid(at.Child("nameservers"), s.DNSConfig.Nameservers, "must not have more than 3 nameservers"))
	}
	for i, n := range s.DNSConfig.Nameservers {
		if _, err := netip.ParseAddr(n); err != nil {
			errs = append(errs, field.Invalid(at.Child("nameservers").Index(i), n, "must be a valid IP address"))
		}
	}
	if n := len(s.DNSConfig.Searches); n > 32 {
		errs = append(errs, field.Invalid(at.Child("searches"), s.DNSConfig.Searches, "must not have more than 32 search paths"))
	}
	length := max(0, len(s.DNSConfig.Searches)-1)
	for i, search := range s.DNSConfig.Searches {
		length += len(search)
		if search != "." { // "." searches the name as it is
			errs = append(errs, invalid(validation.IsDNS1123Subdomain(strings.TrimSuffix(search, ".")), at.Child("searches").Index(i), search)...)
		}
	}
	if length > 2048 {
		errs = append(errs, field.Invalid(at.Child("searches"), s.DNSConfig.Searches, "must not have more than 2048 characters (including spaces) in the search list"))
	}
	for i, o := range s.DNSConfig.Options {
		if o.Name == "" {
			errs = append(errs, field.Required(at.Child("options").Index(i), "must not be empty"))
		}
	}
	return errs
}

// validateHostSysctls refuses sysctls of namespaces that the pod shares with its node.
func validateHostSysctls(s *corev1.PodSpec, at *field.Path) (errs field.ErrorList) {
	if s.SecurityContext == nil {
		return nil
	}
	for i, c := range s.SecurityContext.Sysctls {
		net := strings.HasPrefix(c.Name, "net.")
		if net && s.HostNetwork {
			errs = append(errs, field.Invalid(at.Index(i).Child("name"), c.Name, "may not be specified when 'hostNetwork' is true"))
		}
		if !net && s.HostIPC {
			errs = append(errs, field.Invalid(at.Index(i).Child("name"), c.Name, "may not be specified when 'hostIPC' is true"))
		}
	}
	return errs
}
