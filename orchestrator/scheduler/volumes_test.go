package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/pintle/pintle/orchestrator/api"
	bindings "github.com/pintle/pintle/orchestrator/api/volumes"
)

func (f *fakeClient) updateVolume(resource string, obj api.Object) (api.Object, error) {
	key := obj.GetNamespace() + "/" + obj.GetName()
	if have := f.objects[resource][key]; have == nil || have.GetResourceVersion() != obj.GetResourceVersion() {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: resource}, obj.GetName(), nil)
	}
	f.store(resource, obj, watch.Modified)
	return f.objects[resource][key], nil
}

func (f *fakeClient) volumeClaim(name string) *corev1.PersistentVolumeClaim {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, _ := f.objects["persistentvolumeclaims"]["default/"+name].(*corev1.PersistentVolumeClaim)
	return c
}

func (f *fakeClient) volume(name string) *corev1.PersistentVolume {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, _ := f.objects["persistentvolumes"]["/"+name].(*corev1.PersistentVolume)
	return v
}

// bindClaim does what the binder does once there is a volume.
func (f *fakeClient) bindClaim(t testing.TB, name, volume string) {
	t.Helper()
	c := bindings.BindClaim(f.volumeClaim(name), f.volume(volume))
	c.Status.Phase = corev1.ClaimBound
	f.put("persistentvolumeclaims", c, watch.Modified)
}

// with puts objects of storage, written as YAML.
func (f *fakeClient) with(t testing.TB, objects ...string) {
	t.Helper()
	for _, text := range objects {
		kind, body, _ := strings.Cut(text, " ")
		var o api.Object
		switch kind {
		case "persistentvolumeclaims":
			o = parse[corev1.PersistentVolumeClaim](t, body)
		case "persistentvolumes":
			o = parse[corev1.PersistentVolume](t, body)
		case "storageclasses":
			o = parse[storagev1.StorageClass](t, body)
		case "csinodes":
			o = parse[storagev1.CSINode](t, body)
		}
		f.put(kind, o, watch.Added)
	}
}

const localPath = `storageclasses {metadata: {name: local-path, uid: sc}, provisioner: pintle.dev/local-path, volumeBindingMode: WaitForFirstConsumer}`

func claimOf(name, class, size, more string) string {
	return fmt.Sprintf(`persistentvolumeclaims {metadata: {namespace: default, name: %s, uid: claim-%s%s}, spec: {storageClassName: %s, accessModes: [ReadWriteOnce], resources: {requests: {storage: %s}}}}`, name, name, more, class, size)
}

// volumeOn is a free volume of a node.
func volumeOn(name, node, class, size string) string {
	return fmt.Sprintf(`persistentvolumes {metadata: {name: %s, uid: volume-%s}, spec: {storageClassName: %s, capacity: {storage: %s}, accessModes: [ReadWriteOnce], volumeMode: Filesystem, local: {path: /mnt}, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [%s]}]}]}}}, status: {phase: Available}}`,
		name, name, class, size, node)
}

func mounting(claims ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, c := range claims {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "v-" + c, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c}}})
		}
	}
}

func host(name, cpu string) *corev1.Node {
	n := node(name, cpu)
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelHostname] = name
	return n
}

// eventually waits for what the scheduler writes.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: ", what)
		}
	}
}

func notBound(t *testing.T, f *fakeClient) {
	t.Helper()
	select {
	case b := <-f.bound:
		t.Fatal(b)
	default:
	}
}

func TestAPodWaitsForTheVolumeThatIsMadeForIt(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", host("a", "4"), watch.Added)
	client.with(t, localPath, claimOf("data", "local-path", "1Gi", ""))
	client.put("pods", pod("p", "1", mounting("data")), watch.Added)
	start(t, client)
	eventually(t, "the node is selected", func() bool { return client.volumeClaim("data").Annotations[bindings.SelectedNode] == "a" })
	// Others aren't kept waiting, and the pod's room is taken.
	client.put("pods", pod("q", "3"), watch.Added)
	if got := <-client.bound; got != "q→a" {
		t.Fatal(got)
	}
	client.put("pods", pod("r", "1"), watch.Added)
	failure(t, client, "Insufficient cpu")
	notBound(t, client)
	client.with(t, volumeOn("pvc-1", "a", "local-path", "1Gi"))
	client.bindClaim(t, "data", "pvc-1")
	if got := <-client.bound; got != "p→a" {
		t.Fatal(got)
	}
}

