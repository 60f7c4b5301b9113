package runtime_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pintle/pintle/runtime/runtimetest"
)

// claim makes a claim and its volume, a folder; bound or not.
func (n *node) claim(name, path string, bound bool, modes ...corev1.PersistentVolumeAccessMode) {
	n.t.Helper()
	if modes == nil {
		modes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + name}, Spec: corev1.PersistentVolumeSpec{AccessModes: modes,
		PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
		ClaimRef:               &corev1.ObjectReference{Namespace: "default", Name: name, UID: types.UID("claim-" + name)}}}
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("claim-" + name)},
		Spec: corev1.PersistentVolumeClaimSpec{AccessModes: modes}, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}}
	if _, err := n.client.CoreV1().PersistentVolumes().Create(n.t.Context(), pv, metav1.CreateOptions{}); err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.client.CoreV1().PersistentVolumeClaims("default").Create(n.t.Context(), c, metav1.CreateOptions{}); err != nil {
		n.t.Fatal(err)
	}
	if bound {
		n.bind(name)
	}
}

func (n *node) bind(name string) {
	n.t.Helper()
	c, err := n.client.CoreV1().PersistentVolumeClaims("default").Get(n.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	c = c.DeepCopy()
	c.Spec.VolumeName, c.Status.Phase = "pv-"+name, corev1.ClaimBound
	if _, err := n.client.CoreV1().PersistentVolumeClaims("default").Update(n.t.Context(), c, metav1.UpdateOptions{}); err != nil {
		n.t.Fatal(err)
	}
}

func claimPod(name, claim string) *corev1.Pod {
	p := pod(name)
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	return p
}

// said reports whether there is an event with that reason whose message holds the words.
func (n *node) said(reason, words string) func() bool {
	return func() bool {
		l, err := n.client.CoreV1().Events("").List(n.t.Context(), metav1.ListOptions{})
		if err != nil {
			return false
		}
		for _, e := range l.Items {
			if e.Reason == reason && strings.Contains(e.Message, words) {
				return true
			}
		}
		return false
	}
}

func TestAPodWaitsForItsClaimAndGetsTheFolder(t *testing.T) {
	n := start(t, fake.NewClientset(), runtimetest.NewFakeEngine("", "img"), t.TempDir())
	data := t.TempDir()
	n.claim("a", data, false)
	p := claimPod("p", "a")
	gid := int64(4242)
	p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &gid}
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "POD", Value: "web-0"}}
	p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts,
		corev1.VolumeMount{Name: "data", MountPath: "/sub", SubPathExpr: "logs/$(POD)"}, corev1.VolumeMount{Name: "data", MountPath: "/ro", ReadOnly: true})
	n.create(p)
	n.eventually("what it waits for is said", n.said("FailedMount", `MountVolume.SetUp failed for volume "data" : error processing PVC default/a: PVC is not bound`))
	if _, ok := n.engine.Spec("uid-p-c-0"); ok {
		t.Fatal("the container was made without its volume")
	}
	n.bind("a")
	n.eventually("ready", func() bool { return condition(n.get("p"), corev1.PodReady) })
	spec, _ := n.engine.Spec("uid-p-c-0")
	want := map[string]string{"/data": data, "/sub": filepath.Join(data, "logs/web-0"), "/ro": data}
	for _, m := range spec.Mounts {
		if h, ok := want[m.ContainerPath]; ok {
			if m.HostPath != h || m.ReadOnly != (m.ContainerPath == "/ro") {
				t.Errorf("mount %+v, want of %s", m, h)
			}
			delete(want, m.ContainerPath)
		}
	}
	if len(want) > 0 {
		t.Errorf("not mounted: %v", want)
	}
	if err := os.WriteFile(filepath.Join(data, "kept"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.remove("p")
	n.eventually("pod is deleted", func() bool { return n.get("p") == nil })
	if _, err := os.Stat(filepath.Join(data, "kept")); err != nil {
		t.Fatalf("the data went with the pod: %v", err)
	}
}

func TestAClaimOfOnePodIsRefusedToASecond(t *testing.T) {
	client, engine, dir := fake.NewClientset(), runtimetest.NewFakeEngine("", "img"), t.TempDir()
	n := start(t, client, engine, dir)
	n.claim("a", t.TempDir(), true, corev1.ReadWriteOncePod)
	n.create(claimPod("first", "a"))
	n.eventually("ready", func() bool { return condition(n.get("first"), corev1.PodReady) })
	n.stop() // whoever has it keeps it over a restart of the agent
	n = start(t, client, engine, dir)
	n.create(claimPod("second", "a"))
	n.eventually("refused", n.said("FailedMount", "volume uses the ReadWriteOncePod access mode and is already in use by another pod"))
	if condition(n.get("second"), corev1.PodReady) {
		t.Fatal("two pods have the volume")
	}
	n.remove("first")
	n.eventually("the second has it", func() bool { return condition(n.get("second"), corev1.PodReady) })
}

func TestAPodWhoseClaimNeverComesCanBeDeleted(t *testing.T) {
	n := start(t, fake.NewClientset(), runtimetest.NewFakeEngine("", "img"), t.TempDir())
	n.create(claimPod("p", "nowhere"))
	n.eventually("said", n.said("FailedMount", `persistentvolumeclaims "nowhere" not found`))
	n.remove("p")
	n.eventually("pod is deleted", func() bool { return n.get("p") == nil })
}

func TestTheKubeletsFolderIsTheAgents(t *testing.T) {
	n := start(t, fake.NewClientset(), runtimetest.NewFakeEngine("", "img"), t.TempDir())
	p := pod("driver")
	create := corev1.HostPathDirectoryOrCreate
	p.Spec.Volumes = []corev1.Volume{{Name: "reg", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/kubelet/plugins_registry", Type: &create}}},
		{Name: "other", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: t.TempDir()}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "reg", MountPath: "/registration"}, {Name: "other", MountPath: "/other"}}
	n.create(p)
	n.eventually("ready", func() bool { return condition(n.get("driver"), corev1.PodReady) })
	spec, _ := n.engine.Spec("uid-driver-c-0")
	for _, m := range spec.Mounts {
		if m.ContainerPath == "/registration" && m.HostPath != filepath.Join(n.dir, "kubelet", "plugins_registry") {
			t.Fatalf("mount %+v", m)
		}
		if m.ContainerPath == "/other" && m.HostPath != p.Spec.Volumes[1].HostPath.Path {
			t.Fatalf("mount %+v", m)
		}
	}
}
