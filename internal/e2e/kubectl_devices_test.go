package e2e

import "testing"

// What a person does with groups, queues and devices: make, look, wait, remove.
func TestKubectlHandlesGroupsQueuesAndDevices(t *testing.T) {
	t.Parallel()
	k := startForKubectl(t)
	const (
		node  = `{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {kubernetes.io/hostname: n1}}}`
		slice = `
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: n1-gpus}
spec:
  driver: gpu.example.com
  nodeName: n1
  pool: {name: n1, generation: 1, resourceSliceCount: 1}
  devices:
  - {name: gpu-0, attributes: {model: {string: A100}, index: {int: 0}}, capacity: {memory: {value: 80Gi}}}
  - {name: gpu-1, attributes: {model: {string: A100}, index: {int: 1}}, capacity: {memory: {value: 80Gi}}}`
		class    = `{apiVersion: resource.k8s.io/v1, kind: DeviceClass, metadata: {name: gpu.example.com}, spec: {selectors: [{cel: {expression: "device.driver == 'gpu.example.com'"}}]}}`
		claim    = `{apiVersion: resource.k8s.io/v1, kind: ResourceClaim, metadata: {name: one}, spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu.example.com, selectors: [{cel: {expression: "device.attributes['gpu.example.com'].index == 1"}}]}}]}}}`
		template = `{apiVersion: resource.k8s.io/v1, kind: ResourceClaimTemplate, metadata: {name: each}, spec: {spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu.example.com}}]}}}}`
		pods     = `
apiVersion: v1
kind: Pod
metadata: {name: named}
spec:
  resourceClaims: [{name: mine, resourceClaimName: one}]
  containers: [{name: c, image: x, resources: {claims: [{name: mine}]}}]
---
apiVersion: v1
kind: Pod
metadata: {name: made}
spec:
  resourceClaims: [{name: mine, resourceClaimTemplateName: each}]
  containers: [{name: c, image: x, resources: {claims: [{name: mine}]}}]`
		group  = `{apiVersion: scheduling.k8s.io/v1beta1, kind: PodGroup, metadata: {name: train}, spec: {schedulingPolicy: {gang: {minCount: 3}}}}`
		queue  = `{apiVersion: scheduling.pintle.dev/v1alpha1, kind: Queue, metadata: {name: team}, spec: {cohort: all, weight: 2, nominalQuota: {cpu: "4"}}}`
		member = `
apiVersion: v1
kind: Pod
metadata: {name: worker-0}
spec: {schedulingGroup: {podGroupName: train}, containers: [{name: c, image: x, resources: {requests: {cpu: "1"}}}]}`
	)
	k.steps([]step{
		with(node, does("create -f -", "node/n1 created")),
		does(`patch node n1 --subresource=status --type=merge -p '{"status":{"capacity":{"cpu":"8","memory":"8Gi","pods":"110"},"allocatable":{"cpu":"8","memory":"8Gi","pods":"110"},"conditions":[{"type":"Ready","status":"True","reason":"KubeletReady"}]}}'`, "patched"),

		// Devices.
		with(slice, does("create -f -", "resourceslice.resource.k8s.io/n1-gpus created")),
		with(class, does("create -f -", "deviceclass.resource.k8s.io/gpu.example.com created")),
		with(claim, does("create -f -", "resourceclaim.resource.k8s.io/one created")),
		with(template, does("create -f -", "resourceclaimtemplate.resource.k8s.io/each created")),
		does("get resourceslices", "NAME", "NODE", "DRIVER", "POOL", "AGE", "n1-gpus", "gpu.example.com"),
		does("get resourceslices --field-selector spec.nodeName=n1 -o name", "resourceslice.resource.k8s.io/n1-gpus"),
		does("get deviceclasses", "NAME", "AGE", "gpu.example.com"),
		does("get resourceclaims", "NAME", "STATE", "AGE", "pending"),
		does("get resourceclaimtemplates", "NAME", "AGE", "each"),
		does("describe resourceslice n1-gpus", "Driver:", "gpu.example.com", "gpu-0"),
		does("describe deviceclass gpu.example.com", "Expression:", "device.driver"),
		does("describe resourceclaim one", "Device Class Name:", "gpu.example.com"),
		does("explain resourceclaim.spec.devices.requests", "FIELD: requests <[]DeviceRequest>", "firstAvailable"),
		does("explain resourceslice.spec.pool", "generation"),
		does("explain deviceclass", "GROUP:      resource.k8s.io"),
		does("explain resourceclaimtemplate.spec.spec", "devices"),
		with(pods, does("create -f -", "pod/named created", "pod/made created")),
		does("wait --for=condition=PodScheduled pod/named pod/made --timeout=20s", "condition met"),
		does("get resourceclaim one", "allocated,reserved"),
		does("get resourceclaim one -o jsonpath={.status.allocation.devices.results[0].device}", "gpu-1"),
		does("get resourceclaims -o jsonpath={.items[*].status.reservedFor[0].name}", "named", "made"),
		refuses("patch resourceclaim one --type=merge -p '{\"spec\":{\"devices\":{\"requests\":[]}}}'", "is invalid"),
		refuses("patch resourceclaimtemplate each --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/spec/devices/requests/0/name\",\"value\":\"x\"}]'", "field is immutable"),
		with(`{apiVersion: resource.k8s.io/v1, kind: ResourceClaim, metadata: {name: bad}, spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: c, selectors: [{cel: {expression: "device.nothing"}}]}}]}}}`,
			refuses("create -f -", "undefined field 'nothing'")),
		with(`{apiVersion: resource.k8s.io/v1alpha3, kind: DeviceTaintRule, metadata: {name: rule}, spec: {taint: {key: k, effect: NoExecute}}}`,
			refuses("create -f -", `no matches for kind "DeviceTaintRule"`)),
		// A driver finds that a device must be left: the pod that has it is ended.
		does(`patch resourceslice n1-gpus --type=json -p '[{"op":"add","path":"/spec/devices/1/taints","value":[{"key":"broken","effect":"NoExecute"}]}]'`, "patched"),
		does("get resourceslice n1-gpus -o jsonpath={.spec.devices[1].taints[0].timeAdded}", "20"),
		does("wait --for=jsonpath={.metadata.deletionTimestamp} pod/named --timeout=20s", "condition met"),
		does("get pod named -o jsonpath={.status.conditions[?(@.type==\"DisruptionTarget\")].reason}", "DeletionByDeviceTaintManager"),
		does("wait --for=jsonpath={.reason}=DeviceTaintManagerEviction event --field-selector involvedObject.name=named,reason=DeviceTaintManagerEviction --timeout=20s", "condition met"),
		does("get pod made -o jsonpath={.metadata.deletionTimestamp}x", "x"),
		does("delete pod named made --force --grace-period=0", "force deleted"),
		does("delete resourceclaim one --wait=false", "deleted"),
		does("wait --for=delete resourceclaim/one --timeout=20s"),
		does("delete resourceclaimtemplate each", "deleted"),
		does("delete resourceslice n1-gpus", "deleted"),
		does("delete deviceclass gpu.example.com", "deleted"),

		// Groups and queues.
		with(group, does("create -f -", "podgroup.scheduling.k8s.io/train created")),
		with(queue, does("create -f -", "queue.scheduling.pintle.dev/team created")),
		does("get podgroups", "NAME", "AGE", "train"),
		does("get podgroup train -o yaml", "minCount: 3"),
		does("get queues", "NAME", "COHORT", "team", "all"),
		does("describe podgroup train", "Min Count:", "3"),
		does("describe queue team", "Nominal Quota:", "Cpu:"),
		does("explain podgroup.spec.schedulingPolicy", "gang"),
		does("explain queue.spec", "nominalQuota", "cohort"),
		with(member, does("create -f -", "pod/worker-0 created")),
		does("wait --for=condition=PodScheduled=false pod/worker-0 --timeout=20s", "condition met"),
		does("describe pod worker-0", "FailedScheduling", "gang train: 1 of 3 pods have come"),
		does("wait --for=condition=PodGroupInitiallyScheduled=false podgroup/train --timeout=20s", "condition met"),
		does("get --raw /api/v1/namespaces/default/pods/worker-0/scheduling", `"name": "train"`, `"min": 3`, "gang train: 1 of 3 pods have come"),
		refuses(`patch podgroup train --type=merge -p '{"spec":{"schedulingPolicy":{"gang":{"minCount":0}}}}'`, "is invalid"),
		does("delete pod worker-0 --force --grace-period=0", "force deleted"),
		does("delete podgroup train", "deleted"),
		does("delete queue team", "deleted"),
		does("get podgroups,queues", "No resources found"),
	})
}
