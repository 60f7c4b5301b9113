package apiserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	custommetrics "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalmetrics "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/pintle/pintle/orchestrator/api"
)

// someMetrics has two nodes and two pods; its custom and external values say what was asked.
type someMetrics struct{}

func use(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func (someMetrics) NodeMetrics(_ context.Context, selector labels.Selector) (out []metricsv1beta1.NodeMetrics, _ error) {
	for _, name := range []string{"a", "b"} {
		l := labels.Set{"name": name}
		if selector == nil || selector.Matches(l) {
			out = append(out, metricsv1beta1.NodeMetrics{TypeMeta: metav1.TypeMeta{Kind: "NodeMetrics", APIVersion: "metrics.k8s.io/v1beta1"},
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: l}, Usage: use("250m", "1Gi"), Window: metav1.Duration{Duration: 15 * time.Second}})
		}
	}
	return out, nil
}

func (someMetrics) PodMetrics(_ context.Context, namespace string, _ labels.Selector) ([]metricsv1beta1.PodMetrics, error) {
	if namespace == "slow" {
		return nil, errors.New("nobody answers")
	}
	return []metricsv1beta1.PodMetrics{{TypeMeta: metav1.TypeMeta{Kind: "PodMetrics", APIVersion: "metrics.k8s.io/v1beta1"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"},
		Containers: []metricsv1beta1.ContainerMetrics{{Name: "c", Usage: use("1", "1Mi")}, {Name: "d", Usage: use("500m", "2Mi")}}, Window: metav1.Duration{Duration: 15 * time.Second}}}, nil
}

func (someMetrics) CustomMetrics() []api.CustomMetric {
	return []api.CustomMetric{{Resource: corev1.Resource("pods"), Namespaced: true, Name: "hits"}}
}

func (someMetrics) CustomValues(_ context.Context, q api.CustomMetricQuery) ([]custommetrics.MetricValue, error) {
	asked := fmt.Sprint(q.Resource, " ", q.Namespace, "/", q.Name, " ", q.Metric)
	if q.Objects != nil {
		asked += " of " + q.Objects.String()
	}
	if q.Selector != nil {
		asked += " where " + q.Selector.String()
	}
	return []custommetrics.MetricValue{{Metric: custommetrics.MetricIdentifier{Name: asked}, Value: resource.MustParse("3")}}, nil
}

func (someMetrics) ExternalMetrics() []string { return []string{"queue"} }

func (someMetrics) ExternalValues(_ context.Context, namespace, metric string, selector labels.Selector) ([]externalmetrics.ExternalMetricValue, error) {
	if metric != "queue" {
		return nil, apierrors.NewNotFound(externalmetrics.SchemeGroupVersion.WithResource(metric).GroupResource(), "")
	}
	return []externalmetrics.ExternalMetricValue{{MetricName: fmt.Sprint(namespace, " ", metric, " ", selector), Value: resource.MustParse("4")}}, nil
}

func TestMetricsAreServedAndNotStored(t *testing.T) {
	c := start(t, options{metrics: someMetrics{}})
	const table = "application/json;as=Table;v=v1;g=meta.k8s.io"
	for _, tt := range []struct{ path, accept, want string }{
		{"/apis/metrics.k8s.io/v1beta1/nodes", "", `"kind":"NodeMetricsList"`},
		{"/apis/metrics.k8s.io/v1beta1/nodes?labelSelector=name%3Db", "", `"items":[{"kind":"NodeMetrics","apiVersion":"metrics.k8s.io/v1beta1","metadata":{"name":"b"`},
		{"/apis/metrics.k8s.io/v1beta1/nodes?fieldSelector=metadata.name%3Da", "", `"name":"a"`},
		{"/apis/metrics.k8s.io/v1beta1/nodes?fieldSelector=spec.x%3Da", "", "field label not supported: spec.x"},
		{"/apis/metrics.k8s.io/v1beta1/nodes/a", "", `"window":"15s","usage":{"cpu":"250m","memory":"1Gi"}`},
		{"/apis/metrics.k8s.io/v1beta1/nodes/c", "", `nodes.metrics.k8s.io \"c\" not found`},
		{"/apis/metrics.k8s.io/v1beta1/nodes", table, `"cells":["a","250m","1Gi","15s"]`},
		{"/apis/metrics.k8s.io/v1beta1/namespaces/default/pods", table, `"cells":["p","1500m","3Mi","15s"]`},
		{"/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/p", "", `"containers":[{"name":"c","usage":{"cpu":"1","memory":"1Mi"}}`},
		{"/apis/metrics.k8s.io/v1beta1/namespaces/slow/pods", "", "nobody answers"},
		{"/apis/metrics.k8s.io/v1beta1/nodes?watch=1", "", "the server does not allow this method on the requested resource"},
		{"/apis/metrics.k8s.io/v1beta1/services", "", "the server could not find the requested resource"},
		{"/apis/metrics.k8s.io/v1beta1", "", `"name":"pods","singularName":"","namespaced":true,"kind":"PodMetrics","verbs":["get","list"]`},
		{"/apis/custom.metrics.k8s.io/v1beta2", "", `"name":"pods/hits","singularName":"","namespaced":true,"kind":"MetricValueList","verbs":["get"]`},
		{"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/*/hits?labelSelector=app%3Da&metricLabelSelector=code%3D500", "", `"name":"pods default/ hits of app=a where code=500"`},
		{"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/p/hits", "", `"name":"pods default/p hits"`},
		{"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/deployments.apps/d/hits", "", `"name":"deployments.apps default/d hits"`},
		{"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/metrics/hits", "", `"name":"namespaces default/default hits"`},
		{"/apis/custom.metrics.k8s.io/v1beta2/nodes/a/heat", "", `"name":"nodes /a heat"`},
		{"/apis/custom.metrics.k8s.io/v1beta2/nodes", "", "the server could not find the requested resource"},
		{"/apis/external.metrics.k8s.io/v1beta1", "", `"name":"queue"`},
		{"/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue?labelSelector=q%3D1", "", `"metricName":"default queue q=1"`},
		{"/apis/external.metrics.k8s.io/v1beta1/namespaces/default/other", "", `"reason":"NotFound"`},
		{"/apis", "application/json;v=v2;g=apidiscovery.k8s.io;as=APIGroupDiscoveryList", `"resource":"pods/hits"`},
		{"/apis", "", `"name":"external.metrics.k8s.io"`},
	} {
		request := c.admin().CoreV1().RESTClient().Get().RequestURI(tt.path)
		if tt.accept != "" {
			request.SetHeader("Accept", tt.accept)
		} else {
			request.SetHeader("Accept", "application/json")
		}
		raw, err := request.DoRaw(t.Context())
		if text := string(raw) + fmt.Sprint(err); !strings.Contains(text, tt.want) {
			t.Errorf("%s: no %q in\n%s", tt.path, tt.want, text)
		}
	}
	raw, err := c.admin().CoreV1().RESTClient().Get().RequestURI("/apis/metrics.k8s.io/v1beta1/nodes").SetHeader("Accept", "application/vnd.kubernetes.protobuf").DoRaw(t.Context())
	if err != nil || !strings.HasPrefix(string(raw), "k8s\x00") && !strings.HasPrefix(string(raw), "{") {
		t.Errorf("a client that prefers protobuf: %q %v", raw, err)
	}
	if _, err := c.admin().CoreV1().RESTClient().Delete().RequestURI("/apis/metrics.k8s.io/v1beta1/nodes/a").DoRaw(t.Context()); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("deleting what isn't stored: %v", err)
	}
}

