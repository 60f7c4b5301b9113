package api

import "testing"

// The rules that Kubernetes documents for pods, beyond those of TestProblemsAreToldInKubernetesWords. A case
// without problems shows that the rule refuses no more than it should.
func TestPodRules(t *testing.T) {
	const long = "must be specified when `operator` is 'In' or 'NotIn'"
	affinity := func(kind, term string) string {
		return podWith("", ", affinity: {"+kind+": {requiredDuringSchedulingIgnoredDuringExecution: "+term+"}}")
	}
	nodes := func(requirement string) string {
		return affinity("nodeAffinity", "{nodeSelectorTerms: [{"+requirement+"}]}")
	}
	const nodesAt = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]."
	const near = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]."
	spread := func(more string) string {
		return podWith("", ", topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule"+more+"}]")
	}
	tests := []struct {
		name, object string
		want         []string
	}{
		{"one host port twice", podWith(", ports: [{containerPort: 80, hostPort: 80}, {containerPort: 81, hostPort: 80}]", ""),
			[]string{`spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80"`}},
		{"one host port of two protocols", podWith(", ports: [{containerPort: 80, hostPort: 80}, {containerPort: 81, hostPort: 80, protocol: UDP}]", ""), nil},
		{"one host port of two addresses", podWith(", ports: [{containerPort: 80, hostPort: 80, hostIP: 10.0.0.1}, {containerPort: 81, hostPort: 80, hostIP: 10.0.0.2}]", ""), nil},
		{"another port on the host's network", podWith(", ports: [{containerPort: 80, hostPort: 81}]", ", hostNetwork: true"),
			[]string{"spec.containers[0].ports[0].containerPort: Invalid value: 80: must match `hostPort` when `hostNetwork` is true"}},
		{"a port's name twice", podWith(", ports: [{containerPort: 80, name: a}, {containerPort: 81, name: a}]", ""), []string{`spec.containers[0].ports[1].name: Duplicate value: "a"`}},
		{"an unknown protocol", podWith(", ports: [{containerPort: 80, protocol: ICMP}]", ""), []string{`spec.containers[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"`}},
		{"no container port", podWith(", ports: [{name: a}]", ""), []string{`spec.containers[0].ports[0].containerPort: Required value`}},
		{"a negative request", podWith(", resources: {requests: {cpu: '-1'}}", ""), []string{`spec.containers[0].resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0`}},
		{"an unknown resource", podWith(", resources: {requests: {foo: 1}}", ""),
			[]string{`spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource type or fully qualified`,
				`spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource for containers`}},
		{"a part of a device", podWith(", resources: {limits: {a.b/c: 500m}, requests: {a.b/c: 500m}}", ""),
			[]string{`spec.containers[0].resources.limits[a.b/c]: Invalid value: "500m": must be an integer`, `spec.containers[0].resources.requests[a.b/c]: Invalid value: "500m": must be an integer`}},
		{"more of a device than the limit", podWith(", resources: {limits: {a.b/c: 2}, requests: {a.b/c: 1}}", ""), []string{`spec.containers[0].resources.requests: Invalid value: "1": must be equal to a.b/c limit of 2`}},
		{"a divisor of cpu", podWith(", env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1Mi}}}]", ""),
			[]string{`spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "1Mi": only divisor's values 1m and 1 are supported with the cpu resource`}},
		{"a divisor of memory", podWith(", env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}]", ""), nil},
		{"an unknown field", podWith(", env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.x}}}]", ""),
			[]string{`spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "spec.x": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"`}},
		{"a label", podWith(", env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a/b']\"}}}]", ""), nil},
		{"another version's field", podWith(", env: [{name: A, valueFrom: {fieldRef: {apiVersion: v2, fieldPath: metadata.name}}}]", ""),
			[]string{`spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "metadata.name": error converting fieldPath: unsupported pod version: v2`}},
		{"a value of two sources", podWith(", env: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]", ""),
			[]string{"spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"}},
		{"a mount path twice", podWith(", volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /a}]", ", volumes: [{name: v}]"), []string{`spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique`}},
		{"a way out of a volume", podWith(", volumeMounts: [{name: v, mountPath: /a, subPath: ../b}]", ", volumes: [{name: v}]"), []string{`spec.containers[0].volumeMounts[0].subPath: Invalid value: "../b": must not contain '..'`}},
		{"mounts that reach the host", podWith(", volumeMounts: [{name: v, mountPath: /a, mountPropagation: Bidirectional}]", ", volumes: [{name: v}]"),
			[]string{`spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers`}},
		{"a volume's name twice", podWith("", ", volumes: [{name: v}, {name: v}]"), []string{`spec.volumes[1].name: Duplicate value: "v"`}},
		{"two sources of a volume", podWith("", ", volumes: [{name: v, emptyDir: {}, hostPath: {path: /}}]"), []string{`spec.volumes[0].emptyDir: Forbidden: may not specify more than 1 volume type`}},
		{"a mode out of range", podWith("", ", volumes: [{name: v, secret: {secretName: s, defaultMode: 1024}}]"),
			[]string{`spec.volumes[0].secret.defaultMode: Invalid value: 1024: must be a number between 0 and 0777 (octal), both inclusive`}},
		{"one file of two sources", podWith("", ", volumes: [{name: v, projected: {sources: [{secret: {name: s, items: [{key: a, path: b}]}}, {configMap: {name: c, items: [{key: a, path: b}]}}]}}]"),
			[]string{`spec.volumes[0].projected.sources[1].configMap: Invalid value: "b": conflicting duplicate paths`}},
		{"a negative probe number", podWith(", livenessProbe: {exec: {command: [x]}, periodSeconds: -1}", ""), []string{`spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0`}},
		{"two handlers", podWith(", livenessProbe: {exec: {command: [x]}, tcpSocket: {port: 1}}", ""), []string{`spec.containers[0].livenessProbe: Forbidden: may not specify more than 1 handler type (2 are)`}},
		{"a readiness probe that ends the pod", podWith(", readinessProbe: {exec: {command: [x]}, terminationGracePeriodSeconds: 1}", ""),
			[]string{`spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes`}},
		{"a probe port without a number", podWith(", livenessProbe: {tcpSocket: {port: 0}}", ""), []string{`spec.containers[0].livenessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive`}},
		{"a sleep beyond the end", podWith(", lifecycle: {preStop: {sleep: {seconds: 31}}}", ""),
			[]string{`spec.containers[0].lifecycle.preStop.sleep.seconds: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)`}},
		{"an init container's probe", podWith("", ", initContainers: [{name: i, image: i, readinessProbe: {exec: {command: [x]}}}]"),
			[]string{`spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always`}},
		{"a sidecar's probe", podWith("", ", initContainers: [{name: i, image: i, restartPolicy: Always, readinessProbe: {exec: {command: [x]}}}]"), nil},
		{"an init container's name", podWith("", ", initContainers: [{name: c, image: i}]"), []string{`spec.initContainers[0].name: Duplicate value: "c"`}},
		{"a gate and a node", podWith("", ", schedulingGates: [{name: a}], nodeName: n"), []string{`spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared`}},
		{"a deadline of no time", podWith("", ", activeDeadlineSeconds: 0"), []string{`spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive`}},
		{"a search list too long", podWith("", ", dnsConfig: {searches: [a..b]}"),
			[]string{`spec.dnsConfig.searches[0]: Invalid value: "a..b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`}},
		{"the host's sysctls", podWith("", ", hostNetwork: true, securityContext: {sysctls: [{name: net.core.somaxconn, value: '1'}]}"),
			[]string{`spec.securityContext.sysctls[0].name: Invalid value: "net.core.somaxconn": may not be specified when 'hostNetwork' is true`}},
		{"a hook and no escalation", podWith(", securityContext: {privileged: true, allowPrivilegeEscalation: false}", ""),
			[]string{"spec.containers[0].securityContext: Invalid value: {\"privileged\":true,\"allowPrivilegeEscalation\":false}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"}},

		{"nodes of no value", nodes("matchExpressions: [{key: a, operator: In}]"), []string{nodesAt + "matchExpressions[0].values: Required value: " + long}},
		{"nodes with a value too many", nodes("matchExpressions: [{key: a, operator: Exists, values: [b]}]"),
			[]string{nodesAt + "matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"}},
		{"nodes beyond two numbers", nodes("matchExpressions: [{key: a, operator: Gt, values: ['1', '2']}]"),
			[]string{nodesAt + "matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"}},
		{"nodes by an unknown operator", nodes("matchExpressions: [{key: a, operator: Like, values: [b]}]"), []string{nodesAt + `matchExpressions[0].operator: Invalid value: "Like": not a valid selector operator`}},
		{"nodes by another field", nodes("matchFields: [{key: metadata.uid, operator: In, values: [b]}]"), []string{nodesAt + `matchFields[0].key: Invalid value: "metadata.uid": not a valid field selector key`}},
		{"nodes by name", nodes("matchFields: [{key: metadata.name, operator: In, values: [b]}]"), nil},
		{"no terms", affinity("nodeAffinity", "{nodeSelectorTerms: []}"),
			[]string{`spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term`}},
		{"a weight of nothing", podWith("", ", affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, preference: {}}]}}"),
			[]string{`spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100`}},
		{"pods of no place", affinity("podAffinity", "[{labelSelector: {}}]"), []string{near + `topologyKey: Required value: can not be empty`}},
		{"keys without a selector", affinity("podAffinity", "[{topologyKey: a, matchLabelKeys: [b]}]"), []string{near + `matchLabelKeys: Forbidden: must not be specified when labelSelector is not set`}},
		{"a key in the selector, too", affinity("podAffinity", "[{topologyKey: a, matchLabelKeys: [b], labelSelector: {matchLabels: {b: c}}}]"),
			[]string{near + `matchLabelKeys[0]: Invalid value: "b": exists in both matchLabelKeys and labelSelector`}},
		{"a key that is to match and not to", affinity("podAffinity", "[{topologyKey: a, matchLabelKeys: [b], mismatchLabelKeys: [b], labelSelector: {}}]"),
			[]string{near + `matchLabelKeys[0]: Invalid value: "b": exists in both matchLabelKeys and mismatchLabelKeys`}},
		{"a selector that can't be", affinity("podAffinity", "[{topologyKey: a, labelSelector: {matchExpressions: [{key: a, operator: In}]}}]"),
			[]string{near + "labelSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"}},

		{"a skew of nothing", podWith("", ", topologySpreadConstraints: [{maxSkew: 0, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]"),
			[]string{`spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero`}},
		{"domains of what is only preferred", podWith("", ", topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, minDomains: 2}]"),
			[]string{`spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway`}},
		{"an unknown inclusion", spread(", nodeTaintsPolicy: Maybe"), []string{`spec.topologySpreadConstraints[0].nodeTaintsPolicy: Unsupported value: "Maybe": supported values: "Honor", "Ignore"`}},
		{"spread by keys alone", spread(", matchLabelKeys: [a]"), []string{`spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set`}},
		{"one constraint twice", podWith("", ", topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}, {maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]"),
			[]string{`spec.topologySpreadConstraints[1].{topologyKey, whenUnsatisfiable}: Duplicate value: "{zone, DoNotSchedule}"`}},
		{"a toleration of everything by value", podWith("", ", tolerations: [{value: a}]"),
			[]string{"spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\""}},
		{"seconds of no eviction", podWith("", ", tolerations: [{key: a, operator: Exists, effect: NoSchedule, tolerationSeconds: 5}]"),
			[]string{"spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := kindOf(t, "Pod")
			wantErrors(t, problems(k, made(k, decode(t, k, tt.object))), tt.want...)
		})
	}
}

