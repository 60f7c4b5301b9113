package api

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// minimal holds the least that a user may write of each kind.
func minimal() map[string]string {
	const template = `{metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: i}]}}`
	const jobTemplate = `{metadata: {labels: {app: a}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}`
	return map[string]string{
		"Job":                     `{metadata: {name: x}, spec: {template: ` + jobTemplate + `}}`,
		"CronJob":                 `{metadata: {name: x}, spec: {schedule: "* * * * *", jobTemplate: {spec: {template: ` + jobTemplate + `}}}}`,
		"HorizontalPodAutoscaler": `{metadata: {name: x}, spec: {scaleTargetRef: {kind: Deployment, name: d, apiVersion: apps/v1}, maxReplicas: 3}}`,

		"Namespace":             `{metadata: {name: x}}`,
		"Node":                  `{metadata: {name: x}}`,
		"Pod":                   `{metadata: {name: x}, spec: {containers: [{name: c, image: i}]}}`,
		"Service":               `{metadata: {name: x}, spec: {selector: {app: a}, ports: [{port: 80}]}}`,
		"Endpoints":             `{metadata: {name: x}, subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 80}]}]}`,
		"EndpointSlice":         `{metadata: {name: x}, addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}], ports: [{port: 80}]}`,
		"ConfigMap":             `{metadata: {name: x}, data: {k: v}}`,
		"Secret":                `{metadata: {name: x}, stringData: {k: v}}`,
		"ServiceAccount":        `{metadata: {name: x}}`,
		"Event":                 `{metadata: {name: x}, involvedObject: {kind: Pod, name: p}, reason: R, message: m}`,
		"Lease":                 `{metadata: {name: x}, spec: {holderIdentity: me, leaseDurationSeconds: 40}}`,
		"ReplicaSet":            `{metadata: {name: x}, spec: {selector: {matchLabels: {app: a}}, template: ` + template + `}}`,
		"Deployment":            `{metadata: {name: x}, spec: {selector: {matchLabels: {app: a}}, template: ` + template + `}}`,
		"StatefulSet":           `{metadata: {name: x}, spec: {selector: {matchLabels: {app: a}}, template: ` + template + `}}`,
		"DaemonSet":             `{metadata: {name: x}, spec: {selector: {matchLabels: {app: a}}, template: ` + template + `}}`,
		"ControllerRevision":    `{metadata: {name: x}, revision: 1, data: {a: b}}`,
		"Ingress":               `{metadata: {name: x}, spec: {defaultBackend: {service: {name: s, port: {number: 80}}}}}`,
		"IngressClass":          `{metadata: {name: x}, spec: {controller: pintle.dev/ingress}}`,
		"RuntimeClass":          `{metadata: {name: x}, handler: wasm}`,
		"PriorityClass":         `{metadata: {name: x}, value: 10}`,
		"PodDisruptionBudget":   `{metadata: {name: x}, spec: {minAvailable: 1, selector: {matchLabels: {app: a}}}}`,
		"Role":                  `{metadata: {name: x}, rules: [{verbs: [get], apiGroups: [""], resources: [pods]}]}`,
		"ClusterRole":           `{metadata: {name: x}, rules: [{verbs: [get], nonResourceURLs: ["/healthz"]}]}`,
		"RoleBinding":           `{metadata: {name: x}, roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: u}]}`,
		"Member":                `{metadata: {name: x}, spec: {role: Voter}}`,
		"PolicyModule":          `{metadata: {name: x}}`,
		"AdmissionPolicy":       `{metadata: {name: x}, spec: {module: m, matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]}}}`,
		"SchedulingPolicy":      `{metadata: {name: x}, spec: {module: m}}`,
		"DeviceClass":           `{metadata: {name: x}, spec: {selectors: [{cel: {expression: "device.driver == 'd.x'"}}]}}`,
		"ResourceClaim":         `{metadata: {name: x}, spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}]}}}`,
		"ResourceClaimTemplate": `{metadata: {name: x}, spec: {spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}]}}}}`,
		"ResourceSlice":         sliceWith("attributes: {a: {int: 1}}"),
		"ClusterRoleBinding":    `{metadata: {name: x}, roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: ServiceAccount, name: u, namespace: n}]}`,
		"PersistentVolume":      `{metadata: {name: x}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /data}}}`,
		"PersistentVolumeClaim": `{metadata: {name: x}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`,
		"StorageClass":          `{metadata: {name: x}, provisioner: pintle.dev/local-path}`,
		"VolumeAttachment":      `{metadata: {name: x}, spec: {attacher: d.x, nodeName: n, source: {persistentVolumeName: v}}}`,
		"CSIDriver":             `{metadata: {name: x}, spec: {}}`,
		"CSINode":               `{metadata: {name: x}, spec: {drivers: [{name: d.x, nodeID: n, topologyKeys: [a/b]}]}}`,
		"CSIStorageCapacity":    `{metadata: {name: x}, storageClassName: c, capacity: 1Gi}`,
		"PodGroup":              `{metadata: {name: x}, spec: {schedulingPolicy: {gang: {minCount: 2}}}}`,
		"AddressPool":           `{metadata: {name: x}, spec: {addresses: [192.168.1.240-192.168.1.250]}}`,
		"ServiceCIDR":           `{metadata: {name: x}, spec: {cidrs: [10.7.0.0/24]}}`,
		"IPAddress":             `{metadata: {name: 10.7.0.1}, spec: {parentRef: {resource: services, namespace: n, name: s}}}`,
		"ResourceQuota":         `{metadata: {name: x}, spec: {hard: {pods: "4"}}}`,
		"LimitRange":            `{metadata: {name: x}, spec: {limits: [{type: Container, max: {cpu: "1"}}]}}`,
		"Recommendation":        `{metadata: {name: x}, spec: {targetRef: {kind: Deployment, name: web}}}`,
		"Queue":                 `{metadata: {name: x}, spec: {nominalQuota: {cpu: "4"}}}`,
	}
}

