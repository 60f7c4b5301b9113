package api

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func secretKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Secret"),
		Resource:         "secrets", Singular: "secret", Namespaced: true,
		New:     func() Object { return &corev1.Secret{} },
		NewList: func() runtime.Object { return &corev1.SecretList{} },
		Default: of(func(s *corev1.Secret) {
			setZero(&s.Type, corev1.SecretTypeOpaque)
			for key, value := range s.StringData { // write-only: merged into data
				if s.Data == nil {
					s.Data = map[string][]byte{}
				}
				s.Data[key] = []byte(value)
			}
			s.StringData = nil
		}),
		Validate: check(validateSecret),
		ValidateUpdate: checkPair(func(s, old *corev1.Secret) field.ErrorList {
			return append(immutable(s.Type, old.Type, field.NewPath("type")),
				validateImmutableData(s.Immutable, old.Immutable, equal(s.Data, old.Data), true)...)
		}),
		Columns: []metav1.TableColumnDefinition{nameColumn(), column("Type", "Type of the secret", 0), column("Data", "Number of entries", 0), ageColumn()},
		Row: row(func(s *corev1.Secret) []any {
			return []any{s.Name, string(s.Type), int64(len(s.Data)), s.CreationTimestamp}
		}),
		Fields: func(o Object) fields.Set { return fields.Set{"type": string(o.(*corev1.Secret).Type)} },
	}
}

// requiredKeys are what the well-known types of Secret must hold.
func requiredKeys(t corev1.SecretType) []string {
	switch t {
	case corev1.SecretTypeTLS:
		return []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey}
	case corev1.SecretTypeDockerConfigJson:
		return []string{corev1.DockerConfigJsonKey}
	case corev1.SecretTypeDockercfg:
		return []string{corev1.DockerConfigKey}
	case corev1.SecretTypeSSHAuth:
		return []string{corev1.SSHAuthPrivateKey}
	}
	return nil
}

func validateSecret(s *corev1.Secret) field.ErrorList {
	path := field.NewPath("data")
	errs, size := validateDataKeys(s.Data, func(v []byte) int { return len(v) }, path)
	errs = append(errs, validateTotal(size, path)...)
	for _, key := range requiredKeys(s.Type) {
		if _, ok := s.Data[key]; !ok {
			errs = append(errs, field.Required(path.Key(key), ""))
		}
	}
	if s.Type == corev1.SecretTypeBasicAuth {
		_, user := s.Data[corev1.BasicAuthUsernameKey]
		_, password := s.Data[corev1.BasicAuthPasswordKey]
		if !user && !password {
			errs = append(errs, field.Required(path.Key(corev1.BasicAuthUsernameKey), ""), field.Required(path.Key(corev1.BasicAuthPasswordKey), ""))
		}
	}
	for t, key := range inOrder(map[corev1.SecretType]string{corev1.SecretTypeDockercfg: corev1.DockerConfigKey, corev1.SecretTypeDockerConfigJson: corev1.DockerConfigJsonKey}) {
		if data, ok := s.Data[key]; ok && s.Type == t {
			if err := json.Unmarshal(data, &map[string]any{}); err != nil {
				errs = append(errs, field.Invalid(path.Key(key), "<secret contents redacted>", err.Error()))
			}
		}
	}
	if s.Type == corev1.SecretTypeServiceAccountToken {
		errs = append(errs, required(s.Annotations[corev1.ServiceAccountNameKey],
			field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey), "")...)
	}
	return errs
}