// The rules of the other kinds.
func TestRulesOfOtherKinds(t *testing.T) {
	deployment := func(spec string) string {
		return `{metadata: {name: x}, spec: {` + spec + `, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: i}]}}}}`
	}
	tests := []struct {
		name, kind, object string
		want               []string
	}{
		{"a rollback that is neither on nor off", "Deployment", `{metadata: {name: x, annotations: {pintle.dev/auto-rollback: 'no'}}, spec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: i}]}}}}`,
			[]string{`metadata.annotations[pintle.dev/auto-rollback]: Unsupported value: "no": supported values: "true", "false"`}},
		{"a cost that is no number", "Pod", `{metadata: {name: x, annotations: {controller.kubernetes.io/pod-deletion-cost: high}}, spec: {containers: [{name: c, image: i}]}}`,
			[]string{`metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "high": must be a 32bit integer`}},
		{"negative replicas", "Deployment", deployment("replicas: -1"), []string{`spec.replicas: Invalid value: -1: must be greater than or equal to 0`}},
		{"a deadline before ready", "Deployment", deployment("minReadySeconds: 5, progressDeadlineSeconds: 5"), []string{`spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds`}},
		{"both percentages 0", "Deployment", deployment("strategy: {rollingUpdate: {maxSurge: 0%, maxUnavailable: 0%}}"), []string{"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"}},
		{"more than all unavailable", "Deployment", deployment("strategy: {rollingUpdate: {maxUnavailable: 120%}}"), []string{`spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "120%": must not be greater than 100%`}},
		{"twice as many meanwhile", "Deployment", deployment("strategy: {rollingUpdate: {maxSurge: 200%}}"), nil},
		{"no percentage", "Deployment", deployment("strategy: {rollingUpdate: {maxSurge: some}}"),
			[]string{`spec.strategy.rollingUpdate.maxSurge: Invalid value: "some": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')`}},
		{"a rolling Recreate", "Deployment", deployment("strategy: {type: Recreate, rollingUpdate: {}}"), []string{"spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"}},
		{"an unknown strategy", "Deployment", deployment("strategy: {type: BlueGreen}"), []string{`spec.strategy.type: Unsupported value: "BlueGreen": supported values: "Recreate", "RollingUpdate"`}},
		{"negative history", "Deployment", deployment("revisionHistoryLimit: -1"), []string{`spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0`}},
		{"a selector of everything", "ReplicaSet", `{metadata: {name: x}, spec: {selector: {}, template: {spec: {containers: [{name: c, image: i}]}}}}`, []string{`spec.selector: Invalid value: {}: empty selector is invalid for deployment`}},
		{"no selector", "ReplicaSet", `{metadata: {name: x}, spec: {template: {spec: {containers: [{name: c, image: i}]}}}}`, []string{`spec.selector: Required value`,
			"spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`"}},
		{"a budget of more than all", "PodDisruptionBudget", `{metadata: {name: x}, spec: {minAvailable: 110%}}`, []string{`spec.minAvailable: Invalid value: "110%": must not be greater than 100%`}},
		{"a negative budget", "PodDisruptionBudget", `{metadata: {name: x}, spec: {maxUnavailable: -1}}`, []string{`spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0`}},
		{"a port twice", "Service", `{metadata: {name: x}, spec: {ports: [{name: a, port: 80}, {name: b, port: 80}]}}`, []string{`spec.ports[1]: Duplicate value: "TCP/80"`}},
		{"a node port twice", "Service", `{metadata: {name: x}, spec: {type: NodePort, ports: [{name: a, port: 80, nodePort: 30000}, {name: b, port: 81, nodePort: 30000}]}}`,
			[]string{`spec.ports[1].nodePort: Duplicate value: 30000`}},
		{"two ports without names", "Service", `{metadata: {name: x}, spec: {ports: [{port: 80}, {port: 81}]}}`, []string{`spec.ports[0].name: Required value`, `spec.ports[1].name: Required value`}},
		{"a name elsewhere without the type", "Service", `{metadata: {name: x}, spec: {externalName: a.b, ports: [{port: 80}]}}`, []string{"spec.externalName: Forbidden: may only be set when `type` is 'ExternalName'"}},
		{"an affinity of no time", "Service", `{metadata: {name: x}, spec: {sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}, ports: [{port: 80}]}}`,
			[]string{`spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400`}},
		{"a headless node port", "Service", `{metadata: {name: x}, spec: {type: NodePort, clusterIP: None, ports: [{port: 80}]}}`, []string{`spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services`}},
		{"a taint twice", "Node", `{metadata: {name: x}, spec: {taints: [{key: a, effect: NoSchedule}, {key: a, value: b, effect: NoSchedule}]}}`,
			[]string{`spec.taints[1]: Duplicate value: {"key":"a","value":"b","effect":"NoSchedule"}: taints must be unique by key and effect pair`}},
		{"a taint of two effects", "Node", `{metadata: {name: x}, spec: {taints: [{key: a, effect: NoSchedule}, {key: a, effect: NoExecute}]}}`, nil},
		{"an unknown effect", "Node", `{metadata: {name: x}, spec: {taints: [{key: a, effect: Never}]}}`, []string{`spec.taints[0].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`}},
		{"a login without a name", "Secret", `{metadata: {name: x}, type: kubernetes.io/basic-auth}`, []string{`data[password]: Required value`, `data[username]: Required value`}},
		{"a login without a password", "Secret", `{metadata: {name: x}, type: kubernetes.io/basic-auth, stringData: {username: a}}`, nil},
		{"a registry's login that is no JSON", "Secret", `{metadata: {name: x}, type: kubernetes.io/dockerconfigjson, stringData: {.dockerconfigjson: a}}`,
			[]string{`data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character 'a' looking for beginning of value`}},
		{"a key for ssh", "Secret", `{metadata: {name: x}, type: kubernetes.io/ssh-auth}`, []string{`data[ssh-privatekey]: Required value`}},
		{"a token of nobody", "Secret", `{metadata: {name: x}, type: kubernetes.io/service-account-token}`, []string{`metadata.annotations[kubernetes.io/service-account.name]: Required value`}},
		{"an aggregate of nothing", "ClusterRole", `{metadata: {name: x}, aggregationRule: {}}`, []string{`aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil`}},
		{"a revision of nothing", "ControllerRevision", `{metadata: {name: x}, revision: 1}`, []string{`data: Required value: data is mandatory`}},
		{"a lease of nobody", "Lease", `{metadata: {name: x}, spec: {holderIdentity: ''}}`, []string{`spec.holderIdentity: Required value: must not be empty`}},
		{"an endpoint of IPv6", "EndpointSlice", `{metadata: {name: x}, addressType: IPv4, endpoints: [{addresses: ['fd00::1']}]}`,
			[]string{`endpoints[0].addresses[0]: Invalid value: "fd00::1": must be an IPv4 address: clusters have no others`}},
		{"an event of another namespace", "Event", `{metadata: {name: x, namespace: a}, involvedObject: {namespace: b}}`, []string{`involvedObject.namespace: Invalid value: "b": does not match event.namespace`}},
		{"a new event without its reporter", "Event", `{metadata: {name: x}, eventTime: '2026-01-01T00:00:00.000000Z', action: a, reason: r, reportingInstance: i}`, []string{`reportingController: Required value`}},
		{"a handler that is no label", "RuntimeClass", `{metadata: {name: x}, handler: A}`,
			[]string{`handler: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`}},
		{"a backend that is no service", "Ingress", `{metadata: {name: x}, spec: {defaultBackend: {resource: {kind: A, name: b}}}}`,
			[]string{`spec.defaultBackend.resource: Forbidden: not supported by Pintle: the ingress sends requests to Services only`}},
		{"a relative path", "Ingress", `{metadata: {name: x}, spec: {rules: [{http: {paths: [{path: a, pathType: Prefix, backend: {service: {name: s, port: {number: 80}}}}]}}]}}`,
			[]string{`spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path`}},
		{"a path as the implementation likes", "Ingress", `{metadata: {name: x}, spec: {rules: [{http: {paths: [{pathType: ImplementationSpecific, backend: {service: {name: s, port: {number: 80}}}}]}}]}}`, nil},
		{"an account that pulls", "ServiceAccount", `{metadata: {name: x}, imagePullSecrets: [{name: a}]}`,
			[]string{`imagePullSecrets: Forbidden: not supported by Pintle: images come from the node's own store, nothing is pulled from a registry`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := kindOf(t, tt.kind)
			wantErrors(t, problems(k, made(k, decode(t, k, tt.object))), tt.want...)
		})
	}
}

