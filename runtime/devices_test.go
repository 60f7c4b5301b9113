package runtime

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhatBecomesOfAPodOnAnUnhealthyDevice(t *testing.T) {
	since := time.Unix(1000, 0)
	seconds := func(n int64) *int64 { return &n }
	toleration := func(key string, op corev1.TolerationOperator, effect corev1.TaintEffect, s *int64) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: op, Effect: effect, TolerationSeconds: s}
	}
	for _, c := range []struct {
		name        string
		annotation  string
		node        string
		tolerations []corev1.Toleration
		after       time.Duration
		want        verdict
	}{
		{"default", "", "", nil, 0, verdict{evict: true}},
		{"said", "evict", "tolerate", nil, 0, verdict{evict: true}},
		{"a word that isn't known", "perhaps", "", nil, 0, verdict{evict: true}},
		{"tolerate", "tolerate", "", nil, time.Hour, verdict{}},
		{"finish", "finish", "", nil, time.Hour, verdict{onExit: true}},
		{"the node's policy", "", "finish", nil, 0, verdict{onExit: true}},
		{"tolerated for a time", "", "", []corev1.Toleration{toleration(UnhealthyDeviceKey, corev1.TolerationOpExists, corev1.TaintEffectNoExecute, seconds(60))}, 59 * time.Second, verdict{at: since.Add(time.Minute)}},
		{"tolerated long enough", "", "", []corev1.Toleration{toleration(UnhealthyDeviceKey, corev1.TolerationOpExists, corev1.TaintEffectNoExecute, seconds(60))}, time.Minute, verdict{evict: true}},
		{"the shortest counts", "", "", []corev1.Toleration{toleration(UnhealthyDeviceKey, corev1.TolerationOpExists, corev1.TaintEffectNoExecute, seconds(60)),
			toleration(UnhealthyDeviceKey, corev1.TolerationOpEqual, "", seconds(5))}, 0, verdict{at: since.Add(5 * time.Second)}},
		{"tolerated forever", "", "", []corev1.Toleration{toleration(UnhealthyDeviceKey, corev1.TolerationOpExists, "", nil)}, time.Hour, verdict{}},
		{"everything is tolerated", "", "", []corev1.Toleration{toleration("", corev1.TolerationOpExists, "", nil)}, time.Hour, verdict{}},
		{"another effect", "", "", []corev1.Toleration{toleration(UnhealthyDeviceKey, corev1.TolerationOpExists, corev1.TaintEffectNoSchedule, nil)}, 0, verdict{evict: true}},
		{"another key", "", "", []corev1.Toleration{toleration("other", corev1.TolerationOpExists, "", nil)}, 0, verdict{evict: true}},
		{"another value", "", "", []corev1.Toleration{{Key: UnhealthyDeviceKey, Value: "x"}}, 0, verdict{evict: true}},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: c.tolerations}}
		if c.annotation != "" {
			pod.Annotations = map[string]string{OnUnhealthyAnnotation: c.annotation}
		}
		if got := onUnhealthy(pod, c.node, since, since.Add(c.after)); got != c.want {
			t.Errorf("%s: %+v, not %+v", c.name, got, c.want)
		}
	}
}

func TestAPatchBringsTheNodeUpToDateAndTakesOnlyOursAway(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"theirs": "1", "fixed": "1"}, Annotations: map[string]string{"theirs": "1"}}}
	apply := func(want DeviceState) string {
		patch := devicePatch(node, want, map[string]string{"fixed": "1"})
		raw, err := json.Marshal(patch)
		if err != nil {
			t.Fatal(err)
		}
		if patch != nil {
			meta := patch["metadata"].(map[string]any)
			for kind, to := range map[string]map[string]string{"labels": node.Labels, "annotations": node.Annotations} {
				changes, _ := meta[kind].(map[string]any)
				for k, v := range changes {
					if v == nil {
						delete(to, k)
					} else {
						to[k] = v.(string)
					}
				}
			}
		}
		return string(raw)
	}
	full := DeviceState{Labels: map[string]string{"a": "1", "b": "2", "fixed": "no"}, Annotations: map[string]string{"gpus": "{}"}}
	apply(full)
	if got := fmt.Sprint(node.Labels); got != "map[a:1 b:2 fixed:1 theirs:1]" || node.Annotations["gpus"] != "{}" {
		t.Fatalf("after the first: %s %v", got, node.Annotations)
	}
	if got := apply(full); got != "null" {
		t.Errorf("what is up to date is patched: %s", got)
	}
	apply(DeviceState{Labels: map[string]string{"a": "2"}})
	if got := fmt.Sprint(node.Labels); got != "map[a:2 fixed:1 theirs:1]" || node.Annotations["gpus"] != "" {
		t.Errorf("after less: %s %v", got, node.Annotations)
	}
	apply(DeviceState{})
	if got := fmt.Sprint(node.Labels, node.Annotations); got != "map[fixed:1 theirs:1] map[theirs:1]" {
		t.Errorf("after nothing: %s", got)
	}
}

func TestANodeSaysWhichDeviceChanged(t *testing.T) {
	var got []string
	for _, e := range deviceEvents(map[string]string{"a": "hot", "b": "lost", "c": "XID 48"}, map[string]string{"a": "hot", "c": "XID 79", "d": "lost"}) {
		got = append(got, strings.Join(e[:], " "))
	}
	want := []string{"Warning DeviceUnhealthy Device c is unhealthy: XID 79", "Warning DeviceUnhealthy Device d is unhealthy: lost", "Normal DeviceHealthy Device b is healthy again"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}
