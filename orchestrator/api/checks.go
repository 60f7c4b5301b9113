package api

import (
	"iter"
	"maps"
	"net"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// inOrder walks a map by its keys, so that problems are told in the same order every time.
func inOrder[K ~string, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

// typed sets the type of a column whose cells are no text.
func typed(c metav1.TableColumnDefinition, kind string) metav1.TableColumnDefinition {
	c.Type = kind
	return c
}

// invalid turns the messages of k8s.io/apimachinery's validation into errors of one field.
func invalid(messages []string, path *field.Path, value any) (errs field.ErrorList) {
	for _, m := range messages {
		errs = append(errs, field.Invalid(path, value, m))
	}
	return errs
}

// oneOf is the check of an enumeration: Required when it is empty, NotSupported when it is none of them.
func oneOf[T ~string](value T, allowed []T, path *field.Path) field.ErrorList {
	switch {
	case value == "":
		return field.ErrorList{field.Required(path, "")}
	case !slices.Contains(allowed, value):
		return field.ErrorList{field.NotSupported(path, value, allowed)}
	}
	return nil
}

// unsupported refuses a field that Kubernetes has and this version does not honour, and says why.
func unsupported(path *field.Path, why string) *field.Error {
	return field.Forbidden(path, "not supported by Pintle: "+why)
}

func validatePort(port int64, path *field.Path) field.ErrorList {
	return invalid(validation.IsValidPortNum(int(port)), path, port)
}

func protocols() []corev1.Protocol {
	return []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}
}

func hostPort(host string, port int32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
