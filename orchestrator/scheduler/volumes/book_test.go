package volumes

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
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

func claim(t testing.TB, name, class, size, more string) *corev1.PersistentVolumeClaim {
	return object[corev1.PersistentVolumeClaim](t, fmt.Sprintf(`{metadata: {namespace: ns, name: %s, uid: %s%s}, spec: {storageClassName: %s, accessModes: [ReadWriteOnce], resources: {requests: {storage: %s}}}}`, name, name, more, class, size))
}

func volume(t testing.TB, name, host, size string) *corev1.PersistentVolume {
	return object[corev1.PersistentVolume](t, fmt.Sprintf(`{metadata: {name: %s, uid: %s}, spec: {storageClassName: local, capacity: {storage: %s}, accessModes: [ReadWriteOnce], nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [%s]}]}]}}}, status: {phase: Available}}`, name, name, size, host))
}

func host(name string, labels ...string) *corev1.Node {
	n := &corev1.Node{}
	n.Name, n.Labels = name, map[string]string{corev1.LabelHostname: name}
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		n.Labels[key] = value
	}
	return n
}

func using(uid string, claims ...string) *corev1.Pod {
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.UID = "ns", uid, types.UID(uid)
	for _, c := range claims {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: c, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c}}})
	}
	return p
}

func everywhere(string) bool { return true }

func book(t testing.TB) *Book {
	b := NewBook()
	b.Set(object[storagev1.StorageClass](t, `{metadata: {name: local}, provisioner: kubernetes.io/no-provisioner, volumeBindingMode: WaitForFirstConsumer}`))
	b.Set(object[storagev1.StorageClass](t, `{metadata: {name: made}, provisioner: d.x, volumeBindingMode: WaitForFirstConsumer}`))
	return b
}

// plan is what a pod's claims would get on a node.
func plan(t testing.TB, b *Book, pod *corev1.Pod, node *corev1.Node) (*Plan, string) {
	t.Helper()
	needs, err := b.Needs(pod)
	if err != nil {
		return nil, err.Error()
	}
	p, reasons := needs.Plan(node, everywhere)
	if p == nil {
		return nil, strings.Join(reasons, ", ")
	}
	var out []string
	for _, m := range p.Bind {
		out = append(out, m.Claim.Name+"="+m.Volume.Name)
	}
	for _, c := range p.Provision {
		out = append(out, c.Name+"@"+p.Node)
	}
	return p, strings.Join(out, " ")
}

func TestTwoClaimsOfAPodGetTwoVolumes(t *testing.T) {
	b := book(t)
	b.Set(volume(t, "big", "a", "10Gi"))
	b.Set(volume(t, "small", "a", "1Gi"))
	b.Set(claim(t, "c", "local", "1Gi", ""))
	b.Set(claim(t, "d", "local", "5Gi", ""))
	b.Set(claim(t, "e", "made", "5Gi", ""))
	if _, got := plan(t, b, using("p", "d", "e", "c"), host("a")); got != "c=small d=big e@a" {
		t.Error(got)
	}
	if _, got := plan(t, b, using("p", "d", "c"), host("b")); got != BindConflict {
		t.Error(got)
	}
	b.Set(claim(t, "f", "local", "1Gi", "")) // and there are two volumes
	if _, got := plan(t, b, using("p", "d", "c", "f"), host("a")); got != BindConflict {
		t.Error(got)
	}
}

func TestPodsThatShareAClaimGoToOnePlace(t *testing.T) {
	b := book(t)
	b.Set(claim(t, "c", "made", "1Gi", ""))
	p, got := plan(t, b, using("p", "c"), host("a"))
	if got != "c@a" {
		t.Fatal(got)
	}
	b.Promise("p", p)
	if _, got := plan(t, b, using("q", "c"), host("b")); got != BindConflict {
		t.Error(got)
	}
	second, got := plan(t, b, using("q", "c"), host("a"))
	if got != "c@a" {
		t.Error(got)
	}
	b.Promise("q", second)
	b.Release("p")
	if _, got := plan(t, b, using("r", "c"), host("b")); got != BindConflict {
		t.Error("the second pod's promise went with the first's:", got)
	}
	b.Release("q")
	if _, got := plan(t, b, using("r", "c"), host("b")); got != "c@b" {
		t.Error(got)
	}
}

