package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	custommetrics "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalmetrics "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/pintle/pintle/orchestrator/api"
)

// Metrics is what metrics.k8s.io, custom.metrics.k8s.io and external.metrics.k8s.io answer with: nothing of it is
// stored. A nil selector matches everything.
type Metrics interface {
	NodeMetrics(ctx context.Context, selector labels.Selector) ([]metricsv1beta1.NodeMetrics, error)
	PodMetrics(ctx context.Context, namespace string, selector labels.Selector) ([]metricsv1beta1.PodMetrics, error)
	CustomMetrics() []api.CustomMetric
	CustomValues(ctx context.Context, query api.CustomMetricQuery) ([]custommetrics.MetricValue, error)
	ExternalMetrics() []string
	ExternalValues(ctx context.Context, namespace, metric string, selector labels.Selector) ([]externalmetrics.ExternalMetricValue, error)
}

func metricsGroups() []schema.GroupVersion {
	return []schema.GroupVersion{metricsv1beta1.SchemeGroupVersion, custommetrics.SchemeGroupVersion, externalmetrics.SchemeGroupVersion}
}

func readOnly() []string { return []string{"get", "list"} }

// addMetrics lists metrics.k8s.io in discovery, and the other two without their metrics, which come and go.
func (d *discovery) addMetrics() {
	for _, r := range []struct {
		resource, kind string
		scope          apidiscovery.ResourceScope
	}{{"nodes", "NodeMetrics", apidiscovery.ScopeCluster}, {"pods", "PodMetrics", apidiscovery.ScopeNamespace}} {
		gv := metricsv1beta1.SchemeGroupVersion
		d.add(gv, apidiscovery.APIResourceDiscovery{Resource: r.resource, ResponseKind: metaGVK(gv.WithKind(r.kind)), Scope: r.scope, Verbs: readOnly()})
	}
	d.addVersion(custommetrics.SchemeGroupVersion)
	d.addVersion(externalmetrics.SchemeGroupVersion)
}

// metricResources lists what a version of the custom or the external metrics offers now; nil: it is neither.
func (s *Server) metricResources(gv schema.GroupVersion) *metav1.APIResourceList {
	list := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String(), APIResources: []metav1.APIResource{}}
	switch {
	case s.cfg.Metrics == nil:
		return nil
	case gv == custommetrics.SchemeGroupVersion:
		for _, m := range s.cfg.Metrics.CustomMetrics() {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: m.Resource.String() + "/" + m.Name, Namespaced: m.Namespaced, Kind: "MetricValueList", Verbs: []string{"get"}})
		}
	case gv == externalmetrics.SchemeGroupVersion:
		for _, name := range s.cfg.Metrics.ExternalMetrics() {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: name, Namespaced: true, Kind: "ExternalMetricValueList", Verbs: []string{"get"}})
		}
	default:
		return nil
	}
	return list
}

// withMetrics is a discovery document in which the custom and the external metrics are as they are now.
func (s *Server) withMetrics(list *apidiscovery.APIGroupDiscoveryList) *apidiscovery.APIGroupDiscoveryList {
	out := *list
	out.Items = slices.Clone(list.Items)
	for i := range out.Items {
		group := &out.Items[i]
		for j, v := range group.Versions {
			now := s.metricResources(schema.GroupVersion{Group: group.Name, Version: v.Version})
			if now == nil {
				continue
			}
			group.Versions = slices.Clone(group.Versions)
			for _, r := range now.APIResources {
				scope := apidiscovery.ScopeCluster
				if r.Namespaced {
					scope = apidiscovery.ScopeNamespace
				}
				v.Resources = append(v.Resources, apidiscovery.APIResourceDiscovery{Resource: r.Name, Scope: scope, Verbs: r.Verbs,
					ResponseKind: metaGVK(schema.GroupVersionKind{Group: group.Name, Version: v.Version, Kind: r.Kind})})
			}
			group.Versions[j] = v
		}
	}
	return &out
}

// servesMetrics says whether a request is for one of the three groups.
func (s *Server) servesMetrics(info requestInfo) bool {
	return s.cfg.Metrics != nil && slices.Contains(metricsGroups(), info.gvr.GroupVersion())
}