func TestTheSizeOfMapsAndSecretsIsBounded(t *testing.T) {
	const most = 1 << 20
	for _, kind := range []string{"ConfigMap", "Secret"} {
		k := kindOf(t, kind)
		for size, fits := range map[int]bool{most: true, most + 1: false} {
			text := make([]byte, size)
			for i := range text {
				text[i] = 'a'
			}
			name := "data"
			if kind == "Secret" {
				name = "stringData"
			}
			errs := problems(k, made(k, decode(t, k, `{metadata: {name: x}, `+name+`: {k: `+string(text)+`}}`)))
			if (len(errs) == 0) != fits {
				t.Errorf("a %s of %d bytes gives %v", kind, size, errs.ToAggregate())
			}
		}
	}
}

func TestProblemsComeInTheSameOrderEveryTime(t *testing.T) {
	const object = `{metadata: {name: x}, spec: {hostname: A, subdomain: B, nodeSelector: {A_: '*', B_: '*', C_: '*', D_: '*'}, containers: [{name: c, image: i,
		resources: {limits: {foo: 1, bar: 1, baz: 1}}, livenessProbe: {periodSeconds: -1, timeoutSeconds: -1, failureThreshold: -1, initialDelaySeconds: -1}}]}}`
	k := kindOf(t, "Pod")
	told := func() string { return problems(k, made(k, decode(t, k, object))).ToAggregate().Error() }
	first := told()
	for range 20 {
		if again := told(); again != first {
			t.Fatalf("once\n\t%s\nthen\n\t%s", first, again)
		}
	}
}
