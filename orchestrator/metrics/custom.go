package metrics

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	custommetrics "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalmetrics "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"

	"github.com/pintle/pintle/orchestrator/api"
)

// Custom answers metrics of objects. The embedding program may supply one. Its methods may be called at the same time.
type Custom interface {
	// CustomMetrics are those that may be asked for now. It is asked for each discovery: it should be quick.
	CustomMetrics() []api.CustomMetric
	// CustomValues are the newest values of one metric, one for each object. Where it has none, or doesn't know the
	// metric, it answers none and no error.
	CustomValues(ctx context.Context, query api.CustomMetricQuery) ([]custommetrics.MetricValue, error)
}

// External answers metrics that belong to no object: the length of a queue elsewhere, say. The embedding program may
// supply one. Its methods may be called at the same time.
type External interface {
	// ExternalMetrics names those that may be asked for now.
	ExternalMetrics() []string
	// ExternalValues are the newest values of the series of a metric that selector matches (nil: all), as seen from a
	// namespace. Where it has none it answers none and no error.
	ExternalValues(ctx context.Context, namespace, metric string, selector labels.Selector) ([]externalmetrics.ExternalMetricValue, error)
}

// CustomMetrics are all that may be asked for: the GPUs' and the embedding program's.
func (s *Service) CustomMetrics() []api.CustomMetric {
	out := deviceMetrics()
	if s.cfg.Custom != nil {
		out = append(out, s.cfg.Custom.CustomMetrics()...)
	}
	return out
}

// CustomValues asks the embedding program first, then the nodes' devices. No value at all is a NotFound.
func (s *Service) CustomValues(ctx context.Context, q api.CustomMetricQuery) ([]custommetrics.MetricValue, error) {
	if s.cfg.Custom != nil {
		values, err := s.cfg.Custom.CustomValues(ctx, q)
		if err != nil || len(values) > 0 {
			return values, err
		}
	}
	values, err := s.deviceValues(ctx, q)
	if err != nil || len(values) > 0 {
		return values, err
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: custommetrics.GroupName, Resource: q.Resource.String() + "/" + q.Metric}, q.Name)
}

// ExternalMetrics names all that may be asked for.
func (s *Service) ExternalMetrics() []string {
	if s.cfg.External == nil {
		return nil
	}
	return s.cfg.External.ExternalMetrics()
}

// ExternalValues asks the embedding program. No value is a NotFound.
func (s *Service) ExternalValues(ctx context.Context, namespace, metric string, selector labels.Selector) ([]externalmetrics.ExternalMetricValue, error) {
	if s.cfg.External != nil {
		values, err := s.cfg.External.ExternalValues(ctx, namespace, metric, selector)
		if err != nil || len(values) > 0 {
			return values, err
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: externalmetrics.GroupName, Resource: metric}, "")
}