func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request, info requestInfo) error {
	if info.verb == "watch" {
		return errMethod()
	}
	if info.verb != "get" && info.verb != "list" {
		return errMethod()
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	r = r.WithContext(ctx)
	switch info.gvr.GroupVersion() {
	case custommetrics.SchemeGroupVersion:
		return s.serveCustomMetrics(w, r, info)
	case externalmetrics.SchemeGroupVersion:
		return s.serveExternalMetrics(w, r, info)
	}
	return s.serveResourceMetrics(w, r, info)
}

// metered is one object of metrics.k8s.io, and its cells in a table.
type metered struct {
	object api.Object
	usage  corev1.ResourceList
	window metav1.Duration
}

func (s *Server) serveResourceMetrics(w http.ResponseWriter, r *http.Request, info requestInfo) error {
	neg, err := negotiate(r.Header.Get("Accept"), r.URL.Query(), []string{asTable, asPartial, asPartialList})
	if err != nil {
		return err
	}
	if info.subresource != "" || info.gvr.Resource == "nodes" && info.namespace != "" || info.name != "" && info.gvr.Resource == "pods" && info.namespace == "" {
		return errNoSuchPath()
	}
	_, selector, fieldSelector, err := listOptions(r.URL.Query(), false)
	if err != nil {
		return err
	}
	var all []metered
	list := runtime.Object(&metricsv1beta1.NodeMetricsList{TypeMeta: metav1.TypeMeta{Kind: "NodeMetricsList", APIVersion: info.gvr.GroupVersion().String()}, Items: []metricsv1beta1.NodeMetrics{}})
	switch info.gvr.Resource {
	case "nodes":
		nodes, err := s.cfg.Metrics.NodeMetrics(r.Context(), selector)
		if err != nil {
			return noMetrics(err)
		}
		for i := range nodes {
			all = append(all, metered{&nodes[i], nodes[i].Usage, nodes[i].Window})
		}
	case "pods":
		list = &metricsv1beta1.PodMetricsList{TypeMeta: metav1.TypeMeta{Kind: "PodMetricsList", APIVersion: info.gvr.GroupVersion().String()}, Items: []metricsv1beta1.PodMetrics{}}
		pods, err := s.cfg.Metrics.PodMetrics(r.Context(), info.namespace, selector)
		if err != nil {
			return noMetrics(err)
		}
		for i := range pods {
			all = append(all, metered{&pods[i], podUsage(&pods[i]), pods[i].Window})
		}
	default:
		return errNoSuchPath()
	}
	if info.name != "" {
		all = slices.DeleteFunc(all, func(m metered) bool { return m.object.GetName() != info.name })
		if len(all) == 0 {
			return apierrors.NewNotFound(info.gvr.GroupResource(), info.name)
		}
	}
	if all, err = chosenFields(all, fieldSelector, info.gvr.Resource == "pods"); err != nil {
		return err
	}
	switch {
	case neg.as == asTable:
		table, err := s.metricsTable(all, r.URL.Query())
		if err != nil {
			return err
		}
		return s.writeObject(w, r, http.StatusOK, table, neg)
	case neg.as == asPartial && info.name != "":
		return s.writeObject(w, r, http.StatusOK, partialMetrics(all[0].object), neg)
	case neg.as == asPartialList && info.name == "":
		out := &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{Kind: asPartialList, APIVersion: "meta.k8s.io/v1"}, Items: []metav1.PartialObjectMetadata{}}
		for _, m := range all {
			out.Items = append(out.Items, *partialMetrics(m.object))
		}
		return s.writeObject(w, r, http.StatusOK, out, neg)
	case info.name != "":
		return s.writeObject(w, r, http.StatusOK, all[0].object, neg)
	}
	switch list := list.(type) {
	case *metricsv1beta1.NodeMetricsList:
		for _, m := range all {
			list.Items = append(list.Items, *m.object.(*metricsv1beta1.NodeMetrics))
		}
	case *metricsv1beta1.PodMetricsList:
		for _, m := range all {
			list.Items = append(list.Items, *m.object.(*metricsv1beta1.PodMetrics))
		}
	}
	return s.writeObject(w, r, http.StatusOK, list, neg)
}

// noMetrics is the answer where there is none in time.
func noMetrics(err error) error {
	if _, ok := err.(apierrors.APIStatus); ok {
		return err
	}
	return apierrors.NewServiceUnavailable("the metrics are not available: " + err.Error())
}

// chosenFields keeps what a field selector matches: metrics have a name and a namespace.
func chosenFields(all []metered, selector fields.Selector, namespaced bool) ([]metered, error) {
	if selector == nil {
		return all, nil
	}
	for _, requirement := range selector.Requirements() {
		if requirement.Field != "metadata.name" && (requirement.Field != "metadata.namespace" || !namespaced) {
			return nil, apierrors.NewBadRequest("field label not supported: " + requirement.Field)
		}
	}
	return slices.DeleteFunc(all, func(m metered) bool {
		return !selector.Matches(fields.Set{"metadata.name": m.object.GetName(), "metadata.namespace": m.object.GetNamespace()})
	}), nil
}

func partialMetrics(obj api.Object) *metav1.PartialObjectMetadata {
	out := meta.AsPartialObjectMetadata(obj)
	out.TypeMeta = metav1.TypeMeta{Kind: asPartial, APIVersion: "meta.k8s.io/v1"}
	return out
}

