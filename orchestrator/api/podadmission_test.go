package api

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func aPod(t *testing.T, text string) *corev1.Pod {
	k := kindOf(t, "Pod")
	return made(k, decode(t, k, text)).(*corev1.Pod)
}

func TestAPodGetsItsAccountsTokenUnlessItDeclines(t *testing.T) {
	no := false
	for name, tt := range map[string]struct {
		pod     string
		account corev1.ServiceAccount
		mounts  int
	}{
		"by default":           {podWith("", ""), corev1.ServiceAccount{}, 1},
		"the pod declines":     {podWith("", ", automountServiceAccountToken: false"), corev1.ServiceAccount{}, 0},
		"the account declines": {podWith("", ""), corev1.ServiceAccount{AutomountServiceAccountToken: &no}, 0},
		"the pod insists":      {podWith("", ", automountServiceAccountToken: true"), corev1.ServiceAccount{AutomountServiceAccountToken: &no}, 1},
	} {
		p := aPod(t, tt.pod)
		AdmitServiceAccount(p, &tt.account, "abcde")
		if got := len(p.Spec.Containers[0].VolumeMounts); got != tt.mounts || len(p.Spec.Volumes) != tt.mounts {
			t.Errorf("%s: %d mounts of %d volumes", name, got, len(p.Spec.Volumes))
		}
		k := kindOf(t, "Pod")
		k.Default(p)
		if errs := k.Validate(p); len(errs) > 0 {
			t.Errorf("%s: the admitted pod is invalid: %v", name, errs.ToAggregate())
		}
		AdmitServiceAccount(p, &tt.account, "fghij")
		if len(p.Spec.Volumes) != tt.mounts {
			t.Errorf("%s: admitted twice, it has %d volumes", name, len(p.Spec.Volumes))
		}
	}
}

func TestPriorityComesFromTheClass(t *testing.T) {
	classes := []*schedulingv1.PriorityClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 100}, {ObjectMeta: metav1.ObjectMeta{Name: "usual"}, Value: 7, GlobalDefault: true}}
	for _, tt := range []struct {
		spec string
		want int32
		err  string
	}{
		{"", 7, ""},
		{", priorityClassName: high", 100, ""},
		{", priorityClassName: system-node-critical", 2000001000, ""},
		{", priorityClassName: none", 0, "no PriorityClass with name none was found"},
		{", priority: 5", 0, "the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 7 from the given PriorityClass name"},
	} {
		p := aPod(t, podWith("", tt.spec))
		err := AdmitPriority(p, classes)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%q: %v", tt.spec, err)
			}
			continue
		}
		if err != nil || *p.Spec.Priority != tt.want {
			t.Errorf("%q: %v, %v", tt.spec, p.Spec.Priority, err)
		}
	}
}

func TestARuntimeClassBringsOverheadAndNodes(t *testing.T) {
	class := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "w"}, Handler: "wasm",
		Overhead:   &nodev1.Overhead{PodFixed: corev1.ResourceList{"cpu": resource.MustParse("10m")}},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"a": "b"}, Tolerations: []corev1.Toleration{{Key: "w", Operator: corev1.TolerationOpExists}}}}
	p := aPod(t, podWith(", resources: {requests: {cpu: 5m}}", ", runtimeClassName: w"))
	if err := AdmitRuntimeClass(p, class); err != nil {
		t.Fatal(err)
	}
	if r := PodRequests(p); r.Cpu().MilliValue() != 15 || p.Spec.NodeSelector["a"] != "b" || len(p.Spec.Tolerations) != 1 {
		t.Errorf("%v %v %v", r, p.Spec.NodeSelector, p.Spec.Tolerations)
	}
	if err := AdmitRuntimeClass(aPod(t, podWith("", ", runtimeClassName: w")), nil); err == nil {
		t.Error("a class that is not there is accepted")
	}
	if err := AdmitRuntimeClass(aPod(t, podWith("", ", runtimeClassName: w, nodeSelector: {a: c}")), class); err == nil {
		t.Error("a conflict of selectors is accepted")
	}
}

func TestFailingNodesAreToleratedForFiveMinutes(t *testing.T) {
	p := aPod(t, podWith("", ", tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute}]"))
	AdmitTolerations(p)
	AdmitTolerations(p)
	if len(p.Spec.Tolerations) != 2 || *p.Spec.Tolerations[1].TolerationSeconds != 300 || p.Spec.Tolerations[0].TolerationSeconds != nil {
		t.Errorf("%v", p.Spec.Tolerations)
	}
}

func TestRequestsCountSidecarsBesideInitContainers(t *testing.T) {
	p := aPod(t, `{spec: {overhead: {memory: 1Mi}, containers: [{name: a, image: i, resources: {requests: {cpu: 100m, memory: 10Mi}}}], initContainers: [
		{name: s, image: i, restartPolicy: Always, resources: {requests: {cpu: 50m}}},
		{name: i, image: i, resources: {requests: {cpu: 300m}, limits: {memory: 2Mi}}}]}}`)
	r := PodRequests(p)
	if r.Cpu().MilliValue() != 350 || r.Memory().Value() != 11<<20 {
		t.Errorf("%v", r)
	}
}

func TestQualityOfService(t *testing.T) {
	for resources, want := range map[string]corev1.PodQOSClass{
		"{}":                                 corev1.PodQOSBestEffort,
		"{requests: {cpu: 1}}":               corev1.PodQOSBurstable,
		"{limits: {cpu: 1}}":                 corev1.PodQOSBurstable,
		"{limits: {cpu: 1, memory: 1Mi}}":    corev1.PodQOSGuaranteed,
		"{limits: {a.b/c: 1}}":               corev1.PodQOSBestEffort,
		"{requests: {ephemeral-storage: 1}}": corev1.PodQOSBestEffort,
		"{requests: {cpu: 1, memory: 1Mi}, limits: {cpu: 2, memory: 1Mi}}": corev1.PodQOSBurstable,
	} {
		if got := PodQOS(aPod(t, podWith(", resources: "+resources, ""))); got != want {
			t.Errorf("%s is %s", resources, got)
		}
	}
}

func TestServicesKeepWhatWasAllocated(t *testing.T) {
	k := kindOf(t, "Service")
	old := made(k, decode(t, k, `{spec: {type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}}`)).(*corev1.Service)
	update := func(text string) *corev1.Service {
		s := decode(t, k, text).(*corev1.Service)
		k.Default(s)
		k.PrepareUpdate(s, old)
		return s
	}
	if s := update(`{spec: {type: NodePort, ports: [{port: 80}]}}`); s.Spec.ClusterIP != "10.96.0.1" || s.Spec.Ports[0].NodePort != 30080 {
		t.Errorf("%+v", s.Spec)
	}
	if s := update(`{spec: {type: ClusterIP, clusterIP: 10.96.0.1, externalTrafficPolicy: Cluster, ports: [{port: 80, nodePort: 30080}]}}`); s.Spec.Ports[0].NodePort != 0 || s.Spec.ExternalTrafficPolicy != "" {
		t.Errorf("%+v", s.Spec)
	}
	if s := update(`{spec: {type: ExternalName, externalName: a.b, clusterIP: 10.96.0.1}}`); s.Spec.ClusterIP != "" || len(problems(k, s)) > 0 {
		t.Errorf("%+v", s.Spec)
	}
}