func decode(t testing.TB, k *Kind, text string) Object {
	t.Helper()
	o := k.New()
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatalf("%s: %v", k.GroupVersionKind.Kind, err)
	}
	return o
}

// made is the object as the registry makes it: prepared, defaulted.
func made(k *Kind, o Object) Object {
	if k.PrepareCreate != nil {
		k.PrepareCreate(o)
	}
	if k.Default != nil {
		k.Default(o)
	}
	return o
}

func problems(k *Kind, o Object) field.ErrorList {
	if k.Validate == nil {
		return nil
	}
	return k.Validate(o)
}

// exercise calls every function of the kind; nothing may panic.
func exercise(k *Kind, o, old Object) {
	made(k, o)
	problems(k, o)
	for _, pair := range [][2]Object{{o, old}, {old, o}} {
		a, b := pair[0].DeepCopyObject().(Object), pair[1].DeepCopyObject().(Object)
		if k.ValidateUpdate != nil {
			k.ValidateUpdate(a, b)
		}
		if s := k.Status; s != nil && s.ValidateUpdate != nil {
			s.ValidateUpdate(a, b)
		}
		if k.PrepareUpdate != nil {
			k.PrepareUpdate(a.DeepCopyObject().(Object), b)
		}
		if s := k.Status; s != nil && s.PrepareUpdate != nil {
			s.PrepareUpdate(a.DeepCopyObject().(Object), b)
		}
	}
	k.Row(o)
	if k.Fields != nil {
		k.Fields(o)
	}
	if s := k.Scale; s != nil {
		s.Selector(o)
		s.SpecReplicas(o)
		s.StatusReplicas(o)
		s.SetReplicas(o.DeepCopyObject().(Object), 3)
	}
	if k.ToStored != nil {
		if core, err := k.ToStored(o); err == nil {
			_, _ = k.FromStored(core)
		}
	}
}

