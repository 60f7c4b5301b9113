package volumeexpand

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

func object[T any](t testing.TB, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return o
}

func TestDecideHowAClaimGrows(t *testing.T) {
	claim := func(want, have, more string) string {
		return `{metadata: {name: c, namespace: ns, uid: u, annotations: {pv.kubernetes.io/bind-completed: "yes"}}, spec: {volumeName: v, resources: {requests: {storage: ` + want + `}}}, status: {phase: Bound, capacity: {storage: ` + have + `}` + more + `}}`
	}
	volume := func(size, by string) string {
		return `{metadata: {name: v, annotations: {pv.kubernetes.io/provisioned-by: ` + by + `}}, spec: {capacity: {storage: ` + size + `}, claimRef: {namespace: ns, name: c, uid: u}}}`
	}
	const pending = `, conditions: [{type: Resizing, status: "True"}], allocatedResources: {storage: 2Gi}, allocatedResourceStatuses: {storage: NodeResizePending}`
	const infeasible = `, conditions: [{type: Resizing, status: "True"}], allocatedResources: {storage: 2Gi}, allocatedResourceStatuses: {storage: NodeResizeInfeasible}`
	for name, tt := range map[string]struct{ claim, volume, want string }{
		"as large as it should be":        {claim("1Gi", "1Gi", ""), volume("1Gi", "pintle.dev/local-path"), "1Gi"},
		"larger than it asked":            {claim("1Gi", "5Gi", ""), volume("5Gi", "pintle.dev/local-path"), "5Gi"},
		"it asks for more":                {claim("2Gi", "1Gi", ""), volume("1Gi", "pintle.dev/local-path"), "1Gi Resizing 2Gi NodeResizePending: Resizing"},
		"it waits":                        {claim("2Gi", "1Gi", pending), volume("1Gi", "pintle.dev/local-path"), "1Gi Resizing 2Gi NodeResizePending"},
		"it can't be":                     {claim("2Gi", "1Gi", infeasible), volume("1Gi", "pintle.dev/local-path"), "1Gi Resizing 2Gi NodeResizeInfeasible"},
		"and it asks for less":            {claim("1536Mi", "1Gi", infeasible), volume("1Gi", "pintle.dev/local-path"), "1Gi Resizing 1536Mi NodeResizePending"},
		"it has it":                       {claim("2Gi", "1Gi", pending), volume("2Gi", "pintle.dev/local-path"), "2Gi 2Gi : VolumeResizeSuccessful"},
		"it has some, and asks for more":  {claim("3Gi", "1Gi", pending), volume("2Gi", "pintle.dev/local-path"), "2Gi Resizing 3Gi NodeResizePending"},
		"a driver's":                      {claim("2Gi", "1Gi", ""), volume("1Gi", "d.x"), "-: ExternalExpanding"},
		"a driver's, that the node grows": {claim("2Gi", "1Gi", ""), volume("2Gi", "d.x"), "-"},
		"not bound":                       {`{metadata: {name: c, namespace: ns, uid: u}, spec: {volumeName: v, resources: {requests: {storage: 2Gi}}}, status: {phase: Pending}}`, volume("1Gi", "pintle.dev/local-path"), "-"},
	} {
		t.Run(name, func(t *testing.T) {
			status, e := decide(object[corev1.PersistentVolumeClaim](t, tt.claim), object[corev1.PersistentVolume](t, tt.volume), metav1.NewTime(time.Now()))
			got := "-"
			if status != nil {
				q := status.Capacity[corev1.ResourceStorage]
				got = q.String()
				for _, c := range status.Conditions {
					got += " " + string(c.Type)
				}
				if a, ok := status.AllocatedResources[corev1.ResourceStorage]; ok {
					got += fmt.Sprintf(" %s %s", a.String(), status.AllocatedResourceStatuses[corev1.ResourceStorage])
				}
			}
			if e != nil {
				got += ": " + e.reason
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