func TestAPodGoesElsewhereWhenNoVolumeCanBeMade(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", host("a", "4"), watch.Added)
	client.with(t, localPath, claimOf("data", "local-path", "1Gi", ""))
	client.put("pods", pod("p", "1", mounting("data")), watch.Added)
	start(t, client)
	eventually(t, "the node is selected", func() bool { return client.volumeClaim("data").Annotations[bindings.SelectedNode] == "a" })
	full := host("a", "0")
	client.put("nodes", full, watch.Modified)
	client.put("nodes", host("b", "4"), watch.Added)
	again := client.volumeClaim("data").DeepCopy()
	delete(again.Annotations, bindings.SelectedNode)
	client.put("persistentvolumeclaims", again, watch.Modified)
	if got := failure(t, client, "binding volumes"); got != `running PreBind plugin "VolumeBinding": binding volumes: selectedNode annotation reset for PVC "data"` {
		t.Error(got)
	}
	eventually(t, "another node is selected", func() bool { return client.volumeClaim("data").Annotations[bindings.SelectedNode] == "b" })
}

func TestANodeThatIsGoneIsNotWaitedFor(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", host("b", "4"), watch.Added)
	client.with(t, localPath, claimOf("data", "local-path", "1Gi", `, annotations: {volume.kubernetes.io/selected-node: a}`))
	client.put("pods", pod("p", "1", mounting("data")), watch.Added)
	start(t, client)
	eventually(t, "another node is selected", func() bool { return client.volumeClaim("data").Annotations[bindings.SelectedNode] == "b" })
}

func TestAPodLeavesANodeThatGoesWhileItsVolumeIsMade(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", host("a", "4"), watch.Added)
	client.with(t, localPath, claimOf("data", "local-path", "1Gi", ""))
	client.put("pods", pod("p", "1", mounting("data")), watch.Added)
	start(t, client)
	eventually(t, "the node is selected", func() bool { return client.volumeClaim("data").Annotations[bindings.SelectedNode] == "a" })
	client.put("nodes", host("b", "4"), watch.Added)
	client.put("nodes", host("a", "4"), watch.Deleted)
	failure(t, client, `node "a" not found`)
	eventually(t, "another node is selected", func() bool { return client.volumeClaim("data").Annotations[bindings.SelectedNode] == "b" })
}

