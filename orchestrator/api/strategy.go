package api

import (
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// of, pair, check, checkPair and row let a kind's functions name its own Go type.
func of[T Object](f func(T)) func(Object)             { return func(o Object) { f(o.(T)) } }
func pair[T Object](f func(a, b T)) func(a, b Object) { return func(a, b Object) { f(a.(T), b.(T)) } }
func check[T Object](f func(T) field.ErrorList) func(Object) field.ErrorList {
	return func(o Object) field.ErrorList { return f(o.(T)) }
}
func checkPair[T Object](f func(a, b T) field.ErrorList) func(a, b Object) field.ErrorList {
	return func(a, b Object) field.ErrorList { return f(a.(T), b.(T)) }
}
func row[T Object](f func(T) []any) func(Object) []any {
	return func(o Object) []any { return f(o.(T)) }
}

// list makes a kind's NewList.
func list[T any, P interface {
	*T
	runtime.Object
}]() runtime.Object {
	return P(new(T))
}

// column describes a cell of kubectl get. Priority 0 is always shown, 1 with -o wide.
func column(name, description string, priority int32) metav1.TableColumnDefinition {
	format, kind := "", "string"
	if name == "Name" {
		format = "name"
	}
	return metav1.TableColumnDefinition{Name: name, Type: kind, Format: format, Description: description, Priority: priority}
}

func nameColumn() metav1.TableColumnDefinition { return column("Name", "Name of the object.", 0) }
func ageColumn() metav1.TableColumnDefinition {
	return column("Age", "Time since the object was created.", 0)
}

// immutable is the error of a changed field, in Kubernetes' words.
func immutable(now, before any, path *field.Path) field.ErrorList {
	if apiequality.Semantic.DeepEqual(now, before) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, now, "field is immutable")}
}

// bump counts the generation up when the desired state changed.
func bump(obj, old Object, specNow, specBefore any) {
	obj.SetGeneration(old.GetGeneration())
	if !apiequality.Semantic.DeepEqual(specNow, specBefore) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
}

func ptr[T any](v T) *T { return &v }

// setDefault sets *p when it is unset.
func setDefault[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

func setZero[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func nonNegative(value int64, path *field.Path) field.ErrorList {
	if value < 0 {
		return field.ErrorList{field.Invalid(path, value, "must be greater than or equal to 0")}
	}
	return nil
}
