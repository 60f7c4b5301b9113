package api

import (
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateVolume accepts the sources that the runtime has: emptyDir, hostPath, configMap, secret, downwardAPI, projected,
// persistentVolumeClaim, ephemeral and csi. Any other is refused under its own name.
func validateVolume(v *corev1.Volume, at *field.Path) (errs field.ErrorList) {
	sources := 0
	value := reflect.ValueOf(v.VolumeSource)
	for i := range value.NumField() {
		if value.Field(i).IsNil() {
			continue
		}
		sources++
		name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
		if sources > 1 {
			errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 volume type"))
		}
		switch name {
		case "emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected", "persistentVolumeClaim", "ephemeral", "csi":
		default:
			errs = append(errs, unsupported(at.Child(name), "use emptyDir, hostPath, configMap, secret, downwardAPI, projected, or a persistentVolumeClaim"))
		}
	}
	switch {
	case v.EmptyDir != nil:
		e := at.Child("emptyDir")
		if v.EmptyDir.Medium != corev1.StorageMediumDefault && v.EmptyDir.Medium != corev1.StorageMediumMemory {
			errs = append(errs, unsupported(e.Child("medium"), "medium is unset or Memory"))
		}
		if v.EmptyDir.Mode != nil {
			errs = append(errs, unsupported(e.Child("mode"), "use the pod's fsGroup"))
		}
		if v.EmptyDir.SizeLimit != nil && v.EmptyDir.SizeLimit.Sign() < 0 {
			errs = append(errs, field.Forbidden(e.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity"))
		}
	case v.HostPath != nil:
		errs = append(errs, validateHostPath(v.HostPath, at.Child("hostPath"))...)
	case v.ConfigMap != nil:
		errs = append(errs, required(v.ConfigMap.Name, at.Child("configMap", "name"), "")...)
		errs = append(errs, validateItems(v.ConfigMap.Items, at.Child("configMap", "items"))...)
		errs = append(errs, validateMode(v.ConfigMap.DefaultMode, at.Child("configMap", "defaultMode"))...)
		errs = append(errs, validateFileUser(v.ConfigMap.DefaultUser, at.Child("configMap", "defaultUser"))...)
	case v.Secret != nil:
		errs = append(errs, required(v.Secret.SecretName, at.Child("secret", "secretName"), "")...)
		errs = append(errs, validateItems(v.Secret.Items, at.Child("secret", "items"))...)
		errs = append(errs, validateMode(v.Secret.DefaultMode, at.Child("secret", "defaultMode"))...)
		errs = append(errs, validateFileUser(v.Secret.DefaultUser, at.Child("secret", "defaultUser"))...)
	case v.DownwardAPI != nil:
		errs = append(errs, validateDownward(v.DownwardAPI.Items, at.Child("downwardAPI", "items"))...)
		errs = append(errs, validateMode(v.DownwardAPI.DefaultMode, at.Child("downwardAPI", "defaultMode"))...)
		errs = append(errs, validateFileUser(v.DownwardAPI.DefaultUser, at.Child("downwardAPI", "defaultUser"))...)
	case v.Projected != nil:
		errs = append(errs, validateProjected(v.Projected, at.Child("projected"))...)
	case v.PersistentVolumeClaim != nil:
		errs = append(errs, required(v.PersistentVolumeClaim.ClaimName, at.Child("persistentVolumeClaim", "claimName"), "")...)
	case v.Ephemeral != nil:
		errs = append(errs, validateEphemeral(v.Ephemeral, at.Child("ephemeral"))...)
	case v.CSI != nil:
		c := at.Child("csi")
		errs = append(errs, validateCSIDriverName(v.CSI.Driver, c.Child("driver"))...)
		if ref := v.CSI.NodePublishSecretRef; ref != nil {
			errs = append(errs, required(ref.Name, c.Child("nodePublishSecretRef", "name"), "")...)
		}
	}
	return errs
}

func validateHostPath(h *corev1.HostPathVolumeSource, at *field.Path) field.ErrorList {
	errs := append(required(h.Path, at.Child("path"), ""), validateNoBacksteps(h.Path, at.Child("path"))...)
	if t := h.Type; t != nil && *t != corev1.HostPathUnset {
		errs = append(errs, oneOf(*t, []corev1.HostPathType{corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory, corev1.HostPathFileOrCreate,
			corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev}, at.Child("type"))...)
	}
	return errs
}

// validateNoBacksteps refuses a path that goes up again.
func validateNoBacksteps(path string, at *field.Path) field.ErrorList {
	if slices.Contains(strings.Split(path, "/"), "..") {
		return field.ErrorList{field.Invalid(at, path, "must not contain '..'")}
	}
	return nil
}

// validateEphemeral checks the claim that a pod brings along.
func validateEphemeral(e *corev1.EphemeralVolumeSource, at *field.Path) field.ErrorList {
	at = at.Child("volumeClaimTemplate")
	if e.VolumeClaimTemplate == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	return append(validateOnlyLabels(&e.VolumeClaimTemplate.ObjectMeta, at.Child("metadata")), validateClaimSpec(&e.VolumeClaimTemplate.Spec, at.Child("spec"))...)
}

// EphemeralClaimName names the claim that is made for a pod's volume.
func EphemeralClaimName(pod, volume string) string { return pod + "-" + volume }

// validateEphemeralNames checks that the claims of a pod's volumes can have their names.
func validateEphemeralNames(p *corev1.Pod, path *field.Path) (errs field.ErrorList) {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.Ephemeral == nil || p.Name == "" || v.Name == "" {
			continue
		}
		name := EphemeralClaimName(p.Name, v.Name)
		for _, message := range validation.IsDNS1123Subdomain(name) {
			errs = append(errs, field.Invalid(path.Index(i).Child("name"), v.Name, fmt.Sprintf("PVC name %q: %s", name, message)))
		}
	}
	return errs
}

func validateProjected(p *corev1.ProjectedVolumeSource, at *field.Path) field.ErrorList {
	errs := append(validateMode(p.DefaultMode, at.Child("defaultMode")), validateFileUser(p.DefaultUser, at.Child("defaultUser"))...)
	errs = append(errs, validateProjectedPaths(p, at)...)
	for i := range p.Sources {
		s, f := &p.Sources[i], at.Child("sources").Index(i)
		count := 0
		if s.ConfigMap != nil {
			count++
			errs = append(errs, required(s.ConfigMap.Name, f.Child("configMap", "name"), "")...)
			errs = append(errs, validateItems(s.ConfigMap.Items, f.Child("configMap", "items"))...)
		}
		if s.Secret != nil {
			count++
			errs = append(errs, required(s.Secret.Name, f.Child("secret", "name"), "")...)
			errs = append(errs, validateItems(s.Secret.Items, f.Child("secret", "items"))...)
		}
		if s.DownwardAPI != nil {
			count++
			errs = append(errs, validateDownward(s.DownwardAPI.Items, f.Child("downwardAPI", "items"))...)
		}
		if t := s.ServiceAccountToken; t != nil {
			count++
			errs = append(errs, required(t.Path, f.Child("serviceAccountToken", "path"), "")...)
			errs = append(errs, validateRelative(t.Path, f.Child("serviceAccountToken", "path"))...)
			errs = append(errs, validateFileUser(t.User, f.Child("serviceAccountToken", "user"))...)
			if t.ExpirationSeconds != nil && *t.ExpirationSeconds > 1<<32 {
				errs = append(errs, field.Invalid(f.Child("serviceAccountToken", "expirationSeconds"), *t.ExpirationSeconds, "may not specify a duration larger than 2^32 seconds"))
			}
			if t.ExpirationSeconds != nil && *t.ExpirationSeconds < 600 {
				errs = append(errs, field.Invalid(f.Child("serviceAccountToken", "expirationSeconds"), *t.ExpirationSeconds, "may not specify a duration less than 10 minutes"))
			}
		}
		for name, set := range inOrder(map[string]bool{"clusterTrustBundle": s.ClusterTrustBundle != nil, "podCertificate": s.PodCertificate != nil}) {
			if set {
				count++
				errs = append(errs, unsupported(f.Child(name), "use a Secret"))
			}
		}
		if count != 1 {
			errs = append(errs, field.Forbidden(f, "must specify exactly one volume source"))
		}
	}
	return errs
}

func validateItems(items []corev1.KeyToPath, at *field.Path) (errs field.ErrorList) {
	for i, item := range items {
		errs = append(errs, required(item.Key, at.Index(i).Child("key"), "")...)
		errs = append(errs, required(item.Path, at.Index(i).Child("path"), "")...)
		errs = append(errs, validateRelative(item.Path, at.Index(i).Child("path"))...)
		errs = append(errs, validateMode(item.Mode, at.Index(i).Child("mode"))...)
		errs = append(errs, validateFileUser(item.User, at.Index(i).Child("user"))...)
	}
	return errs
}

func validateDownward(items []corev1.DownwardAPIVolumeFile, at *field.Path) (errs field.ErrorList) {
	for i, item := range items {
		f := at.Index(i)
		errs = append(errs, required(item.Path, f.Child("path"), "")...)
		errs = append(errs, validateRelative(path.Clean("./"+item.Path), f.Child("path"))...)
		switch {
		case item.FieldRef != nil && item.ResourceFieldRef != nil:
			errs = append(errs, field.Invalid(f, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		case item.FieldRef != nil:
			errs = append(errs, validateFieldRef(item.FieldRef, false, f.Child("fieldRef"))...)
		case item.ResourceFieldRef != nil:
			errs = append(errs, required(item.ResourceFieldRef.ContainerName, f.Child("resourceFieldRef", "containerName"), "")...)
			errs = append(errs, validateResourceFieldRef(item.ResourceFieldRef, f.Child("resourceFieldRef"))...)
		default:
			errs = append(errs, field.Required(f, "must specify one of fieldRef and resourceFieldRef"))
		}
		errs = append(errs, validateMode(item.Mode, f.Child("mode"))...)
		errs = append(errs, validateFileUser(item.User, f.Child("user"))...)
	}
	return errs
}

func validateMode(mode *int32, at *field.Path) field.ErrorList {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		return field.ErrorList{field.Invalid(at, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
	}
	return nil
}

// validateFileUser refuses the newer fields that name the owner of a volume's files.
func validateFileUser(user *int64, at *field.Path) field.ErrorList {
	if user != nil {
		return field.ErrorList{unsupported(at, "files belong to the pod's user and fsGroup")}
	}
	return nil
}

// validateProjectedPaths finds two sources that write the same file.
func validateProjectedPaths(p *corev1.ProjectedVolumeSource, at *field.Path) (errs field.ErrorList) {
	seen := map[string]bool{}
	add := func(name string, f *field.Path) {
		if name != "" && seen[name] {
			errs = append(errs, field.Invalid(f, name, "conflicting duplicate paths"))
		}
		seen[name] = true
	}
	for i := range p.Sources {
		s, f := &p.Sources[i], at.Child("sources").Index(i)
		if s.Secret != nil {
			for _, item := range s.Secret.Items {
				add(item.Path, f.Child("secret"))
			}
		}
		if s.ConfigMap != nil {
			for _, item := range s.ConfigMap.Items {
				add(item.Path, f.Child("configMap"))
			}
		}
		if s.DownwardAPI != nil {
			for _, item := range s.DownwardAPI.Items {
				add(item.Path, f.Child("downwardAPI"))
			}
		}
		if s.ServiceAccountToken != nil {
			add(s.ServiceAccountToken.Path, f.Child("serviceAccountToken"))
		}
	}
	return errs
}