func TestAPodDoesNotWaitForItsVolumesForEver(t *testing.T) {
	client := newFakeClient()
	clock := clocktesting.NewFakeClock(time.Now())
	client.put("nodes", host("a", "4"), watch.Added)
	client.with(t, localPath, claimOf("data", "local-path", "1Gi", ""))
	client.put("pods", pod("p", "1", mounting("data")), watch.Added)
	start(t, client, func(c *Config) { c.Clock = clock })
	eventually(t, "the node is selected", func() bool { return client.volumeClaim("data").Annotations[bindings.SelectedNode] == "a" })
	said := make(chan string, 1)
	go func() { said <- failure(t, client, "binding volumes") }()
	for {
		clock.Step(time.Minute)
		select {
		case got := <-said:
			if got != `running PreBind plugin "VolumeBinding": binding volumes: context deadline exceeded` {
				t.Error(got)
			}
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestWhyAPodsVolumesKeepItFromEveryNode(t *testing.T) {
	const notHelpful = " preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	bound := `persistentvolumeclaims {metadata: {namespace: default, name: data, uid: c, annotations: {pv.kubernetes.io/bind-completed: "yes"}}, spec: {storageClassName: local-path, volumeName: v, accessModes: [ReadWriteOnce]}, status: {phase: Bound}}`
	for name, tt := range map[string]struct {
		objects []string
		want    string
	}{
		"no claim": {nil, `0/2 nodes are available: persistentvolumeclaim "data" not found.`},
		"not bound": {[]string{`storageclasses {metadata: {name: slow, uid: sc}, provisioner: example.com/slow, volumeBindingMode: Immediate}`, claimOf("data", "slow", "1Gi", "")},
			"0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."},
		"its class isn't there": {[]string{claimOf("data", "nix", "1Gi", "")}, "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."},
		"it is to go":           {[]string{localPath, claimOf("data", "local-path", "1Gi", `, deletionTimestamp: "2026-01-01T00:00:00Z"`)}, `0/2 nodes are available: persistentvolumeclaim "data" is being deleted.`},
		"lost":                  {[]string{`persistentvolumeclaims {metadata: {namespace: default, name: data, uid: c}, spec: {volumeName: v}, status: {phase: Lost}}`}, `0/2 nodes are available: persistentvolumeclaim "data" bound to non-existent persistentvolume "v".`},
		"its volume is on a node that isn't there": {[]string{localPath, bound, volumeOn("v", "z", "local-path", "1Gi")}, "0/2 nodes are available: 2 node(s) had volume node affinity conflict."},
		"its volume isn't there":                   {[]string{localPath, bound}, "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)."},
		"no volume is large enough": {[]string{`storageclasses {metadata: {name: local-storage, uid: sc}, provisioner: kubernetes.io/no-provisioner, volumeBindingMode: WaitForFirstConsumer}`,
			claimOf("data", "local-storage", "10Gi", ""), volumeOn("v", "a", "local-storage", "5Gi")}, "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."},
		"none of its class's topologies": {[]string{`storageclasses {metadata: {name: zonal, uid: sc}, provisioner: example.com/zonal, volumeBindingMode: WaitForFirstConsumer, allowedTopologies: [{matchLabelExpressions: [{key: topology.kubernetes.io/zone, values: [us-central-1a]}]}]}`,
			claimOf("data", "zonal", "10Gi", "")}, "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."},
		"in another zone": {[]string{localPath, bound, `persistentvolumes {metadata: {name: v, uid: v, labels: {topology.kubernetes.io/zone: us-east-1a}}, spec: {capacity: {storage: 1Gi}}}`}, "0/2 nodes are available: 2 node(s) had no available volume zone."},
	} {
		t.Run(name, func(t *testing.T) {
			client := newFakeClient()
			client.put("nodes", host("a", "4"), watch.Added)
			client.put("nodes", host("b", "4"), watch.Added)
			client.with(t, tt.objects...)
			client.put("pods", pod("p", "1", mounting("data")), watch.Added)
			start(t, client)
			if got := failure(t, client, ""); got != tt.want+notHelpful {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want+notHelpful)
			}
		})
	}
}

func TestAPodWakesWhenItsClaimIsBound(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", host("a", "4"), watch.Added)
	client.put("nodes", host("b", "4"), watch.Added)
	client.with(t, `storageclasses {metadata: {name: slow, uid: sc}, provisioner: example.com/slow, volumeBindingMode: Immediate}`, claimOf("data", "slow", "1Gi", ""))
	client.put("pods", pod("p", "1", mounting("data")), watch.Added)
	start(t, client)
	failure(t, client, "pod has unbound immediate PersistentVolumeClaims")
	client.with(t, volumeOn("v", "b", "slow", "1Gi"))
	client.bindClaim(t, "data", "v")
	if got := <-client.bound; got != "p→b" {
		t.Fatal(got)
	}
}

func TestPodsGetDifferentVolumesTheSmallestFirst(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", host("a", "8"), watch.Added)
	client.put("nodes", host("b", "8"), watch.Added)
	client.with(t, `storageclasses {metadata: {name: local-storage, uid: sc}, provisioner: kubernetes.io/no-provisioner, volumeBindingMode: WaitForFirstConsumer}`,
		volumeOn("small", "a", "local-storage", "5Gi"), volumeOn("medium", "a", "local-storage", "10Gi"), volumeOn("large", "a", "local-storage", "50Gi"))
	for i := range 3 {
		client.with(t, claimOf(fmt.Sprint("data", i), "local-storage", "4Gi", ""))
		client.put("pods", pod(fmt.Sprint("p", i), "1", mounting(fmt.Sprint("data", i))), watch.Added)
	}
	start(t, client)
	got := map[string]string{}
	eventually(t, "all volumes are given", func() bool {
		clear(got)
		for _, v := range []string{"small", "medium", "large"} {
			if ref := client.volume(v).Spec.ClaimRef; ref != nil {
				got[ref.Name] = v
			}
		}
		return len(got) == 3
	})
	notBound(t, client)
	for claim, volume := range got {
		client.bindClaim(t, claim, volume)
	}
	for range 3 {
		if b := <-client.bound; !strings.HasSuffix(b, "→a") {
			t.Error(b)
		}
	}
}

func TestAClaimForOnePodIsUsedByOne(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", host("a", "8"), watch.Added)
	client.put("nodes", host("b", "8"), watch.Added)
	client.with(t, localPath, `persistentvolumes {metadata: {name: v, uid: v}, spec: {capacity: {storage: 1Gi}}}`,
		`persistentvolumeclaims {metadata: {namespace: default, name: data, uid: c, annotations: {pv.kubernetes.io/bind-completed: "yes"}}, spec: {storageClassName: local-path, volumeName: v, accessModes: [ReadWriteOncePod]}, status: {phase: Bound}}`)
	client.put("pods", pod("p", "1", mounting("data")), watch.Added)
	start(t, client)
	first := <-client.bound
	client.put("pods", pod("q", "1", mounting("data")), watch.Added)
	if got, want := failure(t, client, ""), "0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode."; !strings.HasPrefix(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
	// A more important one takes its place: on the node where it is.
	high := int32(100)
	client.put("pods", pod("vip", "1", mounting("data"), func(p *corev1.Pod) { p.Spec.Priority = &high }), watch.Added)
	if got := <-client.deleted; got != "p" {
		t.Fatal(got)
	}
	client.put("pods", client.boundPod("p"), watch.Deleted)
	if got, want := <-client.bound, "vip"+strings.TrimPrefix(first, "p"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestANodeHoldsAsManyVolumesAsItsDriverSays(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", host("a", "8"), watch.Added)
	client.with(t, `csinodes {metadata: {name: a, uid: a}, spec: {drivers: [{name: d.x, nodeID: a, allocatable: {count: 1}}]}}`)
	for _, n := range []string{"0", "1"} {
		client.with(t, `persistentvolumes {metadata: {name: v`+n+`, uid: v`+n+`}, spec: {capacity: {storage: 1Gi}, csi: {driver: d.x, volumeHandle: h`+n+`}}}`,
			`persistentvolumeclaims {metadata: {namespace: default, name: data`+n+`, uid: c`+n+`, annotations: {pv.kubernetes.io/bind-completed: "yes"}}, spec: {volumeName: v`+n+`, accessModes: [ReadWriteOnce]}, status: {phase: Bound}}`)
	}
	client.put("pods", pod("p", "1", mounting("data0")), watch.Added)
	start(t, client)
	<-client.bound
	client.put("pods", pod("q", "1", mounting("data1")), watch.Added)
	failure(t, client, "node(s) exceed max volume count")
	client.put("pods", pod("same", "1", mounting("data0")), watch.Added) // the volume is there already
	if got := <-client.bound; got != "same→a" {
		t.Fatal(got)
	}
	client.with(t, `csinodes {metadata: {name: a, uid: a}, spec: {drivers: [{name: d.x, nodeID: a, allocatable: {count: 2}}]}}`)
	if got := <-client.bound; got != "q→a" {
		t.Fatal(got)
	}
}
