package api

import (
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateDataKeys checks the keys of ConfigMaps and Secrets, which become file names, and their size.
func validateDataKeys[V any](data map[string]V, size func(V) int, path *field.Path) (errs field.ErrorList, total int) {
	for key, value := range inOrder(data) {
		for _, message := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(path.Key(key), key, message))
		}
		total += size(value)
	}
	return errs, total
}

func validateTotal(total int, path *field.Path) field.ErrorList {
	if total > corev1.MaxSecretSize {
		return field.ErrorList{field.TooLong(path, "", corev1.MaxSecretSize)}
	}
	return nil
}

// validateImmutableData is the rule of `immutable: true`: neither it nor the data may change.
func validateImmutableData(now, before *bool, unchanged, binaryUnchanged bool) field.ErrorList {
	if before == nil || !*before {
		return nil
	}
	var errs field.ErrorList
	if now == nil || !*now {
		errs = append(errs, field.Forbidden(field.NewPath("immutable"), "field is immutable when `immutable` is set"))
	}
	if !unchanged {
		errs = append(errs, field.Forbidden(field.NewPath("data"), "field is immutable when `immutable` is set"))
	}
	if !binaryUnchanged {
		errs = append(errs, field.Forbidden(field.NewPath("binaryData"), "field is immutable when `immutable` is set"))
	}
	return errs
}

func equal(a, b any) bool { return apiequality.Semantic.DeepEqual(a, b) }

func required(value string, path *field.Path, message string) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, message)}
	}
	return nil
}