func eachKind(t *testing.T, f func(t *testing.T, k *Kind)) {
	for _, k := range All() {
		t.Run(k.Resource+"."+k.GroupVersionKind.Group, func(t *testing.T) { f(t, k) })
	}
}

func TestEveryKindIsKnownByItsNames(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kind) {
		for _, o := range []runtime.Object{k.New(), k.NewList()} {
			gvks, _, err := Scheme().ObjectKinds(o)
			if err != nil {
				t.Fatal(err)
			}
			want := k.GroupVersionKind.Kind
			if _, isObject := o.(metav1.Object); !isObject {
				want += "List"
			}
			if gvks[0].GroupVersion() != k.GroupVersionKind.GroupVersion() || gvks[0].Kind != want {
				t.Errorf("%T is %v in the scheme", o, gvks)
			}
		}
		if got := ByGVR(All(), k.GVR()); got == nil || got.GroupVersionKind != k.GroupVersionKind {
			t.Error("not found by its resource")
		}
		if got := ByGVK(All(), k.GroupVersionKind); got == nil || got.Resource != k.Resource {
			t.Error("not found by its kind")
		}
		if k.Singular != strings.ToLower(k.GroupVersionKind.Kind) {
			t.Errorf("singular is %q", k.Singular)
		}
	})
}

func TestResourcesAndShortNamesAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, k := range All() {
		id := k.GVR().String()
		if k.StoredAs.Resource != "" {
			continue // another view of a kind, under the same names
		}
		for _, name := range append([]string{k.Resource}, k.ShortNames...) {
			if other := seen[name]; other != "" {
				t.Errorf("%q names both %s and %s", name, other, id)
			}
			seen[name] = id
		}
	}
}

func TestAMinimalObjectOfEveryKindIsValid(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kind) {
		text, ok := minimal()[k.GroupVersionKind.Kind]
		if !ok {
			t.Fatal("no minimal object: add one")
		}
		if k.Resource == "events" && k.StoredAs.Resource != "" {
			text = `{metadata: {name: x}, eventTime: 2026-01-01T00:00:00.000000Z, action: A, type: Normal, reportingController: c, reportingInstance: i, regarding: {kind: Pod, name: p}, reason: R}`
		}
		o := made(k, decode(t, k, text))
		if errs := problems(k, o); len(errs) > 0 {
			t.Error(errs.ToAggregate())
		}
		if k.ValidateUpdate != nil {
			if errs := k.ValidateUpdate(o, o.DeepCopyObject().(Object)); len(errs) > 0 {
				t.Errorf("an update that changes nothing: %v", errs.ToAggregate())
			}
		}
		exercise(k, o, k.New())
	})
}

func TestDefaultsAreIdempotent(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kind) {
		if k.Default == nil {
			t.Skip("none")
		}
		for _, text := range []string{minimal()[k.GroupVersionKind.Kind], `{}`} {
			o := made(k, decode(t, k, text))
			again := o.DeepCopyObject().(Object)
			k.Default(again)
			if !apiequality.Semantic.DeepEqual(o, again) {
				t.Errorf("defaulting %s twice changes it", text)
			}
		}
	})
}

func TestCellsMatchColumns(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kind) {
		o := made(k, k.New())
		if got, want := len(k.Row(o)), len(k.Columns); got != want {
			t.Fatalf("%d cells for %d columns", got, want)
		}
		if k.Columns[0].Name != "Name" && k.Resource != "events" {
			t.Errorf("the first column is %q", k.Columns[0].Name)
		}
		for i, cell := range k.Row(o) {
			switch cell.(type) {
			case string, bool, int64, metav1.Time, AgoCell:
			default:
				t.Errorf("cell %q is a %T, which JSON readers of a Table don't expect", k.Columns[i].Name, cell)
			}
		}
	})
}

