package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func kindNamed(name string) *Kind {
	return All()[slices.IndexFunc(All(), func(k *Kind) bool { return k.GroupVersionKind.Kind == name })]
}

func listText(list corev1.ResourceList) string {
	var parts []string
	for name, q := range inOrder(list) {
		parts = append(parts, fmt.Sprintf("%s=%s", name, q.String()))
	}
	return strings.Join(parts, " ")
}

func TestQuotaUsageCountsAsKubernetesDoes(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct{ kind, object, want string }{
		"a pod": {"Pod", `{spec: {containers: [{resources: {requests: {cpu: 100m, nvidia.com/gpu: 2}, limits: {cpu: 200m, memory: 1Gi, nvidia.com/gpu: 2}}}, {resources: {requests: {cpu: 1}}}]}}`,
			"count/pods=1 cpu=1100m limits.cpu=200m limits.memory=1Gi pods=1 requests.cpu=1100m requests.nvidia.com/gpu=2"},
		"an init container that needs more": {"Pod", `{spec: {initContainers: [{resources: {requests: {memory: 2Gi}}}], containers: [{resources: {requests: {memory: 1Gi}}}]}}`,
			"count/pods=1 memory=2Gi pods=1 requests.memory=2Gi"},
		"one that has ended":             {"Pod", `{spec: {containers: [{resources: {requests: {cpu: 1}}}]}, status: {phase: Failed}}`, "count/pods=1"},
		"one that should have ended":     {"Pod", `{metadata: {deletionTimestamp: "2025-12-31T23:59:00Z", deletionGracePeriodSeconds: 30}, spec: {containers: [{}]}}`, "count/pods=1"},
		"one that may take a while yet":  {"Pod", `{metadata: {deletionTimestamp: "2026-01-01T00:00:10Z", deletionGracePeriodSeconds: 30}, spec: {containers: [{}]}}`, "count/pods=1 pods=1"},
		"a service":                      {"Service", `{spec: {type: ClusterIP, ports: [{port: 1}]}}`, "count/services=1 services=1 services.nodeports=0"},
		"a load balancer":                {"Service", `{spec: {type: LoadBalancer, ports: [{port: 1}, {port: 2}]}}`, "count/services=1 services=1 services.loadbalancers=1 services.nodeports=2"},
		"one without node ports":         {"Service", `{spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 1}]}}`, "count/services=1 services=1 services.loadbalancers=1 services.nodeports=0"},
		"a config map":                   {"ConfigMap", `{}`, "configmaps=1 count/configmaps=1"},
		"a deployment":                   {"Deployment", `{}`, "count/deployments.apps=1"},
		"a claim of devices":             {"ResourceClaim", `{spec: {devices: {requests: [{name: a, exactly: {deviceClassName: gpu, count: 2}}, {name: b, firstAvailable: [{deviceClassName: gpu, count: 1}, {deviceClassName: fpga, count: 3}]}]}}}`, "count/resourceclaims.resource.k8s.io=1 fpga.deviceclass.resource.k8s.io/devices=3 gpu.deviceclass.resource.k8s.io/devices=3"},
		"a claim of all devices of kind": {"ResourceClaim", `{spec: {devices: {requests: [{name: a, exactly: {deviceClassName: gpu, allocationMode: All}}]}}}`, "count/resourceclaims.resource.k8s.io=1 gpu.deviceclass.resource.k8s.io/devices=32"},
	} {
		k := kindNamed(c.kind)
		if got := listText(QuotaUsage(k.GVR().GroupResource(), decode(t, k, c.object), now)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	claim := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: ptr("gold"),
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: *one()}}}}
	want := "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/requests.storage=1 persistentvolumeclaims=1 requests.storage=1"
	if got := listText(QuotaUsage(schema.GroupResource{Resource: "persistentvolumeclaims"}, claim, now)); got != want {
		t.Errorf("a claim: %s", got)
	}
}

func TestQuotaScopes(t *testing.T) {
	for name, c := range map[string]struct {
		quota, pod string
		want       bool
	}{
		"no scope":                        {`{}`, `{}`, true},
		"a class of the list":             {`{scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [high, low]}]}}`, `{priorityClassName: high}`, true},
		"a class outside it":              {`{scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [high]}]}}`, `{priorityClassName: low}`, false},
		"no class isn't that class":       {`{scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: NotIn, values: [high]}]}}`, `{}`, true},
		"any class":                       {`{scopes: [PriorityClass]}`, `{}`, false},
		"affinity to other namespaces":    {`{scopes: [CrossNamespacePodAffinity]}`, `{affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: a, namespaceSelector: {}}}]}}}`, true},
		"affinity within one's own":       {`{scopes: [CrossNamespacePodAffinity]}`, `{affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a}]}}}`, false},
		"both scopes of a list must hold": {`{scopes: [Terminating, NotBestEffort]}`, `{activeDeadlineSeconds: 5, containers: [{name: c}]}`, false},
	} {
		q := decode(t, kindNamed("ResourceQuota"), `{spec: `+c.quota+`}`).(*corev1.ResourceQuota)
		if got := QuotaMatches(q, decode(t, kindNamed("Pod"), `{spec: `+c.pod+`}`)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestOddQuotasAndLimitRangesAreRefused(t *testing.T) {
	for _, c := range []struct{ kind, spec, want string }{
		{"ResourceQuota", `{hard: {pods: -1}}`, `spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0`},
		{"ResourceQuota", `{hard: {pods: 500m}}`, `spec.hard[pods]: Invalid value: "500m": must be an integer`},
		{"ResourceQuota", `{hard: {limits.gpu: 1}}`, `spec.hard[limits.gpu]: Invalid value: "limits.gpu": must be a standard resource for quota`},
		{"ResourceQuota", `{hard: {count/jobs.batch: 1, requests.nvidia.com/gpu: 1, hugepages-2Mi: 1Gi, gold.storageclass.storage.k8s.io/requests.storage: 1500m}}`, ``},
		{"ResourceQuota", `{hard: {requests.cpu: 1}, scopes: [BestEffort]}`, `spec.scopes[0]: Invalid value: "BestEffort": unsupported scope applied to resource`},
		{"ResourceQuota", `{hard: {pods: 1}, scopes: [BestEffort, NotBestEffort]}`, `spec.scopes[1]: Invalid value: "NotBestEffort": conflicting scopes`},
		{"ResourceQuota", `{hard: {pods: 1}, scopes: [Odd]}`, `spec.scopes[0]: Invalid value: "Odd": unsupported scope`},
		{"ResourceQuota", `{hard: {pods: 1}, scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In}]}}`,
			"spec.scopeSelector.matchExpressions[0].values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"},
		{"LimitRange", `{limits: [{type: Pod, default: {cpu: 1}}]}`, "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"},
		{"LimitRange", `{limits: [{type: PersistentVolumeClaim}]}`, "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided"},
		{"LimitRange", `{limits: [{type: Container, min: {cpu: 2}, max: {cpu: 2}}, {type: Container}]}`, `spec.limits[1].type: Duplicate value: "Container"`},
		{"LimitRange", `{limits: [{type: Pod, min: {cpu: 2}, max: {cpu: 1}}]}`, `spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1`},
		{"LimitRange", `{limits: [{type: Pod, maxLimitRequestRatio: {cpu: 500m}}]}`, `spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1`},
	} {
		k := kindNamed(c.kind)
		var want []string
		if c.want != "" {
			want = []string{c.want}
		}
		wantErrors(t, problems(k, made(k, decode(t, k, `{metadata: {name: x, namespace: n}, spec: `+c.spec+`}`))), want...)
	}
}
