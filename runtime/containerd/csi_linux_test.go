package containerd

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pintle/pintle/internal/containertest"
	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/csi/csitest"
)

// asDriver makes this test's program a storage driver, in a pod.
const asDriver = "PINTLE_TEST_CSI_DRIVER"

func TestMain(m *testing.M) {
	if os.Getenv(asDriver) == "" {
		os.Exit(m.Run())
	}
	d := &csitest.Driver{Name: os.Getenv(asDriver), NodeID: "n1", Dir: runtime.KubeletDir, Data: "/data",
		Bind: func(source, target string) error { return unix.Mount(source, target, "", unix.MS_BIND, "") },
		Unbind: func(target string) error {
			if err := unix.Unmount(target, 0); err != nil && err != unix.EINVAL && err != unix.ENOENT {
				return err
			}
			return nil
		}}
	if err := d.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	select {}
}

// A driver in a pod mounts into the kubelet's folder, as the ecosystem's do, and another pod has what it mounted.
func TestADriverInAPodMountsVolumesForOthers(t *testing.T) {
	containertest.Need(t)
	self, err := os.Executable()
	must(t, err)
	const driver = "pod.csi.example"
	base, err := os.MkdirTemp("", "csi")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	e := start(t, Config{Name: fmt.Sprintf("csi%d", os.Getpid()), DataDir: t.TempDir(), PodCIDR: netip.MustParsePrefix("10.232.77.0/24")})
	t.Cleanup(func() { e.stop(); e.Teardown(context.Background()) })
	_, err = e.ImportImages(t.Context(), bytes.NewReader(containertest.Busybox(t, "box:1")))
	must(t, err)

	no := false
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c", UID: "c"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound}}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{UID: "c"},
		AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "vol"}}}}
	client := fake.NewClientset(claim, pv, &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: driver}, Spec: storagev1.CSIDriverSpec{AttachRequired: &no}})
	agent, err := runtime.New(runtime.Config{Client: client, NodeName: "n1", DataDir: base, Engines: []runtime.Engine{unrun{e}}})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := agent.RemoveAll(context.Background()); err != nil {
			t.Error(err)
		}
		if b, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(b), base) {
			t.Errorf("mounts are left below %s", base)
		}
	})

	select {
	case <-agent.Ready():
	case <-time.After(time.Minute):
		t.Fatal("the agent isn't ready")
	}
	grace, yes, both, create := int64(1), true, corev1.MountPropagationBidirectional, corev1.HostPathDirectoryOrCreate
	pod := func(name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)},
			Spec: corev1.PodSpec{NodeName: "n1", TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{{Name: "c", Image: "box:1"}}}}
	}
	d := pod("driver")
	d.Spec.HostNetwork = true
	c := &d.Spec.Containers[0]
	c.Command, c.Env, c.SecurityContext = []string{"/self"}, []corev1.EnvVar{{Name: asDriver, Value: driver}}, &corev1.SecurityContext{Privileged: &yes}
	host := func(name, path, at string, p *corev1.MountPropagationMode) {
		s := &corev1.HostPathVolumeSource{Path: path}
		if p != nil {
			s.Type = &create
		}
		d.Spec.Volumes = append(d.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: s}})
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: at, MountPropagation: p})
	}
	host("kubelet", runtime.KubeletDir, runtime.KubeletDir, &both)
	host("data", filepath.Join(base, "data"), "/data", nil)
	host("self", self, "/self", nil)
	for _, p := range []string{"/lib", "/lib64", "/usr/lib"} { // this program may be linked to what the machine has
		if _, err := os.Stat(p); err == nil {
			host("m"+strings.ReplaceAll(p[1:], "/", ""), p, p, nil)
		}
	}
	run := func(p *corev1.Pod, f func() bool, what string) {
		t.Helper()
		_, err := client.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{})
		must(t, err)
		until(t, what, f, func() string {
			p, _ := client.CoreV1().Pods("default").Get(t.Context(), p.Name, metav1.GetOptions{})
			events, _ := client.CoreV1().Events("").List(t.Context(), metav1.ListOptions{})
			var said []string
			for _, e := range events.Items {
				said = append(said, e.InvolvedObject.Name+" "+e.Reason+": "+e.Message)
			}
			return fmt.Sprintf("%+v\n%s", p.Status.ContainerStatuses, strings.Join(said, "\n"))
		})
	}
	run(d, func() bool {
		n, err := client.StorageV1().CSINodes().Get(t.Context(), "n1", metav1.GetOptions{})
		return err == nil && len(n.Spec.Drivers) == 1
	}, "the driver is registered")

	user := pod("user")
	user.Spec.Containers[0].Args = []string{"echo written > /v/f; exec busybox sleep 1000"}
	user.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	user.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
	run(user, func() bool {
		b, err := os.ReadFile(filepath.Join(base, "data/vol/f"))
		return err == nil && string(b) == "written\n"
	}, "what the pod wrote is in the driver's volume")

	p, err := client.CoreV1().Pods("default").Get(t.Context(), "user", metav1.GetOptions{})
	must(t, err)
	p = p.DeepCopy()
	now := metav1.Now()
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
	_, err = client.CoreV1().Pods("default").Update(t.Context(), p, metav1.UpdateOptions{})
	must(t, err)
	until(t, "the volume is taken down", func() bool {
		left, _ := filepath.Glob(filepath.Join(base, "kubelet/pods/*"))
		return len(left) == 0
	}, func() string { return "" })
	if b, err := os.ReadFile(filepath.Join(base, "data/vol/f")); err != nil || string(b) != "written\n" {
		t.Fatalf("the data went with the pod: %q, %v", b, err)
	}
}

// unrun is an engine that runs already.
type unrun struct{ *running }

func (u unrun) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func until(t *testing.T, what string, f func() bool, why func() string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("never: %s: %s", what, why())
}
