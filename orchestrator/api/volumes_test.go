package api

import (
	"testing"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// volumeWith makes a PersistentVolume with these further fields of its spec.
func volumeWith(spec string) string {
	return `{metadata: {name: x}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /data}, ` + spec + `}}`
}

func TestVolumesAreCheckedInKubernetesWords(t *testing.T) {
	claim := func(spec string) string { return `{metadata: {name: x}, spec: {` + spec + `}}` }
	const size = `resources: {requests: {storage: 1Gi}}`
	const local = `{metadata: {name: x}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], local: {path: /mnt/disks/ssd1}, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [example-node]}]}]}}}}`
	for _, tt := range []struct {
		name, kind, object string
		want               []string
	}{
		{"the documentation's local volume", "PersistentVolume", local, nil},
		{"a local volume of no node", "PersistentVolume", `{metadata: {name: x}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], local: {path: /mnt}}}`,
			[]string{`spec.nodeAffinity: Required value: Local volume requires node affinity`}},
		{"nothing at all", "PersistentVolume", `{metadata: {name: x}}`, []string{`spec.accessModes: Required value`, `spec.capacity: Required value`, `spec: Required value: must specify a volume type`}},
		{"no size", "PersistentVolume", volumeWith("capacity: {storage: 0}"), nil}, // replaced below
		{"two sources", "PersistentVolume", volumeWith("csi: {driver: d, volumeHandle: h}"), []string{`spec.csi: Forbidden: may not specify more than 1 volume type`}},
		{"a file server", "PersistentVolume", `{metadata: {name: x}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteMany], nfs: {path: /tmp, server: 172.17.0.2}}}`,
			[]string{`spec.nfs: Forbidden: not supported by Pintle: volumes are local, hostPath or csi: use the storage's CSI driver`}},
		{"recycled", "PersistentVolume", volumeWith("persistentVolumeReclaimPolicy: Recycle"),
			[]string{`spec.persistentVolumeReclaimPolicy: Forbidden: not supported by Pintle: volumes are not recycled: use a StorageClass whose volumes are made and deleted with their claims`}},
		{"one pod and others", "PersistentVolumeClaim", claim(`accessModes: [ReadWriteOncePod, ReadWriteOnce], ` + size), []string{`spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes`}},
		{"an unknown mode", "PersistentVolumeClaim", claim(`accessModes: [Sometimes], ` + size),
			[]string{`spec.accessModes: Unsupported value: "Sometimes": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"`}},
		{"a claim of nothing", "PersistentVolumeClaim", `{metadata: {name: x}}`, []string{`spec.accessModes: Required value: at least 1 access mode is required`, `spec.resources[storage]: Required value`}},
		{"a claim of less than nothing", "PersistentVolumeClaim", claim(`accessModes: [ReadWriteOnce], resources: {requests: {storage: "-1"}}`),
			[]string{`spec.resources[storage]: Invalid value: "-1": must be greater than zero`}},
		{"an attributes class", "PersistentVolumeClaim", claim(`accessModes: [ReadWriteOnce], volumeAttributesClassName: gold, ` + size),
			[]string{`spec.volumeAttributesClassName: Forbidden: not supported by Pintle: volumes are not modified in place: give the parameters in the StorageClass`}},
		{"a copy", "PersistentVolumeClaim", claim(`accessModes: [ReadWriteOnce], dataSource: {kind: PersistentVolumeClaim, name: y}, ` + size),
			[]string{`spec.dataSource: Forbidden: not supported by Pintle: volumes start empty: copy the data with a Job`}},
		{"a class of nobody", "StorageClass", `{metadata: {name: x}}`, []string{`provisioner: Required value`}},
		{"a class that recycles", "StorageClass", `{metadata: {name: x}, provisioner: a/b, reclaimPolicy: Recycle}`, []string{`reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"`}},
		{"a class of another time", "StorageClass", `{metadata: {name: x}, provisioner: a/b, volumeBindingMode: Later}`,
			[]string{`volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"`}},
		{"the documentation's class with zones", "StorageClass", `{metadata: {name: standard}, provisioner: example.com/example, parameters: {type: pd-standard}, volumeBindingMode: WaitForFirstConsumer, allowedTopologies: [{matchLabelExpressions: [{key: topology.kubernetes.io/zone, values: [us-central-1a, us-central-1b]}]}]}`, nil},
		{"the documentation's ephemeral volume", "Pod", podWith("", `, volumes: [{name: scratch-volume, ephemeral: {volumeClaimTemplate: {metadata: {labels: {type: my-frontend-volume}}, spec: {accessModes: [ReadWriteOnce], storageClassName: scratch-storage-class, resources: {requests: {storage: 1Gi}}}}}}]`), nil},
		{"an ephemeral volume of nothing", "Pod", podWith("", `, volumes: [{name: v, ephemeral: {}}]`), []string{`spec.volumes[0].ephemeral.volumeClaimTemplate: Required value`}},
		{"the documentation's inline volume", "Pod", podWith("", `, volumes: [{name: v, csi: {driver: inline.storage.kubernetes.io, volumeAttributes: {foo: bar}}}]`), nil},
		{"an attachment of nothing", "VolumeAttachment", `{metadata: {name: x}, spec: {attacher: d.x, nodeName: n}}`, []string{`spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName`}},
		{"a driver on a node twice", "CSINode", `{metadata: {name: x}, spec: {drivers: [{name: d, nodeID: n}, {name: d, nodeID: n}]}}`, []string{`spec.drivers[1].name: Duplicate value: "d"`}},
	} {
		if tt.name == "no size" {
			tt.object = `{metadata: {name: x}, spec: {capacity: {storage: "0"}, accessModes: [ReadWriteOnce], hostPath: {path: /data}}}`
			tt.want = []string{`spec.capacity[storage]: Invalid value: "0": must be greater than zero`}
		}
		t.Run(tt.name, func(t *testing.T) {
			k := kindOf(t, tt.kind)
			wantErrors(t, problems(k, made(k, decode(t, k, tt.object))), tt.want...)
		})
	}
	long := decode(t, kindOf(t, "Pod"), podWith("", `, volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], `+size+`}}}}]`))
	long.SetName("a.b_c")
	if errs := problems(kindOf(t, "Pod"), made(kindOf(t, "Pod"), long)); len(errs) != 1 || errs[0].Field != "spec.volumes[0].name" {
		t.Errorf("a claim's name that can't be: %v", errs)
	}
}

func TestAClaimChangesOnlyAsDocumented(t *testing.T) {
	const bound = `status: {phase: Bound, capacity: {storage: 8Gi}}`
	spec := func(s string) string {
		return `{metadata: {name: x}, spec: {accessModes: [ReadWriteOnce], volumeMode: Filesystem, ` + s + `}`
	}
	const immutableSpec = `spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims`
	for name, tt := range map[string]struct {
		old, now string
		want     []string
	}{
		"bound to a volume": {spec(`resources: {requests: {storage: 8Gi}}`) + `}`, spec(`volumeName: v, resources: {requests: {storage: 8Gi}}`) + `}`, nil},
		"bound to another": {spec(`volumeName: v, resources: {requests: {storage: 8Gi}}`) + `, ` + bound + `}`, spec(`volumeName: w, resources: {requests: {storage: 8Gi}}`) + `}`,
			[]string{immutableSpec}},
		"it gets the default class":                  {spec(`resources: {requests: {storage: 8Gi}}`) + `}`, spec(`storageClassName: c, resources: {requests: {storage: 8Gi}}`) + `}`, nil},
		"it gets the class when bound":               {spec(`volumeName: v, resources: {requests: {storage: 8Gi}}`) + `, ` + bound + `}`, spec(`volumeName: v, storageClassName: c, resources: {requests: {storage: 8Gi}}`) + `}`, []string{immutableSpec}},
		"it gets another class":                      {spec(`storageClassName: b, resources: {requests: {storage: 8Gi}}`) + `}`, spec(`storageClassName: c, resources: {requests: {storage: 8Gi}}`) + `}`, []string{immutableSpec}},
		"it grows":                                   {spec(`volumeName: v, resources: {requests: {storage: 8Gi}}`) + `, ` + bound + `}`, spec(`volumeName: v, resources: {requests: {storage: 10Gi}}`) + `}`, nil},
		"it grows before it is bound":                {spec(`resources: {requests: {storage: 8Gi}}`) + `}`, spec(`resources: {requests: {storage: 10Gi}}`) + `}`, []string{immutableSpec}},
		"it shrinks":                                 {spec(`volumeName: v, resources: {requests: {storage: 8Gi}}`) + `, ` + bound + `}`, spec(`volumeName: v, resources: {requests: {storage: 5Gi}}`) + `}`, []string{`spec.resources.requests.storage: Forbidden: field can not be less than status.capacity`}},
		"it asks for less of what isn't there":       {spec(`volumeName: v, resources: {requests: {storage: 100Gi}}`) + `, ` + bound + `}`, spec(`volumeName: v, resources: {requests: {storage: 10Gi}}`) + `}`, nil},
		"it takes back that it asked for more":       {spec(`volumeName: v, resources: {requests: {storage: 100Gi}}`) + `, ` + bound + `}`, spec(`volumeName: v, resources: {requests: {storage: 8Gi}}`) + `}`, []string{`spec.resources.requests.storage: Forbidden: field can not be less than status.capacity`}},
		"it takes back a little more than there was": {spec(`volumeName: v, resources: {requests: {storage: 100Gi}}`) + `, ` + bound + `}`, spec(`volumeName: v, resources: {requests: {storage: "8589934593"}}`) + `}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			k := kindOf(t, "PersistentVolumeClaim")
			wantErrors(t, k.ValidateUpdate(decode(t, k, tt.now), decode(t, k, tt.old)), tt.want...)
		})
	}
}

func TestClassesAndVolumesAreImmutableAsDocumented(t *testing.T) {
	for name, tt := range map[string]struct {
		kind, old, now string
		want           []string
	}{
		"a class of others' volumes": {"StorageClass", `{provisioner: a/b, parameters: {a: b}, reclaimPolicy: Delete, volumeBindingMode: Immediate}`,
			`{provisioner: a/c, parameters: {a: c}, reclaimPolicy: Retain, volumeBindingMode: WaitForFirstConsumer}`,
			[]string{`parameters: Forbidden: updates to parameters are forbidden.`, `provisioner: Forbidden: updates to provisioner are forbidden.`,
				`reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.`, `volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable`}},
		"a class that lets claims grow": {"StorageClass", `{provisioner: a/b}`, `{provisioner: a/b, allowVolumeExpansion: true}`, nil},
		"a volume elsewhere": {"PersistentVolume", `{spec: {hostPath: {path: /a}}}`, `{spec: {hostPath: {path: /b}}}`,
			[]string{`spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation`}},
		"a volume that has grown":            {"PersistentVolume", `{spec: {hostPath: {path: /a}, capacity: {storage: 1Gi}}}`, `{spec: {hostPath: {path: /a}, capacity: {storage: 2Gi}}}`, nil},
		"a secret to grow with":              {"PersistentVolume", `{spec: {csi: {driver: d, volumeHandle: h}}}`, `{spec: {csi: {driver: d, volumeHandle: h, nodeExpandSecretRef: {name: a, namespace: b}}}}`, nil},
		"a driver that attaches after all":   {"CSIDriver", `{spec: {attachRequired: false}}`, `{spec: {attachRequired: true}}`, []string{`spec.attachedRequired: Invalid value: true: field is immutable`}},
		"a driver's node by another id":      {"CSINode", `{spec: {drivers: [{name: d, nodeID: a}]}}`, `{spec: {drivers: [{name: d, nodeID: a, allocatable: {count: 3}}]}}`, nil},
		"an attachment elsewhere is another": {"VolumeAttachment", `{spec: {attacher: a, nodeName: n}}`, `{spec: {attacher: a, nodeName: n}}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			k := kindOf(t, tt.kind)
			wantErrors(t, k.ValidateUpdate(decode(t, k, tt.now), decode(t, k, tt.old)), tt.want...)
		})
	}
}

