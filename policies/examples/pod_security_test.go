package examples

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/pintle/pintle/policies/abi"
)

// restricted is a pod that keeps to the profile.
const restricted = `{
	"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
	"spec": {
		"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
		"volumes": [{"name": "tmp", "emptyDir": {}}],
		"initContainers": [{"name": "init", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
		"containers": [{"name": "app", "ports": [{"containerPort": 80}],
			"securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}},
			"livenessProbe": {"httpGet": {"path": "/", "port": 80}}}]
	}
}`

// with is the restricted pod with a value at a path; null takes away what is there.
func with(t *testing.T, pairs ...string) string {
	t.Helper()
	var object any
	if err := json.Unmarshal([]byte(restricted), &object); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		var value any
		if err := json.Unmarshal([]byte(pairs[i+1]), &value); err != nil {
			t.Fatal(err)
		}
		at, keys := object, strings.Split(pairs[i], ".")
		for _, key := range keys[:len(keys)-1] {
			if list, ok := at.([]any); ok {
				at = list[0]
			}
			m := at.(map[string]any)
			if m[key] == nil {
				m[key] = map[string]any{}
			}
			at = m[key]
		}
		if list, ok := at.([]any); ok {
			at = list[0]
		}
		at.(map[string]any)[keys[len(keys)-1]] = value
	}
	out, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestPodSecurityRestricted(t *testing.T) {
	const app, context = "spec.containers.", "spec.containers.securityContext."
	type change = []string
	cases := []struct {
		name   string
		change change
		want   string // empty: allowed
	}{
		{"restricted", nil, ""},
		{"hostNetwork", change{"spec.hostNetwork", `true`}, "hostNetwork must not be true"},
		{"hostPID", change{"spec.hostPID", `true`}, "hostPID must not be true"},
		{"hostIPC", change{"spec.hostIPC", `true`}, "hostIPC must not be true"},
		{"hostIPC false", change{"spec.hostIPC", `false`}, ""},
		{"privileged", change{context + "privileged", `true`}, `container "app": securityContext.privileged must not be true`},
		{"host process", change{context + "windowsOptions", `{"hostProcess": true}`}, `container "app": securityContext.windowsOptions.hostProcess must not be true`},
		{"host process of the pod", change{"spec.securityContext.windowsOptions", `{"hostProcess": true}`}, `securityContext.windowsOptions.hostProcess must not be true`},
		{"drop", change{context + "capabilities", `{"drop": ["NET_RAW"]}`}, `container "app": securityContext.capabilities.drop must include ALL`},
		{"drop nothing", change{context + "capabilities", `null`}, `container "app": securityContext.capabilities.drop must include ALL`},
		{"drop all in small letters", change{context + "capabilities", `{"drop": ["all"]}`}, `container "app": securityContext.capabilities.drop must include ALL`},
		{"add", change{context + "capabilities.add", `["NET_BIND_SERVICE", "SYS_ADMIN"]`}, `container "app": securityContext.capabilities.add must not include SYS_ADMIN`},
		{"escalation", change{context + "allowPrivilegeEscalation", `true`}, `container "app": securityContext.allowPrivilegeEscalation must be false`},
		{"escalation by default", change{context + "allowPrivilegeEscalation", `null`}, `container "app": securityContext.allowPrivilegeEscalation must be false`},
		{"escalation of an init container", change{"spec.initContainers.securityContext.allowPrivilegeEscalation", `true`}, `container "init": securityContext.allowPrivilegeEscalation must be false`},
		{"root", change{context + "runAsUser", `0`}, `container "app": securityContext.runAsUser must not be 0`},
		{"root of the pod", change{"spec.securityContext.runAsUser", `0`}, `securityContext.runAsUser must not be 0`},
		{"somebody", change{context + "runAsUser", `1000`}, ""},
		{"non-root by the containers", change{"spec.securityContext.runAsNonRoot", `null`, context + "runAsNonRoot", `true`, "spec.initContainers.securityContext.runAsNonRoot", `true`}, ""},
		{"non-root by one container", change{"spec.securityContext.runAsNonRoot", `null`, context + "runAsNonRoot", `true`}, `container "init": securityContext.runAsNonRoot must be true`},
		{"non-root taken back", change{context + "runAsNonRoot", `false`}, `container "app": securityContext.runAsNonRoot must be true`},
		{"non-root refused by the pod", change{"spec.securityContext.runAsNonRoot", `false`, context + "runAsNonRoot", `true`, "spec.initContainers.securityContext.runAsNonRoot", `true`}, `securityContext.runAsNonRoot must be true`},
		{"seccomp unconfined", change{"spec.securityContext.seccompProfile.type", `"Unconfined"`}, `securityContext.seccompProfile.type must be RuntimeDefault or Localhost`},
		{"seccomp of a container", change{context + "seccompProfile", `{"type": "Unconfined"}`}, `container "app": securityContext.seccompProfile.type must be RuntimeDefault or Localhost`},
		{"seccomp by one container", change{"spec.securityContext.seccompProfile", `null`, context + "seccompProfile", `{"type": "Localhost"}`}, `container "init": securityContext.seccompProfile.type must be RuntimeDefault or Localhost`},
		{"SELinux type", change{"spec.securityContext.seLinuxOptions", `{"type": "spc_t"}`}, `securityContext.seLinuxOptions.type must be a container's`},
		{"SELinux container type", change{"spec.securityContext.seLinuxOptions", `{"type": "container_engine_t", "level": "s0"}`}, ""},
		{"SELinux user", change{context + "seLinuxOptions", `{"user": "root"}`}, `container "app": securityContext.seLinuxOptions.user must not be set`},
		{"SELinux role", change{context + "seLinuxOptions", `{"role": "r"}`}, `container "app": securityContext.seLinuxOptions.role must not be set`},
		{"AppArmor", change{context + "appArmorProfile", `{"type": "Unconfined"}`}, `container "app": securityContext.appArmorProfile.type must be RuntimeDefault or Localhost`},
		{"AppArmor of the pod", change{"spec.securityContext.appArmorProfile", `{"type": "RuntimeDefault"}`}, ""},
		{"AppArmor's annotation", change{"metadata.annotations", `{"container.apparmor.security.beta.kubernetes.io/app": "unconfined"}`}, `annotation container.apparmor.security.beta.kubernetes.io/app must be runtime/default or localhost/…`},
		{"AppArmor's good annotation", change{"metadata.annotations", `{"container.apparmor.security.beta.kubernetes.io/app": "localhost/x"}`}, ""},
		{"proc", change{context + "procMount", `"Unmasked"`}, `container "app": securityContext.procMount must be Default`},
		{"proc by default", change{context + "procMount", `"Default"`}, ""},
		{"sysctl", change{"spec.securityContext.sysctls", `[{"name": "net.ipv4.tcp_rmem", "value": "1"}, {"name": "kernel.msgmax", "value": "1"}]`}, `sysctl kernel.msgmax is not a safe one`},
		{"host port", change{app + "ports", `[{"containerPort": 80, "hostPort": 80}]`}, `container "app": ports.hostPort must not be set`},
		{"host port 0", change{app + "ports", `[{"containerPort": 80, "hostPort": 0}]`}, ""},
		{"a probe's host", change{app + "readinessProbe", `{"tcpSocket": {"host": "169.254.169.254", "port": 80}}`}, `container "app": readinessProbe.tcpSocket.host must not be set`},
		{"a hook's host", change{app + "lifecycle", `{"preStop": {"httpGet": {"host": "127.0.0.1", "port": 80}}}`}, `container "app": lifecycle.preStop.httpGet.host must not be set`},
		{"hostPath", change{"spec.volumes", `[{"name": "v", "hostPath": {"path": "/"}}]`}, `volume "v": type hostPath is not allowed`},
		{"an image volume", change{"spec.volumes", `[{"name": "v", "image": {"reference": "x"}}]`}, `volume "v": type image is not allowed`},
		{"a volume without a type", change{"spec.volumes", `[{"name": "v", "nfs": null}]`}, `volume "v": has no type`},
		{"all good volumes", change{"spec.volumes", `[{"name":"a","configMap":{}},{"name":"b","csi":{}},{"name":"c","downwardAPI":{}},{"name":"d","ephemeral":{}},{"name":"e","persistentVolumeClaim":{}},{"name":"f","projected":{}},{"name":"g","secret":{}}]`}, ""},
		{"an ephemeral container", change{"spec.ephemeralContainers", `[{"name": "debug", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "privileged": true}}]`}, `container "debug": securityContext.privileged must not be true`},
		{"Windows needs less", change{"spec.os", `{"name": "windows"}`, context + "capabilities", `null`, context + "allowPrivilegeEscalation", `null`, "spec.securityContext.seccompProfile", `null`}, ""},
		{"Windows is no privilege", change{"spec.os", `{"name": "windows"}`, context + "privileged", `true`}, `container "app": securityContext.privileged must not be true`},
		{"two faults", change{"spec.hostPID", `true`, context + "privileged", `true`}, `hostPID must not be true; container "app": securityContext.privileged must not be true`},
	}
	// What carries a pod template, and where.
	carriers := map[string][2]string{
		"Pod": {"", ""}, "Deployment": {`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{},"spec":{"template":`, `}}`},
		"CronJob":     {`{"apiVersion":"batch/v1","kind":"CronJob","metadata":{},"spec":{"jobTemplate":{"spec":{"template":`, `}}}}`},
		"PodTemplate": {`{"apiVersion":"v1","kind":"PodTemplate","metadata":{},"template":`, `}`},
	}
	each(t, "pod-security-restricted", abi.Admission, func(t *testing.T, g *example) {
		g.mustSet(t, `{"exemptNamespaces": ["kube-system"]}`)
		for _, kind := range slices.Sorted(maps.Keys(carriers)) {
			for _, c := range cases {
				want := c.want
				if want != "" {
					want = "not restricted: " + want
				}
				object := carriers[kind][0] + with(t, c.change...) + carriers[kind][1]
				if got := g.admit(t, write(t, abi.Create, object, "")); got != want {
					t.Errorf("%s, %s: %q, want %q", kind, c.name, got, want)
				}
			}
		}
		bad := with(t, "spec.hostPID", `true`)
		exempt := write(t, abi.Create, bad, "")
		exempt.Namespace = "kube-system"
		if got := g.admit(t, exempt); got != "" {
			t.Errorf("an exempt namespace is refused: %q", got)
		}
		if got := g.admit(t, write(t, abi.Update, bad, bad)); got != "" {
			t.Errorf("a pod from before, which changes nothing, is refused: %q", got)
		}
		if got := g.admit(t, write(t, abi.Update, bad, restricted)); got == "" {
			t.Error("an update to a worse pod is allowed")
		}
		if got := g.admit(t, write(t, abi.Create, `{"apiVersion":"v1","kind":"Service","metadata":{},"spec":{}}`, "")); got != "" {
			t.Errorf("a Service is refused: %q", got)
		}
		g.refusesSettings(t, `{"exemptNamespaces": "x"}`, "settings.exemptNamespaces: want a list of namespaces")
		g.refusesSettings(t, `{"exempt": []}`, `settings: unknown field "exempt"`)
	})
}
