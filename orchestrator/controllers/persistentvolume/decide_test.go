package persistentvolume

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/yaml"

	"github.com/pintle/pintle/orchestrator/api/volumes"
)

func object[T any](t testing.TB, text string) *T {
	t.Helper()
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	return o
}

// pv is an available volume of the documentation's kind, with these further fields.
func pv(name, size, more string) string {
	return `{metadata: {name: ` + name + `}, spec: {capacity: {storage: ` + size + `}, accessModes: [ReadWriteOnce], hostPath: {path: /mnt/data}` + more + `}, status: {phase: Available}}`
}

func pvc(size, more string) string {
	return `{metadata: {name: c, namespace: ns, uid: u}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: ` + size + `}}` + more + `}}`
}

const classes = `
- {metadata: {name: slow}, provisioner: example.com/slow, volumeBindingMode: Immediate}
- {metadata: {name: local-path, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}, provisioner: pintle.dev/local-path, volumeBindingMode: WaitForFirstConsumer}
- {metadata: {name: local-storage}, provisioner: kubernetes.io/no-provisioner, volumeBindingMode: WaitForFirstConsumer}
- {metadata: {name: manual}, provisioner: kubernetes.io/no-provisioner, volumeBindingMode: Immediate}
`

func TestDecideWhichVolumeAClaimGets(t *testing.T) {
	var all []*storagev1.StorageClass
	if err := yaml.Unmarshal([]byte(classes), &all); err != nil {
		t.Fatal(err)
	}
	const none = `, storageClassName: ""`
	for name, tt := range map[string]struct {
		claim   string
		volumes []string
		waiting []string
		want    string
	}{
		"the documentation's task-pv-claim":         {pvc("3Gi", `, storageClassName: manual`), []string{pv("task-pv-volume", "10Gi", `, storageClassName: manual`)}, nil, "task-pv-volume Bound"},
		"the smallest that is large enough":         {pvc("10Gi", none), []string{pv("a", "100Gi", ""), pv("b", "5Gi", ""), pv("c", "20Gi", ""), pv("d", "50Gi", "")}, nil, "c Bound"},
		"of several as large the first by its name": {pvc("10Gi", none), []string{pv("z", "20Gi", ""), pv("m", "20Gi", "")}, nil, "m Bound"},
		"none is large enough":                      {pvc("100Gi", none), []string{pv("a", "50Gi", "")}, nil, "- Pending FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"of another class":                          {pvc("1Gi", none), []string{pv("a", "50Gi", ", storageClassName: gold")}, nil, "- Pending FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"of another mode of access":                 {pvc("1Gi", none), []string{`{metadata: {name: a}, spec: {capacity: {storage: 5Gi}, accessModes: [ReadOnlyMany]}, status: {phase: Available}}`}, nil, "- Pending FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"a block device for a filesystem":           {pvc("1Gi", none), []string{pv("a", "5Gi", `, volumeMode: Block`)}, nil, "- Pending FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"by labels":                                 {pvc("1Gi", none+`, selector: {matchLabels: {release: stable}}`), []string{pv("a", "5Gi", ""), `{metadata: {name: b, labels: {release: stable}}, spec: {capacity: {storage: 50Gi}, accessModes: [ReadWriteOnce, ReadWriteMany]}, status: {phase: Available}}`}, nil, "b Bound"},
		"somebody else's":                           {pvc("1Gi", none), []string{pv("a", "5Gi", `, claimRef: {namespace: other, name: c}`)}, nil, "- Pending FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"one that is about to go":                   {pvc("1Gi", none), []string{`{metadata: {name: a, deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {capacity: {storage: 5Gi}, accessModes: [ReadWriteOnce]}, status: {phase: Available}}`}, nil, "- Pending FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"one that was released": {pvc("1Gi", none), []string{`{metadata: {name: a}, spec: {capacity: {storage: 5Gi}, accessModes: [ReadWriteOnce], claimRef: {namespace: ns, name: c, uid: before}}, status: {phase: Released}}`}, nil,
			"- Pending FailedBinding: no persistent volumes available for this claim and no storage class is set"},
		"one that was made for it":       {pvc("1Gi", none), []string{pv("a", "5Gi", ""), pv("foo-pv", "50Gi", `, claimRef: {namespace: ns, name: c}`)}, nil, "foo-pv Bound"},
		"the one that it names":          {pvc("1Gi", none+`, volumeName: foo-pv`), []string{pv("a", "5Gi", ""), pv("foo-pv", "50Gi", "")}, nil, "foo-pv Bound"},
		"the one that it names is small": {pvc("100Gi", none+`, volumeName: foo-pv`), []string{pv("foo-pv", "50Gi", "")}, nil, `- Pending VolumeMismatch: Cannot bind to requested volume "foo-pv": requested PV is too small`},
		"the one that it names has another class": {pvc("1Gi", `, storageClassName: slow, volumeName: foo-pv`), []string{pv("foo-pv", "50Gi", "")}, nil,
			`- Pending VolumeMismatch: Cannot bind to requested volume "foo-pv": storageClassName does not match`},
		"the one that it names is somebody's": {pvc("1Gi", none+`, volumeName: foo-pv`), []string{pv("foo-pv", "50Gi", `, claimRef: {namespace: ns, name: d, uid: w}`)}, nil, `- Pending FailedBinding: volume "foo-pv" already bound to a different claim.`},
		"the one that it names isn't there":   {pvc("1Gi", none+`, volumeName: foo-pv`), nil, nil, "- Pending"},
		"of a class that makes volumes": {pvc("1Gi", `, storageClassName: slow`), []string{pv("a", "5Gi", "")}, nil, "- Pending example.com/slow ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'example.com/slow' or manually by the system administrator. " +
			"If volume creation is delayed, please verify that the provisioner is running and correctly registered."},
		"of a class that isn't there":           {pvc("1Gi", `, storageClassName: nix`), nil, nil, `- Pending ProvisioningFailed: storageclass.storage.k8s.io "nix" not found`},
		"of a class that nobody makes":          {pvc("1Gi", `, storageClassName: manual`), nil, nil, `- Pending ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner`},
		"nobody uses it yet":                    {pvc("1Gi", `, storageClassName: local-path`), nil, nil, "- Pending WaitForFirstConsumer: waiting for first consumer to be created before binding"},
		"a pod waits with it":                   {pvc("1Gi", `, storageClassName: local-path`), nil, []string{"p"}, "- Pending WaitForPodScheduled: waiting for pod p to be scheduled"},
		"two wait with it":                      {pvc("1Gi", `, storageClassName: local-path`), nil, []string{"p", "q"}, "- Pending WaitForPodScheduled: waiting for pods p,q to be scheduled"},
		"the scheduler chooses local volumes":   {pvc("1Gi", `, storageClassName: local-storage`), []string{pv("a", "5Gi", `, storageClassName: local-storage`)}, nil, "- Pending WaitForFirstConsumer: waiting for first consumer to be created before binding"},
		"the scheduler has chosen":              {pvc("1Gi", `, storageClassName: local-storage`), []string{pv("a", "5Gi", `, storageClassName: local-storage, claimRef: {namespace: ns, name: c, uid: u}`)}, nil, "a Bound"},
		"the scheduler has chosen a node":       {`{metadata: {name: c, namespace: ns, uid: u, annotations: {volume.kubernetes.io/selected-node: n1}}, spec: {accessModes: [ReadWriteOnce], storageClassName: local-path, resources: {requests: {storage: 1Gi}}}}`, nil, nil, "- Pending pintle.dev/local-path ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'pintle.dev/local-path' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."},
		"it names no class":                     {pvc("1Gi", ""), nil, nil, "- Pending class local-path"},
		"it names no class, and fits a volume":  {pvc("1Gi", ""), []string{pv("a", "5Gi", "")}, nil, "a Bound"},
		"by the annotation of before":           {`{metadata: {name: c, namespace: ns, uid: u, annotations: {volume.beta.kubernetes.io/storage-class: slow}}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`, []string{`{metadata: {name: a, annotations: {volume.beta.kubernetes.io/storage-class: slow}}, spec: {capacity: {storage: 5Gi}, accessModes: [ReadWriteOnce]}, status: {phase: Available}}`}, nil, "a Bound"},
		"bound, and its volume is gone":         {`{metadata: {name: c, namespace: ns, uid: u, annotations: {pv.kubernetes.io/bind-completed: "yes"}}, spec: {volumeName: a}}`, nil, nil, "- Lost ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!"},
		"bound, and names no volume":            {`{metadata: {name: c, namespace: ns, uid: u, annotations: {pv.kubernetes.io/bind-completed: "yes"}}, spec: {}}`, nil, nil, "- Lost ClaimLost: Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"},
		"bound, and its volume is another's":    {`{metadata: {name: c, namespace: ns, uid: u, annotations: {pv.kubernetes.io/bind-completed: "yes"}}, spec: {volumeName: a}}`, []string{pv("a", "5Gi", `, claimRef: {namespace: ns, name: d, uid: w}`)}, nil, "- Lost ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly"},
		"bound, and its volume has forgotten":   {`{metadata: {name: c, namespace: ns, uid: u, annotations: {pv.kubernetes.io/bind-completed: "yes"}}, spec: {volumeName: a}}`, []string{pv("a", "5Gi", "")}, nil, "a Bound"},
		"nothing is made for one that is to go": {`{metadata: {name: c, namespace: ns, uid: u, deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {storageClassName: slow, resources: {requests: {storage: 1Gi}}}}`, nil, nil, "- Pending"},
	} {
		t.Run(name, func(t *testing.T) {
			var vs []*corev1.PersistentVolume
			for _, text := range tt.volumes {
				vs = append(vs, object[corev1.PersistentVolume](t, text))
			}
			todo := decideClaim(object[corev1.PersistentVolumeClaim](t, tt.claim), view{
				volumes: func(bool) []*corev1.PersistentVolume { return vs },
				volume: func(name string) *corev1.PersistentVolume {
					for _, v := range vs {
						if v.Name == name {
							return v
						}
					}
					return nil
				},
				class: func(name string) *storagev1.StorageClass {
					for _, c := range all {
						if c.Name == name {
							return c
						}
					}
					return nil
				},
				classes: func() []*storagev1.StorageClass { return all },
				waiting: func() []string { return tt.waiting },
			})
			got := "-"
			if todo.bind != nil {
				got = todo.bind.Name
			}
			got += " " + string(todo.phase)
			if todo.class != "" {
				got += " class " + todo.class
			}
			if todo.provisioner != "" {
				got += " " + todo.provisioner
			}
			if todo.event != nil {
				got += fmt.Sprintf(" %s: %s", todo.event.reason, todo.event.message)
			}
			if got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestDecideWhoseAVolumeIs(t *testing.T) {
	const mine = `, claimRef: {namespace: ns, name: c, uid: u}`
	made := func(policy, phase string) string {
		return `{metadata: {name: v, annotations: {pv.kubernetes.io/provisioned-by: pintle.dev/local-path, pv.kubernetes.io/bound-by-controller: "yes"}}, spec: {persistentVolumeReclaimPolicy: ` + policy + mine + `}, status: {phase: ` + phase + `}}`
	}
	for name, tt := range map[string]struct{ volume, claim, want string }{
		"nobody's":                     {pv("v", "1Gi", ""), "", "Available"},
		"kept for a claim to come":     {pv("v", "1Gi", `, claimRef: {namespace: ns, name: c}`), "", "Available"},
		"kept for a claim that came":   {pv("v", "1Gi", `, claimRef: {namespace: ns, name: c}`), pvc("1Gi", ""), "Available, its claim"},
		"half bound":                   {pv("v", "1Gi", mine), pvc("1Gi", ""), "Available, its claim"},
		"bound":                        {pv("v", "1Gi", mine), pvc("1Gi", ", volumeName: v"), "Bound"},
		"its claim is gone":            {pv("v", "1Gi", mine+", persistentVolumeReclaimPolicy: Retain"), "", "Released"},
		"its claim is another now":     {pv("v", "1Gi", `, claimRef: {namespace: ns, name: c, uid: before}`), pvc("1Gi", ""), "Released"},
		"made, and its claim is gone":  {made("Delete", "Bound"), "", "Released"},
		"made, and is to be kept":      {made("Retain", "Bound"), "", "Released"},
		"nobody can delete it":         {pv("v", "1Gi", mine+", persistentVolumeReclaimPolicy: Delete"), "", `Failed error getting deleter volume plugin for volume "v": no deletable volume plugin matched`},
		"who deletes it failed":        {`{metadata: {name: v}, spec: {csi: {driver: d, volumeHandle: h}, persistentVolumeReclaimPolicy: Delete` + mine + `}, status: {phase: Failed, message: full}}`, "", "Failed full"},
		"its claim has another":        {pv("v", "1Gi", mine), pvc("1Gi", ", volumeName: w"), "Available, unbound"},
		"made for one that has others": {made("Delete", "Bound"), pvc("1Gi", ", volumeName: w"), "Released"},
		"of another mode":              {pv("v", "1Gi", mine+", volumeMode: Block"), pvc("1Gi", ""), "Available"},
	} {
		t.Run(name, func(t *testing.T) {
			var c *corev1.PersistentVolumeClaim
			if tt.claim != "" {
				c = object[corev1.PersistentVolumeClaim](t, tt.claim)
			}
			todo := decideVolume(object[corev1.PersistentVolume](t, tt.volume), c)
			got := string(todo.phase)
			if todo.message != "" {
				got += " " + todo.message
			}
			if todo.unbind {
				got += ", unbound"
			}
			if todo.claim {
				got += ", its claim"
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestAVolumeThatIsFreedKeepsThePersonsClaim(t *testing.T) {
	v := object[corev1.PersistentVolume](t, pv("v", "1Gi", `, claimRef: {namespace: ns, name: c, uid: u}`))
	if out := volumes.UnbindVolume(v); out.Spec.ClaimRef == nil || out.Spec.ClaimRef.UID != "" || v.Spec.ClaimRef.UID != "u" {
		t.Errorf("%+v of %+v", out.Spec.ClaimRef, v.Spec.ClaimRef)
	}
	v.Annotations = map[string]string{volumes.BoundByController: "yes"}
	if out := volumes.UnbindVolume(v); out.Spec.ClaimRef != nil || len(out.Annotations) != 0 {
		t.Errorf("%+v", out)
	}
}
