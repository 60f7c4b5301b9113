package api

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validatePodSecurity(s *corev1.PodSecurityContext, at *field.Path) field.ErrorList {
	if s == nil {
		return nil
	}
	errs := validateIDs(at, map[string]*int64{"runAsUser": s.RunAsUser, "runAsGroup": s.RunAsGroup, "fsGroup": s.FSGroup})
	for i, g := range s.SupplementalGroups {
		errs = append(errs, nonNegative(g, at.Child("supplementalGroups").Index(i))...)
	}
	if p := s.FSGroupChangePolicy; p != nil {
		errs = append(errs, oneOf(*p, []corev1.PodFSGroupChangePolicy{corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch}, at.Child("fsGroupChangePolicy"))...)
	}
	names := map[string]bool{}
	for i, c := range s.Sysctls {
		errs = append(errs, validateSysctl(c.Name, at.Child("sysctls").Index(i).Child("name"))...)
		if names[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("sysctls").Index(i).Child("name"), c.Name))
		}
		names[c.Name] = true
	}
	if p := s.SupplementalGroupsPolicy; p != nil && *p != corev1.SupplementalGroupsPolicyMerge {
		errs = append(errs, unsupported(at.Child("supplementalGroupsPolicy"), "groups are merged"))
	}
	if s.SELinuxOptions != nil {
		errs = append(errs, unsupported(at.Child("seLinuxOptions"), "leave it out"))
	}
	if s.SELinuxChangePolicy != nil {
		errs = append(errs, unsupported(at.Child("seLinuxChangePolicy"), "leave it out"))
	}
	if s.WindowsOptions != nil {
		errs = append(errs, unsupported(at.Child("windowsOptions"), "nodes run Linux"))
	}
	errs = append(errs, validateSeccomp(s.SeccompProfile, at.Child("seccompProfile"))...)
	return append(errs, validateAppArmor(s.AppArmorProfile, at.Child("appArmorProfile"))...)
}

func validateSecurity(s *corev1.SecurityContext, at *field.Path) field.ErrorList {
	if s == nil {
		return nil
	}
	errs := validateIDs(at, map[string]*int64{"runAsUser": s.RunAsUser, "runAsGroup": s.RunAsGroup})
	if s.SELinuxOptions != nil {
		errs = append(errs, unsupported(at.Child("seLinuxOptions"), "leave it out"))
	}
	if s.WindowsOptions != nil {
		errs = append(errs, unsupported(at.Child("windowsOptions"), "nodes run Linux"))
	}
	if m := s.ProcMount; m != nil {
		errs = append(errs, oneOf(*m, []corev1.ProcMountType{corev1.DefaultProcMount, corev1.UnmaskedProcMount}, at.Child("procMount"))...)
	}
	if escalation := s.AllowPrivilegeEscalation; escalation != nil && !*escalation {
		if s.Privileged != nil && *s.Privileged {
			errs = append(errs, field.Invalid(at, s, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if s.Capabilities != nil && slices.Contains(s.Capabilities.Add, "CAP_SYS_ADMIN") {
			errs = append(errs, field.Invalid(at, s, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
		}
	}
	errs = append(errs, validateSeccomp(s.SeccompProfile, at.Child("seccompProfile"))...)
	return append(errs, validateAppArmor(s.AppArmorProfile, at.Child("appArmorProfile"))...)
}

// validateSysctl accepts the sysctls that belong to a pod's own namespaces; any other would change the node.
func validateSysctl(name string, at *field.Path) field.ErrorList {
	switch {
	case name == "":
		return field.ErrorList{field.Required(at, "")}
	case strings.Contains(name, ".."), strings.Contains(name, "/"):
		return field.ErrorList{field.Invalid(at, name, "must be a sysctl's name, its parts joined by dots")}
	case strings.HasPrefix(name, "net."), strings.HasPrefix(name, "kernel.shm"), strings.HasPrefix(name, "kernel.msg"),
		name == "kernel.sem", strings.HasPrefix(name, "fs.mqueue."):
		return nil
	}
	return field.ErrorList{unsupported(at, "only sysctls of the pod's own namespaces can be set: net.*, kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.*")}
}

func validateIDs(at *field.Path, ids map[string]*int64) (errs field.ErrorList) {
	for name, id := range inOrder(ids) {
		if id != nil && (*id < 0 || *id > 1<<31-1) {
			errs = append(errs, field.Invalid(at.Child(name), *id, "must be between 0 and 2147483647, inclusive"))
		}
	}
	return errs
}

func validateSeccomp(p *corev1.SeccompProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	if p.Type == corev1.SeccompProfileTypeLocalhost {
		return field.ErrorList{unsupported(at.Child("type"), "use RuntimeDefault or Unconfined")}
	}
	if p.LocalhostProfile != nil {
		return field.ErrorList{field.Invalid(at.Child("localhostProfile"), *p.LocalhostProfile, "can only be set when seccomp type is Localhost")}
	}
	return oneOf(p.Type, []corev1.SeccompProfileType{corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined}, at.Child("type"))
}

func validateAppArmor(p *corev1.AppArmorProfile, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p != nil && p.Type != corev1.AppArmorProfileTypeUnconfined {
		errs = append(errs, unsupported(at.Child("type"), "use Unconfined, or leave it out"))
	}
	if p != nil && p.LocalhostProfile != nil {
		errs = append(errs, field.Invalid(at.Child("localhostProfile"), *p.LocalhostProfile, "can only be set when AppArmor type is Localhost"))
	}
	return errs
}
