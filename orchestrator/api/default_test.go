package api

import (
	"encoding/json"
	"reflect"
	"testing"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
)

// Defaults, as the API reference documents them. What a case doesn't name is no default: the whole spec is compared.
func TestDefaultsAreThoseOfTheReference(t *testing.T) {
	const container = `terminationMessagePath: /dev/termination-log, terminationMessagePolicy: File, imagePullPolicy: IfNotPresent`
	const pod = `restartPolicy: Always, terminationGracePeriodSeconds: 30, dnsPolicy: ClusterFirst, securityContext: {}, schedulerName: default-scheduler`
	const template = `template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: 'i:1', resources: {limits: {cpu: 1}}}]}}`
	const templated = `template: {metadata: {labels: {a: b}}, spec: {` + pod + `, containers: [{name: c, image: 'i:1', resources: {limits: {cpu: 1}}, ` + container + `}]}}`
	for _, tt := range []struct{ name, kind, object, want string }{
		{"a pod", "Pod", `{spec: {containers: [{name: c, image: 'i:1'}]}}`,
			`{spec: {` + pod + `, enableServiceLinks: true, containers: [{name: c, image: 'i:1', ` + container + `}]}}`},
		{"the newest image", "Pod", `{spec: {containers: [{name: c, image: 'r:5000/i'}]}}`,
			`{spec: {` + pod + `, enableServiceLinks: true, containers: [{name: c, image: 'r:5000/i', terminationMessagePath: /dev/termination-log, terminationMessagePolicy: File, imagePullPolicy: Always}]}}`},
		{"an image by its digest", "Pod", `{spec: {containers: [{name: c, image: 'i@sha256:0'}]}}`,
			`{spec: {` + pod + `, enableServiceLinks: true, containers: [{name: c, image: 'i@sha256:0', ` + container + `}]}}`},
		{"a limit is a request", "Pod", `{spec: {containers: [{name: c, image: 'i:1', resources: {limits: {cpu: 1, memory: 2}, requests: {cpu: 500m}}}]}}`,
			`{spec: {` + pod + `, enableServiceLinks: true, containers: [{name: c, image: 'i:1', resources: {limits: {cpu: 1, memory: 2}, requests: {cpu: 500m, memory: 2}}, ` +
				`resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, {resourceName: memory, restartPolicy: NotRequired}], ` + container + `}]}}`},
		{"but not in a template", "Deployment", `{spec: {selector: {}, ` + template + `}}`,
			`{spec: {replicas: 1, selector: {}, strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%}}, revisionHistoryLimit: 10, progressDeadlineSeconds: 600, ` + templated + `}}`},
		{"a deployment that recreates", "Deployment", `{spec: {selector: {}, strategy: {type: Recreate}, ` + template + `}}`,
			`{spec: {replicas: 1, selector: {}, strategy: {type: Recreate}, revisionHistoryLimit: 10, progressDeadlineSeconds: 600, ` + templated + `}}`},
		{"a replica set", "ReplicaSet", `{spec: {selector: {}, ` + template + `}}`, `{spec: {replicas: 1, selector: {}, ` + templated + `}}`},
		{"a stateful set", "StatefulSet", `{spec: {selector: {}, ` + template + `}}`,
			`{spec: {replicas: 1, selector: {}, serviceName: '', podManagementPolicy: OrderedReady, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 0, maxUnavailable: 1}},
			revisionHistoryLimit: 10, persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}, ` + templated + `}}`},
		{"a daemon set", "DaemonSet", `{spec: {selector: {}, ` + template + `}}`,
			`{spec: {selector: {}, updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 1, maxSurge: 0}}, revisionHistoryLimit: 10, ` + templated + `}}`},
		{"ports on the host's network", "Pod", `{spec: {hostNetwork: true, containers: [{name: c, image: 'i:1', ports: [{containerPort: 80}]}]}}`,
			`{spec: {hostNetwork: true, ` + pod + `, enableServiceLinks: true, containers: [{name: c, image: 'i:1', ports: [{containerPort: 80, hostPort: 80, protocol: TCP}], ` + container + `}]}}`},
		{"probes", "Pod", `{spec: {containers: [{name: c, image: 'i:1', livenessProbe: {httpGet: {port: 80}}, readinessProbe: {grpc: {port: 1}, periodSeconds: 3}}]}}`,
			`{spec: {` + pod + `, enableServiceLinks: true, containers: [{name: c, image: 'i:1', ` + container + `,
			livenessProbe: {httpGet: {path: /, port: 80, scheme: HTTP}, timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3},
			readinessProbe: {grpc: {port: 1, service: ''}, timeoutSeconds: 1, periodSeconds: 3, successThreshold: 1, failureThreshold: 3}}]}}`},
		{"volumes", "Pod", `{spec: {containers: [{name: c, image: 'i:1'}], volumes: [{name: a}, {name: b, secret: {secretName: s}}, {name: c, hostPath: {path: /}}, {name: d, projected: {sources: [{serviceAccountToken: {path: t}}]}}]}}`,
			`{spec: {` + pod + `, enableServiceLinks: true, containers: [{name: c, image: 'i:1', ` + container + `}], volumes: [{name: a, emptyDir: {}}, {name: b, secret: {secretName: s, defaultMode: 420}},
			{name: c, hostPath: {path: /, type: ''}}, {name: d, projected: {defaultMode: 420, sources: [{serviceAccountToken: {path: t, expirationSeconds: 3600}}]}}]}}`},
		{"spread", "Pod", `{spec: {containers: [{name: c, image: 'i:1'}], topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: ScheduleAnyway}]}}`,
			`{spec: {` + pod + `, enableServiceLinks: true, containers: [{name: c, image: 'i:1', ` + container + `}],
			topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: ScheduleAnyway, nodeAffinityPolicy: Honor, nodeTaintsPolicy: Ignore}]}}`},
		{"a service", "Service", `{spec: {ports: [{port: 80}]}}`, `{spec: {type: ClusterIP, sessionAffinity: None, internalTrafficPolicy: Cluster, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack, ports: [{port: 80, targetPort: 80, protocol: TCP}]}}`},
		{"a service that is sticky", "Service", `{spec: {type: NodePort, sessionAffinity: ClientIP, ports: [{port: 80, targetPort: http}]}}`,
			`{spec: {type: NodePort, externalTrafficPolicy: Cluster, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 10800}}, internalTrafficPolicy: Cluster,
			ipFamilies: [IPv4], ipFamilyPolicy: SingleStack, ports: [{port: 80, targetPort: http, protocol: TCP}]}}`},
		{"a load balancer", "Service", `{spec: {type: LoadBalancer, ports: [{port: 80}]}}`, `{spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: true, externalTrafficPolicy: Cluster, sessionAffinity: None,
			internalTrafficPolicy: Cluster, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack, ports: [{port: 80, targetPort: 80, protocol: TCP}]}}`},
		{"another name", "Service", `{spec: {type: ExternalName, externalName: a.b}}`, `{spec: {type: ExternalName, externalName: a.b, sessionAffinity: None}}`},
		{"a namespace", "Namespace", `{metadata: {name: x}}`, `{metadata: {name: x, labels: {kubernetes.io/metadata.name: x}}, spec: {finalizers: [kubernetes]}, status: {phase: Active}}`},
		{"a secret", "Secret", `{stringData: {a: b}, data: {a: Yw==}}`, `{type: Opaque, data: {a: Yg==}}`},
		{"a priority class", "PriorityClass", `{value: 1}`, `{metadata: {generation: 1}, value: 1, preemptionPolicy: PreemptLowerPriority}`},
		{"a binding", "RoleBinding", `{roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: u}, {kind: ServiceAccount, name: s}]}`,
			`{roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}, subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: u}, {kind: ServiceAccount, name: s}]}`},
		{"a slice", "EndpointSlice", `{addressType: IPv4, ports: [{port: 80}]}`, `{metadata: {generation: 1}, addressType: IPv4, ports: [{name: '', port: 80, protocol: TCP}]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := kindOf(t, tt.kind)
			got, want := made(k, decode(t, k, tt.object)), decode(t, k, tt.want)
			switch tt.kind {
			case "Pod", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet": // their status and generation are no defaults
				got.SetGeneration(0)
				status := reflect.ValueOf(got).Elem().FieldByName("Status")
				status.Set(reflect.Zero(status.Type()))
			}
			if !apiequality.Semantic.DeepEqual(got, want) {
				a, _ := json.Marshal(got)
				b, _ := json.Marshal(want)
				t.Errorf("got\n\t%s\nwant\n\t%s", a, b)
			}
		})
	}
}