func TestRowsAndSelectorsDoNotChangeTheObject(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kind) {
		o := made(k, decode(t, k, strings.ReplaceAll(minimalOf(k), "name: x", "name: x, labels: {b: c}")))
		before := o.DeepCopyObject()
		problems(k, o)
		k.Row(o)
		if k.Fields != nil {
			k.Fields(o)
		}
		if !apiequality.Semantic.DeepEqual(before, o) {
			t.Error("changed")
		}
	})
}

func minimalOf(k *Kind) string {
	if k.Resource == "events" && k.StoredAs.Resource != "" {
		return `{metadata: {name: x}, eventTime: 2026-01-01T00:00:00.000000Z}`
	}
	return minimal()[k.GroupVersionKind.Kind]
}

func TestGenerationCountsChangesOfTheSpecOnly(t *testing.T) {
	for _, kind := range []string{"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "Ingress", "IngressClass", "HorizontalPodAutoscaler",
		"PodDisruptionBudget", "AdmissionPolicy", "SchedulingPolicy"} {
		k := All()[slices.IndexFunc(All(), func(k *Kind) bool { return k.GroupVersionKind.Kind == kind })]
		old := made(k, decode(t, k, minimal()[kind]))
		if old.GetGeneration() != 1 {
			t.Errorf("%s starts at generation %d", kind, old.GetGeneration())
		}
		same := old.DeepCopyObject().(Object)
		same.SetLabels(map[string]string{"a": "b"})
		same.SetGeneration(77)
		k.PrepareUpdate(same, old)
		if same.GetGeneration() != 1 {
			t.Errorf("%s: a label makes generation %d", kind, same.GetGeneration())
		}
		changed := old.DeepCopyObject().(Object)
		spec := reflect.ValueOf(changed).Elem().FieldByName("Spec")
		spec.Set(reflect.Zero(spec.Type()))
		k.PrepareUpdate(changed, old)
		if changed.GetGeneration() != 2 {
			t.Errorf("%s: a new spec makes generation %d", kind, changed.GetGeneration())
		}
	}
}

func TestAStatusUpdateLeavesTheSpecAlone(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kind) {
		if k.Status == nil {
			t.Skip("no status")
		}
		old := made(k, decode(t, k, minimal()[k.GroupVersionKind.Kind]))
		o := old.DeepCopyObject().(Object)
		spec := reflect.ValueOf(o).Elem().FieldByName("Spec")
		spec.Set(reflect.Zero(spec.Type()))
		k.Status.PrepareUpdate(o, old)
		if !apiequality.Semantic.DeepEqual(spec.Interface(), reflect.ValueOf(old).Elem().FieldByName("Spec").Interface()) {
			t.Error("the spec changed")
		}
		if o.GetGeneration() != old.GetGeneration() {
			t.Error("the generation changed")
		}
	})
}

func TestAMainUpdateLeavesTheStatusAlone(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kind) {
		if k.Status == nil {
			t.Skip("no status")
		}
		old := made(k, decode(t, k, minimal()[k.GroupVersionKind.Kind]))
		fill(reflect.ValueOf(old).Elem().FieldByName("Status"), 4, 1)
		o := old.DeepCopyObject().(Object)
		status := reflect.ValueOf(o).Elem().FieldByName("Status")
		status.Set(reflect.Zero(status.Type()))
		k.PrepareUpdate(o, old)
		if !apiequality.Semantic.DeepEqual(status.Interface(), reflect.ValueOf(old).Elem().FieldByName("Status").Interface()) {
			t.Error("the status changed")
		}
	})
}

func wantErrors(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	var got []string
	for _, e := range errs {
		got = append(got, e.Error())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func cells(row []any) string {
	var text []string
	for _, c := range row {
		text = append(text, fmt.Sprint(c))
	}
	return strings.Join(text, " | ")
}
