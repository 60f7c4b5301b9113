package runtime

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestDecide(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	always := corev1.ContainerRestartPolicyAlways
	ctr := func(name string, attempt int, st ContainerState, code int, ago time.Duration) history {
		return history{last: &Container{ID: fmt.Sprintf("%s-%d", name, attempt), Name: name, Attempt: attempt, State: st, ExitCode: code, FinishedAt: now.Add(-ago)}}
	}
	type m = map[string]history
	base := func(policy corev1.RestartPolicy, init ...corev1.Container) *snapshot {
		return &snapshot{pod: &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: policy, InitContainers: init, Containers: []corev1.Container{{Name: "c"}}}},
			sandbox: &Sandbox{Ready: true}, now: now, startedAt: now, containers: m{}, probes: map[string]probeView{}, backoff: map[string]backoff{}}
	}
	sidecar := corev1.Container{Name: "s", RestartPolicy: &always}
	for _, tc := range []struct {
		name string
		s    *snapshot
		edit func(*snapshot)
		want string
	}{
		{"no sandbox", base("Always"), func(s *snapshot) { s.sandbox = nil }, "create-sandbox"},
		{"a lost sandbox is replaced", base("Always"), func(s *snapshot) { s.sandbox.Ready = false }, "remove-sandbox"},
		{"containers start", base("Always"), nil, "start c#0"},
		{"init first", base("Always", corev1.Container{Name: "i"}), nil, "start i#0"},
		{"init that ended well", base("Always", corev1.Container{Name: "i"}), func(s *snapshot) { s.containers = m{"i": ctr("i", 0, Exited, 0, 0)} }, "start c#0"},
		{"init that failed", base("Always", corev1.Container{Name: "i"}), func(s *snapshot) { s.containers = m{"i": ctr("i", 0, Exited, 1, 0)} }, "restart i#1"},
		{"init isn't run again under a main container", base("Always", corev1.Container{Name: "i"}), func(s *snapshot) { s.containers = m{"c": ctr("c", 0, Running, 0, 0)} }, ""},
		{"a sidecar that isn't up holds the rest", base("Always", sidecar), func(s *snapshot) { s.containers = m{"s": ctr("s", 0, Running, 0, 0)} }, ""},
		{"a sidecar that is up", base("Always", sidecar), func(s *snapshot) {
			s.containers, s.probes = m{"s": ctr("s", 0, Running, 0, 0)}, map[string]probeView{"s": {id: "s-0", started: true}}
		}, "start c#0"},
		{"first restart is immediate", base("Always"), func(s *snapshot) { s.containers = m{"c": ctr("c", 0, Exited, 1, 0)} }, "restart c#1"},
		{"second restart waits", base("Always"), func(s *snapshot) {
			s.containers, s.backoff = m{"c": ctr("c", 1, Exited, 1, time.Second)}, map[string]backoff{"c": {10 * time.Second, now}}
		}, "back-off wake 9s"},
		{"and then happens", base("Always"), func(s *snapshot) {
			s.containers, s.backoff = m{"c": ctr("c", 1, Exited, 1, 11*time.Second)}, map[string]backoff{"c": {10 * time.Second, now}}
		}, "restart c#2"},
		{"never restarts", base("Never"), func(s *snapshot) { s.containers = m{"c": ctr("c", 0, Exited, 1, 0)} }, "kill-pod done"},
		{"on failure, success is final", base("OnFailure"), func(s *snapshot) { s.containers = m{"c": ctr("c", 0, Exited, 0, 0)} }, "kill-pod done"},
		{"liveness", base("Always"), func(s *snapshot) {
			s.containers, s.probes = m{"c": ctr("c", 0, Running, 0, 0)}, map[string]probeView{"c": {id: "c-0", failed: "liveness"}}
		}, "stop"},
		{"a probe of an earlier attempt says nothing", base("Always"), func(s *snapshot) {
			s.containers, s.probes = m{"c": ctr("c", 1, Running, 0, 0)}, map[string]probeView{"c": {id: "c-0", failed: "liveness"}}
		}, ""},
		{"refused", base("Always"), func(s *snapshot) { s.sandbox, s.refused = nil, &refusal{reason: "OutOfcpu", message: ""} }, "done OutOfcpu"},
		{"deadline ahead", base("Always"), func(s *snapshot) {
			d := int64(60)
			s.pod.Spec.ActiveDeadlineSeconds, s.containers = &d, m{"c": ctr("c", 0, Running, 0, 0)}
		}, "wake 1m0s"},
		{"deadline passed", base("Always"), func(s *snapshot) {
			d := int64(60)
			s.pod.Spec.ActiveDeadlineSeconds, s.containers, s.startedAt = &d, m{"c": ctr("c", 0, Running, 0, 0)}, now.Add(-time.Minute)
		}, "kill-pod done DeadlineExceeded"},
		{"counting goes on after a reboot", base("Always"), func(s *snapshot) {
			s.pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", ContainerID: "x://y", RestartCount: 4}}
		}, "start c#5"},
	} {
		if tc.edit != nil {
			tc.edit(tc.s)
		}
		p := decide(tc.s)
		var got []string
		for _, a := range p.actions {
			s := a.kind.String()
			if a.kind == actStart || a.kind == actRestart {
				s += fmt.Sprintf(" %s#%d", a.container.Name, a.attempt)
			}
			got = append(got, s)
		}
		if p.done {
			got = append(got, "done")
		}
		if p.failed != nil {
			got = append(got, p.failed.reason)
		}
		if !p.wake.IsZero() {
			got = append(got, "wake "+p.wake.Sub(now).String())
		}
		if g := strings.Join(got, " "); g != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, g, tc.want)
		}
	}
}

func TestExpand(t *testing.T) {
	vars := map[string]string{"A": "1", "B": "$(A)"}
	for in, want := range map[string]string{"$(A)": "1", "$$(A)": "$(A)", "$(NO)": "$(NO)", "$(B)": "$(A)", "x$": "x$", "$(A": "$(A", "$A": "$A", "a$(A)b$(A)": "a1b1"} {
		if got := expand(in, vars); got != want {
			t.Errorf("expand(%q) = %q, want %q", in, got, want)
		}
	}
}
