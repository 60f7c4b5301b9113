package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// now is 5 minutes after every creationTimestamp in these tables.
func now() time.Time { return time.Date(2026, 1, 1, 0, 5, 0, 0, time.UTC) }

// printed is the row as kubectl -o wide shows it, without the columns' padding.
func printed(k *Kind, o Object) string {
	o.SetCreationTimestamp(metav1.NewTime(now().Add(-5 * time.Minute)))
	var text []string
	for _, c := range k.Row(o) {
		text = append(text, fmt.Sprint(RenderCell(c, now())))
	}
	return strings.Join(text, " | ")
}

func kindOf(t *testing.T, kind string) *Kind {
	t.Helper()
	for _, k := range All() {
		if k.GroupVersionKind.Kind == kind {
			return k
		}
	}
	t.Fatalf("no kind %s", kind)
	return nil
}

func TestPodRowsReadAsKubectls(t *testing.T) {
	const ready = `conditions: [{type: Ready, status: "True"}, {type: Initialized, status: "True"}]`
	tests := map[string]struct{ pod, want string }{
		"pending": {`{spec: {containers: [{name: a}]}, status: {phase: Pending}}`, `0/1 | Pending | 0`},
		"gated":   {`{spec: {containers: [{name: a}]}, status: {phase: Pending, conditions: [{type: PodScheduled, status: "False", reason: SchedulingGated}]}}`, `0/1 | SchedulingGated | 0`},
		"creating": {`{spec: {containers: [{name: a}]}, status: {phase: Pending, containerStatuses: [{name: a, state: {waiting: {reason: ContainerCreating}}}]}}`,
			`0/1 | ContainerCreating | 0`},
		"running": {`{spec: {containers: [{name: a}, {name: b}]}, status: {phase: Running, ` + ready + `, containerStatuses: [{name: a, ready: true, state: {running: {}}}, {name: b, state: {running: {}}}]}}`,
			`1/2 | Running | 0`},
		"crashing": {`{spec: {containers: [{name: a}]}, status: {phase: Running, containerStatuses: [{name: a, restartCount: 2, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, finishedAt: "2026-01-01T00:04:55Z"}}}]}}`,
			`0/1 | CrashLoopBackOff | 2 (5s ago)`},
		"completed": {`{spec: {containers: [{name: a}]}, status: {phase: Succeeded, containerStatuses: [{name: a, state: {terminated: {exitCode: 0, reason: Completed}}}]}}`,
			`0/1 | Completed | 0`},
		"one completed": {`{spec: {containers: [{name: a}, {name: b}]}, status: {phase: Running, containerStatuses: [{name: a, state: {terminated: {reason: Completed}}}, {name: b, ready: true, state: {running: {}}}]}}`,
			`1/2 | NotReady | 0`},
		"exit code": {`{spec: {containers: [{name: a}]}, status: {phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 3}}}]}}`, `0/1 | ExitCode:3 | 0`},
		"signal":    {`{spec: {containers: [{name: a}]}, status: {phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 137, signal: 9}}}]}}`, `0/1 | Signal:9 | 0`},
		"evicted":   {`{spec: {containers: [{name: a}]}, status: {phase: Failed, reason: Evicted}}`, `0/1 | Evicted | 0`},
		"init": {`{spec: {initContainers: [{name: i}, {name: j}], containers: [{name: a}]}, status: {phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 0}}}, {name: j, state: {running: {}}}]}}`,
			`0/1 | Init:1/2 | 0`},
		"init fails": {`{spec: {initContainers: [{name: i}], containers: [{name: a}]}, status: {phase: Pending, initContainerStatuses: [{name: i, restartCount: 1, state: {terminated: {exitCode: 1, reason: Error}}}]}}`,
			`0/1 | Init:Error | 1`},
		"init backs off": {`{spec: {initContainers: [{name: i}], containers: [{name: a}]}, status: {phase: Pending, initContainerStatuses: [{name: i, state: {waiting: {reason: CrashLoopBackOff}}}]}}`,
			`0/1 | Init:CrashLoopBackOff | 0`},
		"sidecar": {`{spec: {initContainers: [{name: s, restartPolicy: Always}], containers: [{name: a}]}, status: {phase: Running, ` + ready + `, initContainerStatuses: [{name: s, started: true, ready: true, restartCount: 1, state: {running: {}}}], containerStatuses: [{name: a, ready: true, state: {running: {}}}]}}`,
			`2/2 | Running | 1`},
		"terminating":      {`{metadata: {deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {containers: [{name: a}]}, status: {phase: Running}}`, `0/1 | Terminating | 0`},
		"ended, then gone": {`{metadata: {deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {containers: [{name: a}]}, status: {phase: Succeeded}}`, `0/1 | Succeeded | 0`},
		"lost":             {`{metadata: {deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {containers: [{name: a}]}, status: {phase: Running, reason: NodeLost}}`, `0/1 | Unknown | 0`},
	}
	k := kindOf(t, "Pod")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := " | " + tt.want + " | 5m | <none> | <none> | <none> | <none>"
			if got := printed(k, decode(t, k, tt.pod)); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestRowsReadAsKubectls(t *testing.T) {
	tests := []struct{ kind, object, want string }{
		{"Pod", `{metadata: {name: p}, spec: {nodeName: n1, containers: [{name: a}], readinessGates: [{conditionType: x/a}, {conditionType: x/b}]}, status: {phase: Running, podIP: 10.0.0.9, conditions: [{type: x/a, status: "True"}]}}`,
			`p | 0/1 | Running | 0 | 5m | 10.0.0.9 | n1 | <none> | 1/2`},
		{"Node", `{metadata: {name: n1, labels: {node-role.kubernetes.io/control-plane: ""}}, spec: {unschedulable: true}, status: {conditions: [{type: Ready, status: "True"}], addresses: [{type: InternalIP, address: 10.0.0.1}], nodeInfo: {kubeletVersion: v1.37.2, osImage: Debian, kernelVersion: "6.1", containerRuntimeVersion: containerd://1.6}}}`,
			`n1 | Ready,SchedulingDisabled | control-plane | 5m | v1.37.2 | 10.0.0.1 | <none> | Debian | 6.1 | containerd://1.6`},
		{"Node", `{metadata: {name: n1}, status: {conditions: [{type: Ready, status: Unknown}]}}`, `n1 | NotReady | <none> | 5m |  | <none> | <none> | <unknown> | <unknown> | <unknown>`},
		{"Deployment", `{metadata: {name: d}, spec: {replicas: 3, selector: {matchLabels: {app: a}}, template: {spec: {containers: [{name: c, image: i}, {name: e, image: j}]}}}, status: {readyReplicas: 2, updatedReplicas: 3, availableReplicas: 1}}`,
			`d | 2/3 | 3 | 1 | 5m | c,e | i,j | app=a`},
		{"ReplicaSet", `{metadata: {name: r}, spec: {replicas: 3, selector: {matchLabels: {app: a}}, template: {spec: {containers: [{name: c, image: i}]}}}, status: {replicas: 2, readyReplicas: 1}}`,
			`r | 3 | 2 | 1 | 5m | c | i | app=a`},
		{"StatefulSet", `{metadata: {name: web}, spec: {replicas: 3, template: {spec: {containers: [{name: c, image: i}]}}}, status: {replicas: 3, readyReplicas: 2}}`,
			`web | 2/3 | 5m | c | i`},
		{"DaemonSet", `{metadata: {name: d}, spec: {selector: {matchLabels: {app: a}}, template: {spec: {nodeSelector: {disk: ssd}, containers: [{name: c, image: i}]}}}, status: {desiredNumberScheduled: 5, currentNumberScheduled: 4, numberReady: 3, updatedNumberScheduled: 2, numberAvailable: 1}}`,
			`d | 5 | 4 | 3 | 2 | 1 | disk=ssd | 5m | c | i | app=a`},
		{"DaemonSet", `{metadata: {name: d}, spec: {selector: {matchLabels: {app: a}}, template: {spec: {containers: [{name: c, image: i}]}}}}`,
			`d | 0 | 0 | 0 | 0 | 0 | <none> | 5m | c | i | app=a`},
		{"Service", `{metadata: {name: s}, spec: {type: ClusterIP, clusterIP: 10.96.0.1, selector: {a: b}, ports: [{port: 80, protocol: TCP}, {port: 53, protocol: UDP}]}}`,
			`s | ClusterIP | 10.96.0.1 | <none> | 80/TCP,53/UDP | 5m | a=b`},
		{"Service", `{metadata: {name: s}, spec: {type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80, protocol: TCP, nodePort: 30080}]}}`,
			`s | LoadBalancer | 10.96.0.1 | <pending> | 80:30080/TCP | 5m | <none>`},
		{"Service", `{metadata: {name: s}, spec: {type: ExternalName, externalName: example.org}}`, `s | ExternalName | <none> | example.org | <none> | 5m | <none>`},
		{"Service", `{metadata: {name: s}, spec: {type: ClusterIP, clusterIP: None}}`, `s | ClusterIP | None | <none> | <none> | 5m | <none>`},
		{"Ingress", `{metadata: {name: i}, spec: {ingressClassName: pintle, tls: [{}], rules: [{host: a.b}, {host: c.d}, {host: e.f}, {host: g.h}]}, status: {loadBalancer: {ingress: [{ip: 10.0.0.1}]}}}`,
			`i | pintle | a.b,c.d,e.f + 1 more... | 10.0.0.1 | 80, 443 | 5m`},
		{"Ingress", `{metadata: {name: i}, spec: {rules: [{http: {paths: []}}]}}`, `i | <none> | * |  | 80 | 5m`},
		{"Endpoints", `{metadata: {name: e}, subsets: [{addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2}], ports: [{port: 80}, {port: 81}]}]}`,
			`e | 10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more... | 5m`},
		{"Endpoints", `{metadata: {name: e}}`, `e | <none> | 5m`},
		{"EndpointSlice", `{metadata: {name: e}, addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}]}`, `e | IPv4 | 80 | 10.0.0.1 | 5m`},
		{"EndpointSlice", `{metadata: {name: e}, addressType: IPv4}`, `e | IPv4 | <unset> | <unset> | 5m`},
		{"HorizontalPodAutoscaler", `{metadata: {name: h}, spec: {scaleTargetRef: {kind: Deployment, name: d}, minReplicas: 1, maxReplicas: 4, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}, status: {currentReplicas: 2, currentMetrics: [{type: Resource, resource: {name: cpu, current: {averageUtilization: 73}}}]}}`,
			`h | Deployment/d | cpu: 73%/50% | 1 | 4 | 2 | 5m`},
		{"HorizontalPodAutoscaler", `{metadata: {name: h}, spec: {scaleTargetRef: {kind: Deployment, name: d}, maxReplicas: 4, metrics: [{type: Pods, pods: {metric: {name: m}, target: {averageValue: 10}}}, {type: External, external: {metric: {name: m}, target: {averageValue: 1500m}}}, {type: Object, object: {metric: {name: m}, target: {value: 1}}}]}}`,
			`h | Deployment/d | <unknown>/10, <unknown>/1500m (avg) + 1 more... | <unset> | 4 | 0 | 5m`},
		{"ConfigMap", `{metadata: {name: c}, data: {a: b}, binaryData: {c: YQ==}}`, `c | 2 | 5m`},
		{"Secret", `{metadata: {name: c}, type: Opaque, data: {c: YQ==}}`, `c | Opaque | 1 | 5m`},
		{"ServiceAccount", `{metadata: {name: c}}`, `c | 0 | 5m`},
		{"Namespace", `{metadata: {name: c}, status: {phase: Active}}`, `c | Active | 5m`},
		{"Lease", `{metadata: {name: c}, spec: {holderIdentity: me}}`, `c | me | 5m`},
		{"PodDisruptionBudget", `{metadata: {name: b}, spec: {maxUnavailable: 25%}, status: {disruptionsAllowed: 2}}`, `b | N/A | 25% | 2 | 5m`},
		{"PriorityClass", `{metadata: {name: b}, value: 7, preemptionPolicy: Never}`, `b | 7 | false | 5m | Never`},
		{"RuntimeClass", `{metadata: {name: wasm}, handler: wasm}`, `wasm | wasm | 5m`},
		{"IngressClass", `{metadata: {name: pintle}, spec: {controller: pintle.dev/ingress}}`, `pintle | pintle.dev/ingress | <none> | 5m`},
		{"ControllerRevision", `{metadata: {name: r}, revision: 4}`, `r | <none> | 4 | 5m`},
		{"PolicyModule", `{metadata: {name: m}}`, `m | Upload | Pending | <none> | <none> | 5m | <none> | <none> | `},
		{"PolicyModule", `{metadata: {name: m}, spec: {source: {image: a/b}}, status: {state: Failed, message: no such image, abi: pintle/v1, size: 3355443, digest: "sha256:0123456789abcdef0123", toolchain: Go cmd/compile}}`,
			`m | Image | Failed | pintle/v1 | 3.2Mi | 5m | sha256:0123456789ab | Go cmd/compile | no such image`},
		{"AdmissionPolicy", `{metadata: {name: p}, spec: {module: m, type: mutate, mode: audit, failurePolicy: Fail}, status: {calls: 4, rejections: 1, errors: 0, fuelUsed: 4000, p50: 7.123us, p99: 1.234567ms, digest: "sha256:0123456789abcdef0123", conditions: [{type: Ready, status: "True", reason: Deciding}]}}`,
			`p | m | mutate | audit | Fail | True | 4 | 1 | 0 | 1.23ms | 5m | 7.1µs | 1000 | sha256:0123456789ab | `},
		{"SchedulingPolicy", `{metadata: {name: p}, spec: {module: m, weight: 2, profile: default-scheduler, extensionPoints: [Filter, Permit]}, status: {conditions: [{type: Ready, status: "False", reason: ModuleNotFound, message: no m}]}}`,
			`p | m | Filter,Permit | 2 | default-scheduler | ModuleNotFound | 0 | 0 | 0 | <none> | 5m | <none> | <none> | <none> | no m`},
		{"SchedulingPolicy", `{metadata: {name: p}, spec: {module: m, weight: 1, profile: gpu}}`,
			`p | m | All | 1 | gpu | Unknown | 0 | 0 | 0 | <none> | 5m | <none> | <none> | <none> | `},
		{"DeviceClass", `{metadata: {name: gpu}}`, `gpu | 5m`},
		{"ResourceClaimTemplate", `{metadata: {name: t}}`, `t | 5m`},
		{"ResourceSlice", `{metadata: {name: s}, spec: {driver: d.x, nodeName: n1, pool: {name: p}}}`, `s | n1 | d.x | p | 5m`},
		{"ResourceSlice", `{metadata: {name: s}, spec: {driver: d.x, allNodes: true, pool: {name: p}}}`, `s | <unset> | d.x | p | 5m`},
		{"ResourceClaim", `{metadata: {name: c}}`, `c | pending | 5m`},
		{"ResourceClaim", `{metadata: {name: c}, status: {allocation: {}}}`, `c | allocated | 5m`},
		{"ResourceClaim", `{metadata: {name: c}, status: {allocation: {}, reservedFor: [{resource: pods, name: p, uid: u}]}}`, `c | allocated,reserved | 5m`},
		{"ResourceClaim", `{metadata: {name: c, deletionTimestamp: "2026-01-01T00:00:00Z"}, status: {allocation: {}, reservedFor: [{resource: pods, name: p, uid: u}]}}`, `c | deleted,allocated,reserved | 5m`},
		{"PodGroup", `{metadata: {name: g}, spec: {schedulingPolicy: {gang: {minCount: 4}}, schedulingConstraints: {topology: [{key: rack}]}, disruptionMode: {all: {}}}}`,
			`g | Gang | 4 | Unknown | 5m | rack | All | `},
		{"PodGroup", `{metadata: {name: g}, spec: {schedulingPolicy: {basic: {}}}, status: {conditions: [{type: PodGroupInitiallyScheduled, status: "False", reason: Unschedulable, message: no room}]}}`,
			`g | Basic | 1 | Unschedulable | 5m | <none> | Single | no room`},
		{"Queue", `{metadata: {name: q}, spec: {cohort: all, weight: 2, namespaces: [a], namespaceSelector: {matchLabels: {team: a}}, nominalQuota: {nvidia.com/gpu: 8, cpu: 4}}, status: {admittedPods: 3, pendingPods: 1, admitted: {cpu: 3500m}}}`,
			`q | all | 2 | 3 | 1 | cpu 3500m/4,nvidia.com/gpu 0/8 | 5m | a,(team=a)`},
		{"Recommendation", `{metadata: {name: r}, spec: {targetRef: {kind: Deployment, name: web}}, status: {containers: [{name: a, now: {cpu: "1", memory: 1Gi}, suggested: {cpu: 120m, memory: 90Mi}}, {name: b, suggested: {cpu: 10m}}]}}`,
			`r | Deployment/web | a,b | 1/1Gi,-/- | 120m/90Mi,10m/- | 5m | `},
		{"Recommendation", `{metadata: {name: r}, spec: {targetRef: {kind: Job, name: j}}, status: {message: there is no Job j}}`, `r | Job/j | <none> | <none> | <none> | 5m | there is no Job j`},
		{"Queue", `{metadata: {name: q}, spec: {weight: 1}}`, `q | <none> | 1 | 0 | 0 | <none> | 5m | q`},
		{"Role", `{metadata: {name: r}}`, `r | 2026-01-01T00:00:00Z`},
		{"RoleBinding", `{metadata: {name: r}, roleRef: {kind: Role, name: x}, subjects: [{kind: User, name: u}, {kind: ServiceAccount, namespace: n1, name: s}]}`,
			`r | Role/x | 5m | u |  | n1/s`},
		{"Event", `{metadata: {name: e}, type: Warning, reason: BackOff, message: "back off\n", involvedObject: {kind: Pod, name: p, fieldPath: "spec.containers{c}"}, source: {component: kubelet, host: n1}, firstTimestamp: "2026-01-01T00:04:00Z", lastTimestamp: "2026-01-01T00:04:50Z", count: 3}`,
			`10s | Warning | BackOff | pod/p | spec.containers{c} | kubelet, n1 | back off | 60s | 3 | e`},
	}
	for _, tt := range tests {
		k := kindOf(t, tt.kind)
		if got := printed(k, decode(t, k, tt.object)); got != tt.want {
			t.Errorf("%s\ngot  %s\nwant %s", tt.kind, got, tt.want)
		}
	}
}
