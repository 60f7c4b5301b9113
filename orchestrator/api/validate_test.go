package api

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// pod makes a pod of one container with these further fields.
func podWith(container, spec string) string {
	return `{metadata: {name: x}, spec: {containers: [{name: c, image: i` + container + `}]` + spec + `}}`
}

func TestProblemsAreToldInKubernetesWords(t *testing.T) {
	tests := []struct {
		name, kind, object string
		want               []string
	}{
		{"no containers", "Pod", `{metadata: {name: x}, spec: {containers: []}}`, []string{`spec.containers: Required value`}},
		{"no image", "Pod", `{metadata: {name: x}, spec: {containers: [{name: c}]}}`, []string{`spec.containers[0].image: Required value`}},
		{"a name twice", "Pod", `{metadata: {name: x}, spec: {containers: [{name: c, image: i}, {name: c, image: i}]}}`, []string{`spec.containers[1].name: Duplicate value: "c"`}},
		{"a bad name", "Pod", `{metadata: {name: x}, spec: {containers: [{name: C_, image: i}]}}`,
			[]string{`spec.containers[0].name: Invalid value: "C_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`}},
		{"an unknown policy", "Pod", podWith("", ", restartPolicy: Sometimes"), []string{`spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"`}},
		{"a mount of nothing", "Pod", podWith(", volumeMounts: [{name: v, mountPath: /v}]", ""), []string{`spec.containers[0].volumeMounts[0].name: Not found: "v"`}},
		{"a volume from a claim", "Pod", podWith("", ", volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]"), nil},
		{"a volume of a file server", "Pod", podWith("", ", volumes: [{name: v, nfs: {server: s, path: /}}]"),
			[]string{`spec.volumes[0].nfs: Forbidden: not supported by Pintle: use emptyDir, hostPath, configMap, secret, downwardAPI, projected, or a persistentVolumeClaim`}},
		{"a request over its limit", "Pod", podWith(", resources: {requests: {cpu: 2}, limits: {cpu: 1}}", ""),
			[]string{`spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`}},
		{"a port out of range", "Pod", podWith(", ports: [{containerPort: 70000}]", ""),
			[]string{`spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive`}},
		{"a probe without a handler", "Pod", podWith(", livenessProbe: {}", ""), []string{`spec.containers[0].livenessProbe: Required value: must specify a handler type`}},
		{"a liveness probe of two successes", "Pod", podWith(", livenessProbe: {successThreshold: 2, exec: {command: [x]}}", ""),
			[]string{`spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1`}},
		{"shared processes", "Pod", podWith("", ", shareProcessNamespace: true"),
			[]string{`spec.shareProcessNamespace: Forbidden: not supported by Pintle: no process of the node's would hold the namespace; run the processes in one container`}},
		{"processes kept apart", "Pod", podWith("", ", shareProcessNamespace: false"), nil},
		{"a hook that Kubernetes would fail", "Pod", podWith(", lifecycle: {preStop: {tcpSocket: {port: 1}}}", ""),
			[]string{`spec.containers[0].lifecycle.preStop.tcpSocket: Forbidden: not supported by Pintle: Kubernetes fails such hooks when they are due; use exec, httpGet or sleep`}},
		{"an image's name without end", "Pod", `{metadata: {name: x}, spec: {containers: [{name: c, image: '` + strings.Repeat("i", 1025) + `'}]}}`,
			[]string{`spec.containers[0].image: Too long: may not be more than 1024 bytes`}},
		{"a node's sysctl", "Pod", podWith("", ", securityContext: {sysctls: [{name: vm.swappiness, value: '1'}]}"),
			[]string{`spec.securityContext.sysctls[0].name: Forbidden: not supported by Pintle: only sysctls of the pod's own namespaces can be set: net.*, kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.*`}},
		{"a foreign selector", "Deployment", `{metadata: {name: x}, spec: {selector: {matchLabels: {app: b}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: i}]}}}}`,
			[]string{"spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"}},
		{"a budget of nothing", "Deployment", `{metadata: {name: x}, spec: {strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: i}]}}}}`,
			[]string{"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"}},
		{"jobs as deployments", "Deployment", `{metadata: {name: x}, spec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`,
			[]string{`spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`}},
		{"no ports", "Service", `{metadata: {name: x}, spec: {selector: {a: b}}}`, []string{`spec.ports: Required value`}},
		{"IPv6", "Service", `{metadata: {name: x}, spec: {ipFamilies: [IPv6], ports: [{port: 80}]}}`, []string{`spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster`}},
		{"two stacks", "Service", `{metadata: {name: x}, spec: {ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}}`,
			[]string{`spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services`}},
		{"a node port without the type", "Service", `{metadata: {name: x}, spec: {ports: [{port: 80, nodePort: 30000}]}}`,
			[]string{"spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"}},
		{"outside traffic inside", "Service", `{metadata: {name: x}, spec: {externalTrafficPolicy: Local, ports: [{port: 80}]}}`,
			[]string{`spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services`}},
		{"no rule", "Ingress", `{metadata: {name: x}, spec: {}}`, []string{"spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"}},
		{"no path type", "Ingress", `{metadata: {name: x}, spec: {rules: [{http: {paths: [{path: /, backend: {service: {name: s, port: {number: 80}}}}]}}]}}`,
			[]string{`spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified`}},
		{"two kinds of port", "Ingress", `{metadata: {name: x}, spec: {defaultBackend: {service: {name: s, port: {number: 80, name: http}}}}}`,
			[]string{`spec.defaultBackend: Invalid value: "": cannot set both port name & port number`}},
		{"an address as host", "Ingress", `{metadata: {name: x}, spec: {rules: [{host: 10.0.0.1}]}}`, []string{`spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address`}},
		{"a key that is no file name", "ConfigMap", `{metadata: {name: x}, data: {a/b: c}}`,
			[]string{`data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')`}},
		{"a certificate without its key", "Secret", `{metadata: {name: x}, type: kubernetes.io/tls, stringData: {tls.crt: c}}`, []string{`data[tls.key]: Required value`}},
		{"a rule without verbs", "Role", `{metadata: {name: x}, rules: [{apiGroups: [""], resources: [pods]}]}`, []string{`rules[0].verbs: Required value: verbs must contain at least one value`}},
		{"a class above the system's", "PriorityClass", `{metadata: {name: x}, value: 2000000000}`, []string{`value: Forbidden: maximum allowed value of a user defined priority is 1000000000`}},
		{"a reserved name", "PriorityClass", `{metadata: {name: system-x}, value: 1}`, []string{`metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only`}},
		{"two sides of a budget", "PodDisruptionBudget", `{metadata: {name: x}, spec: {minAvailable: 1, maxUnavailable: 1}}`,
			[]string{`spec: Invalid value: "minAvailable: 1, maxUnavailable: 1": minAvailable and maxUnavailable cannot be both set`}},
		{"a loopback endpoint", "Endpoints", `{metadata: {name: x}, subsets: [{addresses: [{ip: 127.0.0.1}]}]}`,
			[]string{`subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)`}},
		{"a lease of no time", "Lease", `{metadata: {name: x}, spec: {leaseDurationSeconds: 0}}`, []string{`spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := kindOf(t, tt.kind)
			wantErrors(t, problems(k, made(k, decode(t, k, tt.object))), tt.want...)
		})
	}
}

func TestWhatMayNotChange(t *testing.T) {
	const podUpdate = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`," +
		"`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
	tests := []struct {
		name, kind, before, after string
		want                      []string
	}{
		{"an image may", "Pod", podWith("", ""), `{metadata: {name: x}, spec: {containers: [{name: c, image: j, imagePullPolicy: Always}]}}`, nil},
		{"a further toleration may", "Pod", podWith("", ""), podWith("", ", tolerations: [{key: a, operator: Exists}]"), nil},
		{"a command may not", "Pod", podWith("", ""), podWith(", command: [x]", ""), []string{podUpdate}},
		{"a toleration may not go", "Pod", podWith("", ", tolerations: [{key: a, operator: Exists}]"), podWith("", ""),
			[]string{`spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds`}},
		{"a toleration's seconds may", "Pod", podWith("", ", tolerations: [{key: a, operator: Exists, effect: NoExecute}]"),
			podWith("", ", tolerations: [{key: b, operator: Exists}, {key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 5}]"), nil},
		{"a deadline may not go", "Pod", podWith("", ", activeDeadlineSeconds: 5"), podWith("", ""),
			[]string{`spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value`}},
		{"a container may not come", "Pod", podWith("", ""), `{metadata: {name: x}, spec: {containers: [{name: c, image: i}, {name: d, image: i}]}}`,
			[]string{`spec.containers: Forbidden: pod updates may not add or remove containers`}},
		{"a grace period may not", "Pod", podWith("", ""), podWith("", ", terminationGracePeriodSeconds: 1"), []string{podUpdate}},
		{"a gated pod's node selector may grow", "Pod", podWith("", ", schedulingGates: [{name: a}], nodeSelector: {a: b}"),
			podWith("", ", schedulingGates: [{name: a}], nodeSelector: {a: b, c: d}"), nil},
		{"a gated pod's node selector may not change", "Pod", podWith("", ", schedulingGates: [{name: a}], nodeSelector: {a: b}"),
			podWith("", ", schedulingGates: [{name: a}], nodeSelector: {a: c}"),
			[]string{`spec.nodeSelector: Invalid value: {"a":"c"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)`}},
		{"a gated pod may gain a node affinity", "Pod", podWith("", ", schedulingGates: [{name: a}]"),
			podWith("", ", schedulingGates: [{name: a}], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}"), nil},
		{"a gated pod may gain no pod affinity", "Pod", podWith("", ", schedulingGates: [{name: a}]"),
			podWith("", ", schedulingGates: [{name: a}], affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a}]}}"), []string{podUpdate}},
		{"immutable binary data", "ConfigMap", `{metadata: {name: x}, immutable: true, binaryData: {a: YQ==}}`, `{metadata: {name: x}, immutable: true}`,
			[]string{"binaryData: Forbidden: field is immutable when `immutable` is set"}},
		{"immutability itself", "Secret", `{metadata: {name: x}, immutable: true}`, `{metadata: {name: x}}`, []string{"immutable: Forbidden: field is immutable when `immutable` is set"}},
		{"a cluster role", "ClusterRoleBinding", minimal()["ClusterRoleBinding"], `{metadata: {name: x}, roleRef: {kind: ClusterRole, name: other}}`,
			[]string{`roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"other"}: cannot change roleRef`}},
		{"a selector", "Deployment", minimal()["Deployment"], `{metadata: {name: x}, spec: {selector: {matchLabels: {app: b}}, template: {metadata: {labels: {app: b}}, spec: {containers: [{name: c, image: i}]}}}}`,
			[]string{`spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable`}},
		{"a preemption policy", "PriorityClass", `{metadata: {name: x}, value: 1}`, `{metadata: {name: x}, value: 1, preemptionPolicy: Never}`,
			[]string{`preemptionPolicy: Invalid value: "Never": field is immutable`}},
		{"a node's range of addresses", "Node", `{metadata: {name: x}, spec: {podCIDR: 10.1.0.0/24}}`, `{metadata: {name: x}, spec: {podCIDR: 10.2.0.0/24}}`,
			[]string{`spec.podCIDR: Forbidden: node updates may not change podCIDR except from "" to valid`}},
		{"an address type", "EndpointSlice", `{metadata: {name: x}, addressType: IPv4}`, `{metadata: {name: x}, addressType: IPv6}`,
			[]string{`addressType: Invalid value: "IPv6": field is immutable`}},
		{"a revision's data", "ControllerRevision", minimal()["ControllerRevision"], `{metadata: {name: x}, revision: 2, data: {a: c}}`,
			[]string{`data: Invalid value: {"a":"c"}: field is immutable`}},
		{"a deadline may not grow", "Pod", podWith("", ", activeDeadlineSeconds: 5"), podWith("", ", activeDeadlineSeconds: 6"),
			[]string{`spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value`}},
		{"a gate may go", "Pod", podWith("", ", schedulingGates: [{name: a}]"), podWith("", ""), nil},
		{"a gate may not come", "Pod", podWith("", ""), podWith("", ", schedulingGates: [{name: a}]"),
			[]string{`spec.schedulingGates[0]: Forbidden: only deletion is allowed, but found new scheduling gate 'a'`}},
		{"a role", "RoleBinding", minimal()["RoleBinding"], `{metadata: {name: x}, roleRef: {kind: Role, name: other}}`,
			[]string{`roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"other"}: cannot change roleRef`}},
		{"an immutable map", "ConfigMap", `{metadata: {name: x}, immutable: true, data: {a: b}}`, `{metadata: {name: x}, immutable: true, data: {a: c}}`,
			[]string{"data: Forbidden: field is immutable when `immutable` is set"}},
		{"a secret's type", "Secret", `{metadata: {name: x}, type: a}`, `{metadata: {name: x}, type: b}`, []string{`type: Invalid value: "b": field is immutable`}},
		{"a service's address", "Service", `{metadata: {name: x}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}`, `{metadata: {name: x}, spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}}`,
			[]string{`spec.clusterIPs[0]: Invalid value: ["10.96.0.2"]: may not change once set`}},
		{"a service's address under its first name alone", "Service", `{metadata: {name: x}, spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 80}]}}`,
			`{metadata: {name: x}, spec: {clusterIP: None, clusterIPs: [10.96.0.1], ports: [{port: 80}]}}`, []string{`spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set`}},
		{"a service's address under its second name alone", "Service", `{metadata: {name: x}, spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 80}]}}`,
			`{metadata: {name: x}, spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.3], ports: [{port: 80}]}}`, []string{`spec.clusterIPs[0]: Invalid value: ["10.96.0.3"]: may not change once set`}},
		{"a service's type may, and takes its address along", "Service", `{metadata: {name: x}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}`,
			`{metadata: {name: x}, spec: {type: ExternalName, externalName: a.b}}`, nil},
		{"a priority", "PriorityClass", `{metadata: {name: x}, value: 1}`, `{metadata: {name: x}, value: 2}`, []string{`value: Forbidden: may not be changed in an update.`}},
		{"a handler", "RuntimeClass", `{metadata: {name: x}, handler: a}`, `{metadata: {name: x}, handler: b}`, []string{`handler: Invalid value: "b": field is immutable`}},
		{"a controller", "IngressClass", `{metadata: {name: x}, spec: {controller: a.b/c}}`, `{metadata: {name: x}, spec: {controller: a.b/d}}`,
			[]string{`spec.controller: Invalid value: "a.b/d": field is immutable`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := kindOf(t, tt.kind)
			old, o := made(k, decode(t, k, tt.before)), made(k, decode(t, k, tt.after))
			var errs field.ErrorList
			if k.PrepareUpdate != nil {
				k.PrepareUpdate(o, old)
			}
			errs = k.ValidateUpdate(o, old)
			wantErrors(t, errs, tt.want...)
		})
	}
}
