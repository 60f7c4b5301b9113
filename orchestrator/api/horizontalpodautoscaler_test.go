package api

import (
	"strings"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
)

func TestAutoscalersThatCannotWorkAreRefused(t *testing.T) {
	const ref = `scaleTargetRef: {kind: Deployment, name: d, apiVersion: apps/v1}, `
	const cpu = `{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}`
	const queue = `{type: External, external: {metric: {name: q}, target: {type: AverageValue, averageValue: 5}}}`
	for spec, want := range map[string]string{
		ref + `minReplicas: 0, maxReplicas: 3, metrics: [` + queue + `]`:                 "",
		ref + `minReplicas: 0, maxReplicas: 3, metrics: [` + cpu + `]`:                   "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
		ref + `minReplicas: -1, maxReplicas: 3`:                                          "spec.minReplicas: Invalid value: -1: must be greater than or equal to 0",
		ref + `maxReplicas: 0`:                                                           "spec.maxReplicas: Invalid value: 0: must be greater than 0",
		ref + `minReplicas: 5, maxReplicas: 3`:                                           "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
		`scaleTargetRef: {kind: Deployment}, maxReplicas: 3`:                             "spec.scaleTargetRef.name: Required value",
		`scaleTargetRef: {name: "a/b", kind: Deployment}, maxReplicas: 3`:                "spec.scaleTargetRef.name: Invalid value",
		`scaleTargetRef: {name: d, kind: Deployment, apiVersion: a/b/c}, maxReplicas: 3`: "spec.scaleTargetRef.apiVersion: Invalid value",
		ref + `maxReplicas: 3, metrics: [{type: Resource}]`:                              "spec.metrics[0].resource: Required value: must populate information for the given metric source",
		ref + `maxReplicas: 3, metrics: [{type: Pods, resource: {name: cpu, target: {type: Utilization, averageUtilization: 5}}, pods: {metric: {name: m}, target: {type: AverageValue, averageValue: 1}}}]`: "spec.metrics[0].resource: Forbidden: must populate the given metric source only",
		ref + `maxReplicas: 3, metrics: [{type: Magic}]`: "spec.metrics[0].type: Unsupported value",
		ref + `maxReplicas: 3, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 0}}}]`:                   "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
		ref + `maxReplicas: 3, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization}}}]`:                                          "must set either a target raw value or a target utilization",
		ref + `maxReplicas: 3, metrics: [{type: Pods, pods: {metric: {name: m}, target: {type: Value, value: 1}}}]`:                                      "must specify a positive target averageValue",
		ref + `maxReplicas: 3, metrics: [{type: ContainerResource, containerResource: {name: cpu, target: {type: Utilization, averageUtilization: 5}}}]`: "must specify a container",
		ref + `maxReplicas: 3, metrics: [{type: External, external: {metric: {name: m}, target: {type: Value, value: -1}}}]`:                             "target.value: Invalid value: \"-1\": must be positive",
		ref + `maxReplicas: 3, behavior: {scaleDown: {stabilizationWindowSeconds: 3601}}`:                                                                "must be less than or equal to 3600",
		ref + `maxReplicas: 3, behavior: {scaleUp: {policies: []}}`:                                                                                      "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
		ref + `maxReplicas: 3, behavior: {scaleUp: {policies: [{type: Pods, value: 0, periodSeconds: 1801}]}}`:                                           "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
		ref + `maxReplicas: 3, behavior: {scaleUp: {selectPolicy: Some}}`:                                                                                "spec.behavior.scaleUp.selectPolicy: Unsupported value",
		ref + `maxReplicas: 3, behavior: {scaleUp: {tolerance: "-0.1"}}`:                                                                                 "spec.behavior.scaleUp.tolerance: Invalid value",
	} {
		k := horizontalPodAutoscalerKind()
		errs := problems(k, made(k, decode(t, k, `{metadata: {name: x}, spec: {`+spec+`}}`)))
		text := ""
		if err := errs.ToAggregate(); err != nil {
			text = err.Error()
		}
		if want == "" && text != "" || !strings.Contains(text, want) {
			t.Errorf("%s\nsays %q, not %q", spec, text, want)
		}
	}
}

func TestAutoscalersSurviveTheirOlderForm(t *testing.T) {
	k := horizontalPodAutoscalerKind()
	full := made(k, decode(t, k, `{metadata: {name: x, annotations: {mine: "1"}}, spec: {scaleTargetRef: {kind: Deployment, name: d, apiVersion: apps/v1}, minReplicas: 2, maxReplicas: 9, behavior: {scaleDown: {stabilizationWindowSeconds: 7}}, metrics: [
		{type: Object, object: {metric: {name: m, selector: {matchLabels: {a: b}}}, describedObject: {kind: Ingress, name: i}, target: {type: Value, value: 5}}},
		{type: Pods, pods: {metric: {name: m}, target: {type: AverageValue, averageValue: 5}}},
		{type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}},
		{type: ContainerResource, containerResource: {name: cpu, container: c, target: {type: Utilization, averageUtilization: 5}}},
		{type: External, external: {metric: {name: m}, target: {type: AverageValue, averageValue: 5}}},
		{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}}`)).(*autoscalingv2.HorizontalPodAutoscaler)
	status := decode(t, k, `{status: {currentReplicas: 3, desiredReplicas: 4, currentMetrics: [{type: Resource, resource: {name: cpu, current: {averageValue: 3, averageUtilization: 60}}}],
		conditions: [{type: AbleToScale, status: "True", reason: R, message: m, lastTransitionTime: "2026-01-01T00:00:00Z"}]}}`).(*autoscalingv2.HorizontalPodAutoscaler)
	full.Status = status.Status
	before := full.DeepCopy()
	old, err := hpaToV1(full)
	if err != nil {
		t.Fatal(err)
	}
	if old.Spec.TargetCPUUtilizationPercentage == nil || *old.Spec.TargetCPUUtilizationPercentage != 50 || *old.Status.CurrentCPUUtilizationPercentage != 60 || old.Annotations["mine"] != "1" ||
		!strings.Contains(old.Annotations[annotationHPAMetrics], `"targetAverageValue":"1Gi"`) || !strings.Contains(old.Annotations[annotationHPAConditions], `"AbleToScale"`) {
		t.Errorf("%+v", old)
	}
	back, err := hpaToV2(old)
	if err != nil {
		t.Fatal(err)
	}
	if !apiequality.Semantic.DeepEqual(full, before) {
		t.Error("the conversion changes what it reads")
	}
	if !apiequality.Semantic.DeepEqual(back, full) {
		t.Errorf("there and back:\n%+v\n%+v", full, back)
	}
	old.Annotations[annotationHPAMetrics] = "{"
	if _, err := hpaToV2(old); err == nil {
		t.Error("an annotation that can't be read is taken")
	}
	if stored, err := hpaToV2(&autoscalingv1.HorizontalPodAutoscaler{}); err != nil || len(made(k, stored).(*autoscalingv2.HorizontalPodAutoscaler).Spec.Metrics) != 1 {
		t.Errorf("without a target there is one of the CPU: %+v %v", stored, err)
	}
}