func TestAVolumeThatIsPromisedIsNobodyElses(t *testing.T) {
	b := book(t)
	b.Set(volume(t, "v", "a", "1Gi"))
	b.Set(claim(t, "c", "local", "1Gi", ""))
	b.Set(claim(t, "d", "local", "1Gi", ""))
	p, _ := plan(t, b, using("p", "c"), host("a"))
	late, _ := plan(t, b, using("q", "d"), host("a")) // decided before the other was recorded
	b.Promise("p", p)
	if _, got := plan(t, b, using("q", "d"), host("a")); got != BindConflict {
		t.Error(got)
	}
	if b.Promise("q", late); b.Promised("q") != nil {
		t.Error("it is promised twice")
	}
	b.Release("p")
	if _, got := plan(t, b, using("q", "d"), host("a")); got != "d=v" {
		t.Error(got)
	}
}

func TestWhereVolumesCanBeMade(t *testing.T) {
	b := book(t)
	b.Set(object[storagev1.StorageClass](t, `{metadata: {name: zonal}, provisioner: z.x, volumeBindingMode: WaitForFirstConsumer, allowedTopologies: [{matchLabelExpressions: [{key: topology.kubernetes.io/zone, values: [us-central-1a, us-central-1b]}]}]}`))
	b.Set(claim(t, "c", "zonal", "1Gi", ""))
	for zone, want := range map[string]string{"us-central-1a": "c@a", "us-central-1c": BindConflict} {
		if _, got := plan(t, b, using("p", "c"), host("a", "topology.kubernetes.io/zone="+zone)); got != want {
			t.Errorf("%s: %s", zone, got)
		}
	}
	b.Set(object[storagev1.CSIDriver](t, `{metadata: {name: d.x}, spec: {storageCapacity: true}}`))
	b.Set(claim(t, "d", "made", "10Gi", ""))
	if _, got := plan(t, b, using("p", "d"), host("a")); got != NotEnoughSpace {
		t.Error(got)
	}
	for name, tt := range map[string]struct{ capacity, want string }{
		"elsewhere":       {`nodeTopology: {matchLabels: {kubernetes.io/hostname: b}}, capacity: 100Gi`, NotEnoughSpace},
		"too little":      {`nodeTopology: {matchLabels: {kubernetes.io/hostname: a}}, capacity: 5Gi`, NotEnoughSpace},
		"not in one":      {`nodeTopology: {matchLabels: {kubernetes.io/hostname: a}}, capacity: 100Gi, maximumVolumeSize: 5Gi`, NotEnoughSpace},
		"nobody knows":    {`nodeTopology: {matchLabels: {kubernetes.io/hostname: a}}`, NotEnoughSpace},
		"nowhere":         {`capacity: 100Gi`, NotEnoughSpace},
		"enough":          {`nodeTopology: {matchLabels: {kubernetes.io/hostname: a}}, capacity: 10Gi`, "d@a"},
		"for all of them": {`nodeTopology: {}, capacity: 100Gi`, "d@a"},
	} {
		b.Set(object[storagev1.CSIStorageCapacity](t, `{metadata: {namespace: ns, name: x}, storageClassName: made, `+tt.capacity+`}`))
		if _, got := plan(t, b, using("p", "d"), host("a")); got != tt.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestZonesOfVolumes(t *testing.T) {
	for name, tt := range map[string]struct {
		volume, node string
		want         bool
	}{
		"the same":                  {`topology.kubernetes.io/zone: a`, "topology.kubernetes.io/zone=a", true},
		"another":                   {`topology.kubernetes.io/zone: a`, "topology.kubernetes.io/zone=b", false},
		"one of several":            {`topology.kubernetes.io/zone: a__b`, "topology.kubernetes.io/zone=b", true},
		"none":                      {`topology.kubernetes.io/zone: a`, "x=y", false},
		"by its name of before":     {`failure-domain.beta.kubernetes.io/zone: a`, "topology.kubernetes.io/zone=a", true},
		"the node's name of before": {`topology.kubernetes.io/region: a`, "failure-domain.beta.kubernetes.io/region=a", true},
		"no matter":                 {`x: y`, "topology.kubernetes.io/zone=b", true},
	} {
		v := newVolume(object[corev1.PersistentVolume](t, `{metadata: {name: v, labels: {`+tt.volume+`}}}`))
		if got := v.SameZone(host("n", tt.node)); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAnOlderVersionChangesNothing(t *testing.T) {
	b := book(t)
	b.Set(claim(t, "c", "made", "1Gi", `, resourceVersion: "9", annotations: {volume.kubernetes.io/selected-node: a}`))
	if b.Set(claim(t, "c", "made", "1Gi", `, resourceVersion: "5"`)) || b.Claim("ns", "c").ResourceVersion != "9" {
		t.Error("it does")
	}
	b.Remove("persistentvolumeclaims", "ns", "c")
	if b.Update(claim(t, "c", "made", "1Gi", `, resourceVersion: "10"`)); b.Claim("ns", "c") != nil {
		t.Error("a claim that is gone is back")
	}
}

// Pods are placed, given up and bound in any order: no volume is promised to two claims, and when all have been given up nothing
// is promised.
func TestPromisesAreKeptApart(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 3))
		b := book(t)
		for i := range 6 {
			b.Set(volume(t, fmt.Sprint("v", i), []string{"a", "b"}[i%2], fmt.Sprint(1+rng.IntN(3), "Gi")))
			b.Set(claim(t, fmt.Sprint("c", i), []string{"local", "made"}[rng.IntN(2)], fmt.Sprint(1+rng.IntN(3), "Gi"), ""))
		}
		var pods []*corev1.Pod
		for i := range 10 {
			pods = append(pods, using(fmt.Sprint("p", i), fmt.Sprint("c", rng.IntN(6)), fmt.Sprint("c", rng.IntN(6))))
		}
		for range 200 {
			pod := pods[rng.IntN(len(pods))]
			if rng.IntN(3) == 0 {
				b.Release(pod.UID)
			} else if p, _ := plan(t, b, pod, host([]string{"a", "b"}[rng.IntN(2)])); p != nil {
				b.Promise(pod.UID, p)
			}
			owner, where := map[string]string{}, map[string]string{}
			for uid, p := range b.promised {
				for _, m := range p.Bind {
					if o := owner[m.Volume.Name]; o != "" && o != m.Claim.Name {
						t.Fatalf("seed %d: volume %s is %s's and %s's", seed, m.Volume.Name, o, m.Claim.Name)
					}
					owner[m.Volume.Name] = m.Claim.Name
					if _, taken := b.takenVolumes[m.Volume.Name]; !taken {
						t.Fatalf("seed %d: volume %s, which %s waits for, is free", seed, m.Volume.Name, uid)
					}
				}
				for _, c := range p.Provision {
					if at := where[c.Name]; at != "" && at != p.Node {
						t.Fatalf("seed %d: claim %s is made on %s and on %s", seed, c.Name, at, p.Node)
					}
					where[c.Name] = p.Node
				}
			}
			for name := range b.takenVolumes {
				if owner[name] == "" {
					t.Fatalf("seed %d: volume %s is nobody's, and not free", seed, name)
				}
			}
		}
		for _, p := range pods {
			b.Release(p.UID)
		}
		if len(b.promised)+len(b.takenVolumes)+len(b.takenClaims) > 0 {
			t.Fatalf("seed %d: something is still promised", seed)
		}
	}
}