// Old clients and new ones write the same autoscaler, and server-side apply keeps their fields apart.
func TestAutoscalersAreOneObjectInTwoVersions(t *testing.T) {
	c := start(t, options{})
	admin, ctx := c.admin(), t.Context()
	const path = "/apis/autoscaling/%s/namespaces/default/horizontalpodautoscalers/h?fieldManager=%s"
	apply := func(version, manager, body string) (string, error) {
		raw, err := admin.CoreV1().RESTClient().Patch(types.ApplyPatchType).RequestURI(fmt.Sprintf(path, version, manager)).Body([]byte(body)).DoRaw(ctx)
		return string(raw), err
	}
	out, err := apply("v1", "old", `{"apiVersion":"autoscaling/v1","kind":"HorizontalPodAutoscaler","metadata":{"name":"h"},"spec":{"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"d"},"maxReplicas":5,"targetCPUUtilizationPercentage":50}}`)
	if err != nil || !strings.Contains(out, `"targetCPUUtilizationPercentage":50`) {
		t.Fatal(out, err)
	}
	h, err := admin.AutoscalingV2().HorizontalPodAutoscalers("default").Get(ctx, "h", metav1.GetOptions{})
	if err != nil || *h.Spec.Metrics[0].Resource.Target.AverageUtilization != 50 || h.Spec.MaxReplicas != 5 {
		t.Fatal(h, err)
	}
	if out, err = apply("v2", "new", `{"apiVersion":"autoscaling/v2","kind":"HorizontalPodAutoscaler","metadata":{"name":"h"},"spec":{"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"d"},"maxReplicas":7}}`); !apierrors.IsConflict(err) {
		t.Errorf("two managers want two sizes: %s %v", out, err)
	}
	if out, err = apply("v1", "old", `{"apiVersion":"autoscaling/v1","kind":"HorizontalPodAutoscaler","metadata":{"name":"h"},"spec":{"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"d"},"maxReplicas":6,"targetCPUUtilizationPercentage":60}}`); err != nil || !strings.Contains(out, `"maxReplicas":6`) {
		t.Errorf("%s %v", out, err)
	}
	v1, err := admin.AutoscalingV1().HorizontalPodAutoscalers("default").List(ctx, metav1.ListOptions{})
	if err != nil || len(v1.Items) != 1 || *v1.Items[0].Spec.TargetCPUUtilizationPercentage != 60 {
		t.Errorf("%+v %v", v1, err)
	}
}