func TestVolumesAreListedAsKubectlDoes(t *testing.T) {
	for _, tt := range []struct{ kind, object, want string }{
		{"PersistentVolume", `{metadata: {name: task-pv-volume}, spec: {capacity: {storage: 10Gi}, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Retain, storageClassName: manual, volumeMode: Filesystem}, status: {phase: Available}}`,
			"task-pv-volume | 10Gi | RWO | Retain | Available |  | manual | <unset> |  | 5m | Filesystem"},
		{"PersistentVolume", `{metadata: {name: task-pv-volume}, spec: {capacity: {storage: 10Gi}, accessModes: [ReadWriteMany, ReadWriteOnce, ReadOnlyMany], persistentVolumeReclaimPolicy: Retain, storageClassName: manual, claimRef: {namespace: default, name: task-pv-claim}}, status: {phase: Bound}}`,
			"task-pv-volume | 10Gi | RWO,ROX,RWX | Retain | Bound | default/task-pv-claim | manual | <unset> |  | 5m | <unset>"},
		{"PersistentVolumeClaim", `{metadata: {name: task-pv-claim}, spec: {volumeName: task-pv-volume, storageClassName: manual, volumeMode: Filesystem, resources: {requests: {storage: 3Gi}}}, status: {phase: Bound, capacity: {storage: 10Gi}, accessModes: [ReadWriteOncePod]}}`,
			"task-pv-claim | Bound | task-pv-volume | 10Gi | RWOP | manual | <unset> | 5m | Filesystem"},
		{"PersistentVolumeClaim", `{metadata: {name: c, deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {resources: {requests: {storage: 3Gi}}}, status: {phase: Pending}}`, "c | Terminating |  |  |  |  | <unset> | 5m | <unset>"},
		{"StorageClass", `{metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}, provisioner: kubernetes.io/gce-pd, reclaimPolicy: Delete, volumeBindingMode: Immediate, allowVolumeExpansion: true}`,
			"standard (default) | kubernetes.io/gce-pd | Delete | Immediate | true | 5m"},
		{"CSIDriver", `{metadata: {name: d}, spec: {attachRequired: false, tokenRequests: [{audience: a}, {audience: b}], volumeLifecycleModes: [Persistent, Ephemeral]}}`,
			"d | false | false | false | a,b | false | Persistent,Ephemeral | 5m"},
		{"CSINode", `{metadata: {name: n1}, spec: {drivers: [{name: d, nodeID: n1}]}}`, "n1 | 1 | 5m"},
		{"VolumeAttachment", `{metadata: {name: a}, spec: {attacher: d, nodeName: n1, source: {persistentVolumeName: v}}, status: {attached: true}}`, "a | d | v | n1 | true | 5m"},
		{"CSIStorageCapacity", `{metadata: {name: a}, storageClassName: c, capacity: 5Gi}`, "a | c | 5Gi"},
	} {
		k := kindOf(t, tt.kind)
		if got := printed(k, decode(t, k, tt.object)); got != tt.want {
			t.Errorf("%s\n%s, want\n%s", tt.object, got, tt.want)
		}
	}
}

func TestTheNewestDefaultClassCounts(t *testing.T) {
	class := func(name, value string, age time.Duration) *storagev1.StorageClass {
		return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(now().Add(-age)),
			Annotations: map[string]string{DefaultStorageClassAnnotation: value}}}
	}
	all := []*storagev1.StorageClass{class("old", "true", time.Hour), class("b", "true", time.Minute), class("a", "true", time.Minute), class("new", "false", time.Second)}
	if got := DefaultStorageClass(all); got == nil || got.Name != "a" {
		t.Errorf("%v", got)
	}
	if got := DefaultStorageClass(all[3:]); got != nil {
		t.Errorf("%v", got)
	}
	k := kindOf(t, "StorageClass")
	wantErrors(t, problems(k, made(k, LocalPath())))
	if !IsDefaultStorageClass(LocalPath()) {
		t.Error("the class that a cluster starts with is no default")
	}
}