// podUsage is the sum of a pod's containers.
func podUsage(m *metricsv1beta1.PodMetrics) corev1.ResourceList {
	sum := corev1.ResourceList{}
	for _, c := range m.Containers {
		for name, q := range c.Usage {
			total := sum[name]
			total.Add(q)
			sum[name] = total
		}
	}
	return sum
}

// metricsTable shows metrics as metrics-server does: a column for each resource, and the window.
func (s *Server) metricsTable(all []metered, query url.Values) (*metav1.Table, error) {
	t := &metav1.Table{TypeMeta: metav1.TypeMeta{Kind: asTable, APIVersion: "meta.k8s.io/v1"}, Rows: []metav1.TableRow{},
		ColumnDefinitions: []metav1.TableColumnDefinition{
			{Name: "Name", Type: "string", Format: "name", Description: "Name of the resource"},
			{Name: "cpu", Type: "string", Format: "quantity"}, {Name: "memory", Type: "string", Format: "quantity"},
			{Name: "Window", Type: "string", Format: "duration"},
		}}
	for _, m := range all {
		cpu, memory := m.usage[corev1.ResourceCPU], m.usage[corev1.ResourceMemory]
		row := metav1.TableRow{Cells: []any{m.object.GetName(), cpu.String(), memory.String(), m.window.Duration.String()}}
		var shown any
		switch metav1.IncludeObjectPolicy(query.Get(includeObjectParam)) {
		case metav1.IncludeNone:
		case metav1.IncludeObject:
			shown = m.object
		default:
			shown = partialMetrics(m.object)
		}
		if shown != nil {
			raw, err := json.Marshal(shown)
			if err != nil {
				return nil, fmt.Errorf("encode metadata: %w", err)
			}
			row.Object = runtime.RawExtension{Raw: raw}
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

// metricSelectors reads which objects and which series a request is for.
func metricSelectors(query url.Values) (objects, series labels.Selector, err error) {
	parse := func(name string) labels.Selector {
		text := query.Get(name)
		if text == "" || err != nil {
			return nil
		}
		selector, bad := labels.Parse(text)
		if bad != nil {
			err = apierrors.NewBadRequest(fmt.Sprintf("unable to parse %s: %v", name, bad))
			return nil
		}
		return selector
	}
	return parse("labelSelector"), parse("metricLabelSelector"), err
}

// serveCustomMetrics serves RESOURCE[.GROUP]/NAME/METRIC, where the name * means those that labelSelector matches, and
// metrics/METRIC of a namespace.
func (s *Server) serveCustomMetrics(w http.ResponseWriter, r *http.Request, info requestInfo) error {
	neg, err := negotiate(r.Header.Get("Accept"), r.URL.Query(), nil)
	if err != nil {
		return err
	}
	objects, series, err := metricSelectors(r.URL.Query())
	if err != nil {
		return err
	}
	q := api.CustomMetricQuery{Resource: schema.ParseGroupResource(info.gvr.Resource), Namespace: info.namespace, Name: info.name, Metric: info.subresource, Objects: objects, Selector: series}
	if info.namespace != "" && info.gvr.Resource == "metrics" && info.subresource == "" { // of the namespace itself
		q.Resource, q.Name, q.Metric = corev1.Resource("namespaces"), info.namespace, info.name
	}
	if q.Metric == "" || q.Name == "" || strings.Contains(info.rest, "/") {
		return errNoSuchPath()
	}
	if q.Name == "*" {
		q.Name = ""
	}
	values, err := s.cfg.Metrics.CustomValues(r.Context(), q)
	if err != nil {
		return noMetrics(err)
	}
	return s.writeObject(w, r, http.StatusOK, &custommetrics.MetricValueList{
		TypeMeta: metav1.TypeMeta{Kind: "MetricValueList", APIVersion: custommetrics.SchemeGroupVersion.String()}, Items: values}, neg)
}

// serveExternalMetrics serves namespaces/NAMESPACE/METRIC; labelSelector chooses series.
func (s *Server) serveExternalMetrics(w http.ResponseWriter, r *http.Request, info requestInfo) error {
	neg, err := negotiate(r.Header.Get("Accept"), r.URL.Query(), nil)
	if err != nil {
		return err
	}
	if info.namespace == "" || info.name != "" {
		return errNoSuchPath()
	}
	series, _, err := metricSelectors(r.URL.Query())
	if err != nil {
		return err
	}
	values, err := s.cfg.Metrics.ExternalValues(r.Context(), info.namespace, info.gvr.Resource, series)
	if err != nil {
		return noMetrics(err)
	}
	return s.writeObject(w, r, http.StatusOK, &externalmetrics.ExternalMetricValueList{
		TypeMeta: metav1.TypeMeta{Kind: "ExternalMetricValueList", APIVersion: externalmetrics.SchemeGroupVersion.String()}, Items: values}, neg)
}
