package api

import (
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// CustomMetric is a metric of objects of one resource, as custom.metrics.k8s.io lists it.
type CustomMetric struct {
	Resource   schema.GroupResource
	Namespaced bool
	Name       string
}

// CustomMetricQuery asks for values of one custom metric.
type CustomMetricQuery struct {
	Resource  schema.GroupResource
	Namespace string          // "" for objects without one
	Name      string          // of one object; "": all that Objects matches
	Objects   labels.Selector // nil: all
	Metric    string
	Selector  labels.Selector // of the metric's own labels; nil: all
}
