package api

import (
	"fmt"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateContainers(s *corev1.PodSpec, volumes sets.Set[string], spec *field.Path) field.ErrorList {
	errs := validateSleeps(s, spec)
	names := sets.New[string]()
	if len(s.Containers) == 0 {
		errs = append(errs, field.Required(spec.Child("containers"), ""))
	}
	for i := range s.Containers {
		c, at := &s.Containers[i], spec.Child("containers").Index(i)
		errs = append(errs, validateContainer(c, names, volumes, at)...)
		errs = append(errs, validateResizePolicy(c.ResizePolicy, s.RestartPolicy, at.Child("resizePolicy"))...)
		if c.RestartPolicy != nil {
			errs = append(errs, field.Forbidden(at.Child("restartPolicy"), "may not be set for non-init containers"))
		}
	}
	for i := range s.InitContainers {
		c, at := &s.InitContainers[i], spec.Child("initContainers").Index(i)
		errs = append(errs, validateContainer(c, names, volumes, at)...)
		sidecar := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		if c.RestartPolicy != nil && !sidecar {
			errs = append(errs, field.NotSupported(at.Child("restartPolicy"), *c.RestartPolicy, []corev1.ContainerRestartPolicy{corev1.ContainerRestartPolicyAlways}))
		}
		if sidecar {
			errs = append(errs, validateResizePolicy(c.ResizePolicy, corev1.RestartPolicyAlways, at.Child("resizePolicy"))...)
		} else {
			if len(c.ResizePolicy) > 0 {
				errs = append(errs, field.Invalid(at.Child("resizePolicy"), c.ResizePolicy, "must not be set for init containers"))
			}
			for child, set := range inOrder(map[string]bool{"lifecycle": c.Lifecycle != nil, "livenessProbe": c.LivenessProbe != nil,
				"readinessProbe": c.ReadinessProbe != nil, "startupProbe": c.StartupProbe != nil}) {
				if set {
					errs = append(errs, field.Forbidden(at.Child(child), "may not be set for init containers without restartPolicy=Always"))
				}
			}
		}
	}
	return append(errs, validateHostPorts(s, spec)...)
}

// maxImageName is more than the longest reference: 255 characters of a name, 128 of a tag, a digest. In bytes.
const maxImageName = 1024

func validateContainer(c *corev1.Container, names, volumes sets.Set[string], at *field.Path) field.ErrorList {
	errs := validateName(c.Name, at.Child("name"), names)
	if c.Image == "" {
		errs = append(errs, field.Required(at.Child("image"), ""))
	} else if strings.TrimSpace(c.Image) != c.Image {
		errs = append(errs, field.Invalid(at.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	} else if len(c.Image) > maxImageName {
		errs = append(errs, field.TooLong(at.Child("image"), "", maxImageName))
	}
	errs = append(errs, oneOf(c.ImagePullPolicy, []corev1.PullPolicy{corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}, at.Child("imagePullPolicy"))...)
	errs = append(errs, oneOf(c.TerminationMessagePolicy, []corev1.TerminationMessagePolicy{corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError}, at.Child("terminationMessagePolicy"))...)
	errs = append(errs, validateContainerPorts(c.Ports, at.Child("ports"))...)
	errs = append(errs, validateEnv(c, at)...)
	errs = append(errs, validateMounts(c.VolumeMounts, volumes, privileged(c), at.Child("volumeMounts"))...)
	errs = append(errs, validateRequirements(&c.Resources, at.Child("resources"))...)
	errs = append(errs, validateProbe(c.LivenessProbe, true, at.Child("livenessProbe"))...)
	errs = append(errs, validateProbe(c.ReadinessProbe, false, at.Child("readinessProbe"))...)
	errs = append(errs, validateProbe(c.StartupProbe, true, at.Child("startupProbe"))...)
	errs = append(errs, validateLifecycle(c.Lifecycle, at.Child("lifecycle"))...)
	errs = append(errs, validateSecurity(c.SecurityContext, at.Child("securityContext"))...)
	if len(c.VolumeDevices) > 0 {
		errs = append(errs, unsupported(at.Child("volumeDevices"), "mount a volume"))
	}
	if len(c.RestartPolicyRules) > 0 {
		errs = append(errs, unsupported(at.Child("restartPolicyRules"), "set the pod's restartPolicy"))
	}
	return errs
}

func validateContainerPorts(ports []corev1.ContainerPort, path *field.Path) (errs field.ErrorList) {
	names := sets.New[string]()
	for i, p := range ports {
		at := path.Index(i)
		if p.Name != "" {
			errs = append(errs, invalid(validation.IsValidPortName(p.Name), at.Child("name"), p.Name)...)
			if names.Has(p.Name) {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names.Insert(p.Name)
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, validatePort(int64(p.ContainerPort), at.Child("containerPort"))...)
		}
		if p.HostPort != 0 {
			errs = append(errs, validatePort(int64(p.HostPort), at.Child("hostPort"))...)
		}
		if p.HostIP != "" {
			errs = append(errs, validation.IsValidIP(at.Child("hostIP"), p.HostIP)...)
		}
		errs = append(errs, oneOf(p.Protocol, protocols(), at.Child("protocol"))...)
	}
	return errs
}

func validateHostPorts(s *corev1.PodSpec, spec *field.Path) (errs field.ErrorList) {
	type key struct {
		protocol corev1.Protocol
		ip       string
		port     int32
	}
	seen := map[key]bool{}
	for i := range s.Containers {
		for j, p := range s.Containers[i].Ports {
			if p.HostPort == 0 {
				continue
			}
			at := spec.Child("containers").Index(i).Child("ports").Index(j)
			if s.HostNetwork && p.HostPort != p.ContainerPort {
				errs = append(errs, field.Invalid(at.Child("containerPort"), p.ContainerPort, "must match `hostPort` when `hostNetwork` is true"))
			}
			k := key{p.Protocol, p.HostIP, p.HostPort}
			if seen[k] {
				errs = append(errs, field.Duplicate(at.Child("hostPort"), fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)))
			}
			seen[k] = true
		}
	}
	return errs
}

func validateEnv(c *corev1.Container, at *field.Path) (errs field.ErrorList) {
	for i, e := range c.Env {
		p := at.Child("env").Index(i)
		if e.Name == "" {
			errs = append(errs, field.Required(p.Child("name"), ""))
		} else {
			errs = append(errs, invalid(validation.IsRelaxedEnvVarName(e.Name), p.Child("name"), e.Name)...)
		}
		if e.ValueFrom == nil {
			continue
		}
		from, f := e.ValueFrom, p.Child("valueFrom")
		sources := 0
		for _, set := range []bool{from.FieldRef != nil, from.ResourceFieldRef != nil, from.ConfigMapKeyRef != nil, from.SecretKeyRef != nil, from.FileKeyRef != nil} {
			if set {
				sources++
			}
		}
		switch {
		case e.Value != "":
			errs = append(errs, field.Invalid(f, "", "may not be specified when `value` is not empty"))
		case sources != 1:
			errs = append(errs, field.Invalid(f, "", "must specify exactly one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"))
		case from.FileKeyRef != nil:
			errs = append(errs, unsupported(f.Child("fileKeyRef"), "use a ConfigMap or a Secret"))
		case from.FieldRef != nil:
			errs = append(errs, validateFieldRef(from.FieldRef, true, f.Child("fieldRef"))...)
		case from.ResourceFieldRef != nil:
			errs = append(errs, validateResourceFieldRef(from.ResourceFieldRef, f.Child("resourceFieldRef"))...)
		case from.ConfigMapKeyRef != nil:
			errs = append(errs, required(from.ConfigMapKeyRef.Name, f.Child("configMapKeyRef", "name"), "")...)
			errs = append(errs, required(from.ConfigMapKeyRef.Key, f.Child("configMapKeyRef", "key"), "")...)
		case from.SecretKeyRef != nil:
			errs = append(errs, required(from.SecretKeyRef.Name, f.Child("secretKeyRef", "name"), "")...)
			errs = append(errs, required(from.SecretKeyRef.Key, f.Child("secretKeyRef", "key"), "")...)
		}
	}
	for i, e := range c.EnvFrom {
		p := at.Child("envFrom").Index(i)
		if e.Prefix != "" {
			errs = append(errs, invalid(validation.IsRelaxedEnvVarName(e.Prefix), p.Child("prefix"), e.Prefix)...)
		}
		switch {
		case e.ConfigMapRef != nil && e.SecretRef != nil:
			errs = append(errs, field.Invalid(p, "", "may not have more than one field specified at a time"))
		case e.ConfigMapRef != nil:
			errs = append(errs, required(e.ConfigMapRef.Name, p.Child("configMapRef", "name"), "")...)
		case e.SecretRef != nil:
			errs = append(errs, required(e.SecretRef.Name, p.Child("secretRef", "name"), "")...)
		default:
			errs = append(errs, field.Invalid(p, "", "must specify one of: `configMapRef` or `secretRef`"))
		}
	}
	return errs
}

// validateFieldRef accepts the paths that the downward API documents; some work in environments alone.
func validateFieldRef(ref *corev1.ObjectFieldSelector, env bool, path *field.Path) field.ErrorList {
	known := []string{"metadata.name", "metadata.namespace", "metadata.uid"}
	if env {
		known = append(known, "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs")
	} else {
		known = append(known, "metadata.annotations", "metadata.labels")
	}
	p := ref.FieldPath
	if ref.APIVersion != "" && ref.APIVersion != "v1" {
		return field.ErrorList{field.Invalid(path.Child("fieldPath"), p, "error converting fieldPath: unsupported pod version: "+ref.APIVersion)}
	}
	for _, prefix := range []string{"metadata.annotations['", "metadata.labels['"} {
		if key, ok := strings.CutPrefix(p, prefix); ok && strings.HasSuffix(key, "']") {
			key = strings.TrimSuffix(key, "']")
			if prefix == "metadata.annotations['" {
				key = strings.ToLower(key)
			}
			return invalid(validation.IsQualifiedName(key), path, key)
		}
	}
	return oneOf(p, known, path.Child("fieldPath"))
}

func validateResourceFieldRef(ref *corev1.ResourceFieldSelector, at *field.Path) field.ErrorList {
	errs := oneOf(ref.Resource, []string{"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"}, at.Child("resource"))
	if ref.Divisor.IsZero() {
		return errs
	}
	_, name, _ := strings.Cut(ref.Resource, ".")
	divisors := []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
	told := strings.Join(divisors, ", ")
	if name == "cpu" {
		divisors, told = []string{"1m", "1"}, "1m and 1"
	}
	if d := ref.Divisor.String(); !contains(divisors, d) {
		errs = append(errs, field.Invalid(at.Child("divisor"), d, fmt.Sprintf("only divisor's values %s are supported with the %s resource", told, name)))
	}
	return errs
}

func privileged(c *corev1.Container) bool {
	return c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
}

func validateMounts(mounts []corev1.VolumeMount, volumes sets.Set[string], privileged bool, at *field.Path) (errs field.ErrorList) {
	paths := sets.New[string]()
	for i, m := range mounts {
		p := at.Index(i)
		switch {
		case m.Name == "":
			errs = append(errs, field.Required(p.Child("name"), ""))
		case !volumes.Has(m.Name):
			errs = append(errs, field.NotFound(p.Child("name"), m.Name))
		}
		switch {
		case m.MountPath == "":
			errs = append(errs, field.Required(p.Child("mountPath"), ""))
		case paths.Has(m.MountPath):
			errs = append(errs, field.Invalid(p.Child("mountPath"), m.MountPath, "must be unique"))
		}
		paths.Insert(m.MountPath)
		if m.SubPath != "" && m.SubPathExpr != "" {
			errs = append(errs, field.Invalid(p.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
		}
		errs = append(errs, validateRelative(m.SubPath, p.Child("subPath"))...)
		errs = append(errs, validateRelative(m.SubPathExpr, p.Child("subPathExpr"))...)
		if r := m.RecursiveReadOnly; r != nil && *r != corev1.RecursiveReadOnlyDisabled {
			errs = append(errs, unsupported(p.Child("recursiveReadOnly"), "use readOnly"))
		}
		if len(m.BindMountOptions) > 0 {
			errs = append(errs, unsupported(p.Child("bindMountOptions"), "leave it out"))
		}
		if g := m.MountPropagation; g != nil {
			errs = append(errs, oneOf(*g, []corev1.MountPropagationMode{corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone}, p.Child("mountPropagation"))...)
			if *g == corev1.MountPropagationBidirectional && !privileged {
				errs = append(errs, field.Forbidden(p.Child("mountPropagation"), "Bidirectional mount propagation is available only to privileged containers"))
			}
		}
	}
	return errs
}

func validateRelative(p string, at *field.Path) (errs field.ErrorList) {
	if path.IsAbs(p) {
		errs = append(errs, field.Invalid(at, p, "must be a relative path"))
	}
	for _, part := range strings.Split(p, "/") {
		if part == ".." {
			return append(errs, field.Invalid(at, p, "must not contain '..'"))
		}
	}
	return errs
}
