package api

import (
	"strings"
	"testing"
)

func TestRulesOfStatefulSetsAndDaemonSets(t *testing.T) {
	set := func(annotations, spec string) string {
		return `{metadata: {name: x, annotations: {` + annotations + `}}, spec: {` + spec + `selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, ` +
			`spec: {containers: [{name: c, image: i, volumeMounts: [` + map[bool]string{true: `{name: www, mountPath: /www}`}[strings.Contains(spec, "www")] + `]}]}}}}`
	}
	sts, ds := set, set
	const claim = `volumeClaimTemplates: [{metadata: {name: www}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}], `
	for _, tt := range []struct {
		name, kind, object string
		want               []string
	}{
		{"a mount of a claim", "StatefulSet", sts("", claim), nil},
		{"a mount of nothing", "StatefulSet", sts("", strings.Replace(claim, "name: www", "name: other", 1)+"serviceName: www, "), []string{`spec.template.spec.containers[0].volumeMounts[0].name: Not found: "www"`}},
		{"a claim of nothing", "StatefulSet", sts("", `volumeClaimTemplates: [{metadata: {name: www}, spec: {}}], `), []string{
			`spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required`, `spec.volumeClaimTemplates[0].spec.resources[storage]: Required value`}},
		{"a claim without a name", "StatefulSet", sts("", strings.Replace(claim, "{name: www}", "{}", 1)), []string{`spec.volumeClaimTemplates[0].metadata.name: Required value`}},
		{"a claim twice", "StatefulSet", sts("", strings.Replace(claim, "[{", `[{metadata: {name: www}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}, {`, 1)),
			[]string{`spec.volumeClaimTemplates[1].metadata.name: Duplicate value: "www"`}},
		{"negative replicas", "StatefulSet", sts("", "replicas: -1, "), []string{`spec.replicas: Invalid value: -1: must be greater than or equal to 0`}},
		{"huge replicas", "StatefulSet", sts("", "replicas: 2147483647, ordinals: {start: 2147483647}, "), nil},
		{"a negative start", "StatefulSet", sts("", "ordinals: {start: -1}, "), []string{`spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0`}},
		{"a negative partition", "StatefulSet", sts("", "updateStrategy: {rollingUpdate: {partition: -1}}, "), []string{`spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0`}},
		{"nothing unavailable", "StatefulSet", sts("", "updateStrategy: {rollingUpdate: {maxUnavailable: 0}}, "), []string{`spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0`}},
		{"more than all unavailable", "StatefulSet", sts("", "updateStrategy: {rollingUpdate: {maxUnavailable: 101%}}, "), []string{`spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%`}},
		{"a rolling OnDelete", "StatefulSet", sts("", "updateStrategy: {type: OnDelete, rollingUpdate: {partition: 1}}, "), []string{
			`spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for updateStrategy 'RollingUpdate'`}},
		{"an unknown strategy", "StatefulSet", sts("", "updateStrategy: {type: Odd}, "), []string{`spec.updateStrategy.type: Unsupported value: "Odd": supported values: "OnDelete", "RollingUpdate"`}},
		{"an unknown policy", "StatefulSet", sts("", "podManagementPolicy: Odd, "), []string{`spec.podManagementPolicy: Unsupported value: "Odd": supported values: "OrderedReady", "Parallel"`}},
		{"an unknown retention", "StatefulSet", sts("", "persistentVolumeClaimRetentionPolicy: {whenScaled: Keep}, "), []string{
			`spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "Keep": supported values: "Retain", "Delete"`}},
		{"a service name that is no label", "StatefulSet", sts("", "serviceName: a.b, "), []string{`spec.serviceName: Invalid value: "a.b": must not contain dots`}},
		{"a pod that ends", "StatefulSet", strings.Replace(sts("", ""), "spec: {containers", "spec: {restartPolicy: Never, containers", 1), []string{
			`spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`}},
		{"a rollback that is neither on nor off", "StatefulSet", sts("pintle.dev/auto-rollback: maybe", ""), []string{
			`metadata.annotations[pintle.dev/auto-rollback]: Unsupported value: "maybe": supported values: "true", "false"`}},
		{"a deadline that is none", "DaemonSet", ds("pintle.dev/progress-deadline-seconds: '0'", ""), []string{
			`metadata.annotations[pintle.dev/progress-deadline-seconds]: Invalid value: "0": must be a positive number of seconds`}},
		{"a deadline before ready", "DaemonSet", ds("pintle.dev/progress-deadline-seconds: '5'", "minReadySeconds: 5, "), []string{
			`metadata.annotations[pintle.dev/progress-deadline-seconds]: Invalid value: "5": must be greater than minReadySeconds`}},
		{"surge and unavailable", "DaemonSet", ds("", "updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 1}}, "), []string{
			`spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero`}},
		{"surge alone", "DaemonSet", ds("", "updateStrategy: {rollingUpdate: {maxSurge: 10%, maxUnavailable: 0}}, "), nil},
		{"neither", "DaemonSet", ds("", "updateStrategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}, "), []string{
			`spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0`}},
		{"an unknown strategy of daemons", "DaemonSet", ds("", "updateStrategy: {type: Odd}, "), []string{`spec.updateStrategy.type: Unsupported value: "Odd": supported values: "OnDelete", "RollingUpdate"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := kindOf(t, tt.kind)
			wantErrors(t, problems(k, made(k, decode(t, k, tt.object))), tt.want...)
		})
	}
}

func TestWhatMayNotChangeInSets(t *testing.T) {
	k := kindOf(t, "StatefulSet")
	const forbidden = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', " +
		"'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
	for change, want := range map[string]string{
		"replicas: 7": "", "ordinals: {start: 3}": "", "minReadySeconds: 3": "", "revisionHistoryLimit: 3": "", "updateStrategy: {type: OnDelete}": "",
		"persistentVolumeClaimRetentionPolicy: {whenScaled: Delete}": "",
		"podManagementPolicy: Parallel":                              forbidden,
		"volumeClaimTemplates: [{metadata: {name: www}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]": forbidden,
	} {
		old, now := made(k, decode(t, k, statefulSetWith("minReadySeconds: 0"))), made(k, decode(t, k, statefulSetWith(change)))
		var wants []string
		if want != "" {
			wants = []string{want}
		}
		wantErrors(t, k.ValidateUpdate(now, old), wants...)
	}
	if errs := k.ValidName("web.1"); len(errs) == 0 {
		t.Error("a name with a dot is accepted: it is part of host names")
	}
	d := kindOf(t, "DaemonSet")
	old, now := made(d, decode(t, d, minimal()["DaemonSet"])), made(d, decode(t, d, strings.ReplaceAll(minimal()["DaemonSet"], "app: a", "app: b")))
	if errs := d.ValidateUpdate(now, old); len(errs) != 1 || errs[0].Field != "spec.selector" {
		t.Errorf("another selector: %v", errs)
	}
}
