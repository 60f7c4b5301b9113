package csi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pintle/pintle/runtime/claims"
	"github.com/pintle/pintle/runtime/csi/csitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const driverName = "test.csi.example"

type world struct {
	t       *testing.T
	client  *fake.Clientset
	dir     string
	driver  *csitest.Driver
	manager *Manager
	stop    func()
	known   func(string) bool

	mu      sync.Mutex
	events  []string
	reports []string // what was in use, and how many calls the driver had had by then
}

// newWorld has a node, and a driver that registers itself as one in a pod does: with the ecosystem's path.
func newWorld(t *testing.T, change func(*csitest.Driver)) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "csi") // sockets' paths are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, client: fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node", Labels: map[string]string{"a": "b"}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})}
	w.driver = &csitest.Driver{Name: driverName, NodeID: "id-1", Dir: dir, Registered: "/var/lib/kubelet/plugins/" + driverName + "/csi.sock", Limit: 7}
	if change != nil {
		change(w.driver)
	}
	if err := w.driver.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.driver.Stop)
	w.start()
	return w
}

// start runs a manager until the test ends or stop is called.
func (w *world) start() {
	w.t.Helper()
	m, err := New(Config{Client: w.client, NodeName: "n1", Dir: w.dir, Period: 10 * time.Millisecond, Known: w.known,
		Token: func(_ context.Context, pod *corev1.Pod, audience string, _ *int64) (string, time.Time, error) {
			return "token of " + pod.Name + " for " + audience, time.Unix(1, 0).UTC(), nil
		},
		Report: func(context.Context) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.reports = append(w.reports, fmt.Sprint(w.manager.InUse(), len(w.driver.Calls())))
			return nil
		},
		Event: func(about corev1.ObjectReference, _, reason, message string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, about.Name+" "+reason+": "+message)
		}})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	w.manager = m
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	w.t.Cleanup(w.stop)
	w.eventually("registered", func() bool { _, ok := m.driver(driverName); return ok })
}

func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if f() {
			return
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Fatalf("never: %s; calls %q, events %q", what, w.driver.Calls(), w.events)
}

func (w *world) csiNode() *storagev1.CSINode {
	c, err := w.client.StorageV1().CSINodes().Get(w.t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		return &storagev1.CSINode{}
	}
	return c
}

func volume(name string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		MountOptions: []string{"noatime"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driverName, VolumeHandle: "h-" + name, FSType: "ext4",
			VolumeAttributes: map[string]string{"x": "y"}}}}}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)}}
}

// noAttach says that the driver's volumes need no attaching.
func (w *world) noAttach(change func(*storagev1.CSIDriverSpec)) {
	w.t.Helper()
	no := false
	d := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: driverName}, Spec: storagev1.CSIDriverSpec{AttachRequired: &no}}
	if change != nil {
		change(&d.Spec)
	}
	if _, err := w.client.StorageV1().CSIDrivers().Create(w.t.Context(), d, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func TestADriverRegistersAndIsForgotten(t *testing.T) {
	w := newWorld(t, func(d *csitest.Driver) { d.Topology = map[string]string{"topology.example/zone": "z1"} })
	c := w.csiNode()
	if len(c.Spec.Drivers) != 1 || c.Spec.Drivers[0].Name != driverName || c.Spec.Drivers[0].NodeID != "id-1" || *c.Spec.Drivers[0].Allocatable.Count != 7 ||
		!slices.Equal(c.Spec.Drivers[0].TopologyKeys, []string{"topology.example/zone"}) || len(c.OwnerReferences) != 1 || c.OwnerReferences[0].UID != "node" {
		t.Fatalf("CSINode %+v", c)
	}
	n, err := w.client.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil || n.Labels["topology.example/zone"] != "z1" || n.Labels["a"] != "b" {
		t.Fatalf("labels %v, %v", n.Labels, err)
	}
	w.eventually("told", func() bool { return slices.Equal(w.driver.Registrations(), []string{""}) })
	w.driver.Stop()
	w.eventually("forgotten", func() bool { return len(w.csiNode().Spec.Drivers) == 0 })
	if err := w.driver.Start(); err != nil {
		t.Fatal(err)
	}
	w.eventually("known again", func() bool { return len(w.csiNode().Spec.Drivers) == 1 })
}

func TestAVolumeIsStagedOncePublishedPerPodAndTakenDownInOrder(t *testing.T) {
	w := newWorld(t, nil)
	w.noAttach(nil)
	pv := volume("v")
	for _, p := range []string{"a", "b"} {
		m, err := w.manager.Mount(t.Context(), Volume{Pod: pod(p), Name: "data", PV: pv})
		if err != nil {
			t.Fatal(err)
		}
		if want := filepath.Join(w.dir, "pods/uid-"+p+"/volumes/kubernetes.io~csi/v/mount"); m.Path != want || m.Republish != nil {
			t.Fatalf("%+v, want %s", m, want)
		}
		if _, err := os.Stat(m.Path); err != nil {
			t.Fatal(err)
		}
	}
	req := w.driver.Last("NodePublishVolume").(*csipb.NodePublishVolumeRequest)
	if req.TargetPath != "/var/lib/kubelet/pods/uid-b/volumes/kubernetes.io~csi/v/mount" || !strings.HasPrefix(req.StagingTargetPath, "/var/lib/kubelet/plugins/kubernetes.io/csi/"+driverName) ||
		req.VolumeContext["x"] != "y" || req.GetVolumeCapability().GetMount().GetFsType() != "ext4" || !slices.Equal(req.GetVolumeCapability().GetMount().GetMountFlags(), []string{"noatime"}) ||
		req.GetVolumeCapability().GetAccessMode().GetMode() != csipb.VolumeCapability_AccessMode_SINGLE_NODE_WRITER {
		t.Fatalf("%+v", req)
	}
	if u := w.manager.Usage(t.Context()); len(u) != 2 || u[0].Used != 30 || u[0].InodesFree != 7 {
		t.Fatalf("usage %+v", u)
	}
	w.stop() // what a later agent finds is enough to end it
	w.start()
	for _, p := range []string{"a", "b", "b", "never"} {
		if err := w.manager.Unmount(t.Context(), "uid-"+p); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"NodeStageVolume h-v", "NodePublishVolume h-v", "NodePublishVolume h-v", "NodeUnpublishVolume h-v", "NodeUnpublishVolume h-v", "NodeUnstageVolume h-v"}
	if got := w.driver.Calls(); !slices.Equal(got, want) {
		t.Fatalf("calls %q", got)
	}
	if left, _ := filepath.Glob(filepath.Join(w.dir, "p*", "*", "*", "*")); len(left) > 1 { // plugins/kubernetes.io/csi/<driver>
		t.Fatalf("left: %q", left)
	}
}

func TestPodsThatAreGoneLoseTheirVolumesThoughNobodyAsks(t *testing.T) {
	w := newWorld(t, nil)
	w.noAttach(nil)
	if _, err := w.manager.Mount(t.Context(), Volume{Pod: pod("a"), Name: "data", PV: volume("v")}); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.known = func(string) bool { return false }
	w.start()
	w.eventually("taken down", func() bool { return slices.Contains(w.driver.Calls(), "NodeUnstageVolume h-v") })
}

func TestAFailureIsToldAndCanBeTriedAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.noAttach(nil)
	w.driver.Fail("NodeStageVolume", status.Error(codes.Internal, "the disk is upside down"))
	v := Volume{Pod: pod("a"), Name: "data", PV: volume("v")}
	if _, err := w.manager.Mount(t.Context(), v); err == nil || !strings.Contains(err.Error(), "code = Internal desc = the disk is upside down") {
		t.Fatal(err)
	}
	w.driver.Fail("NodeStageVolume", nil)
	if _, err := w.manager.Mount(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	// What the volume holds is never removed with its folder, though the driver says that it's unmounted.
	w.driver.Fail("NodeUnpublishVolume", status.Error(codes.NotFound, "which volume?"))
	data := filepath.Join(w.dir, "pods/uid-a/volumes/kubernetes.io~csi/v/mount/precious")
	if err := os.WriteFile(data, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.manager.Unmount(t.Context(), "uid-a"); err == nil {
		t.Fatal("a folder with something in it was removed")
	}
	if _, err := os.Stat(data); err != nil {
		t.Fatal(err)
	}
	w.driver.Fail("NodeUnpublishVolume", nil)
	_ = os.Remove(data)
	if err := w.manager.Unmount(t.Context(), "uid-a"); err != nil {
		t.Fatal(err)
	}
}

func TestAVolumeThatIsToBeAttachedIsWaitedFor(t *testing.T) {
	w := newWorld(t, nil)
	v := Volume{Pod: pod("a"), Name: "data", PV: volume("v")}
	wait := func(words string) {
		t.Helper()
		_, err := w.manager.Mount(t.Context(), v)
		if !errors.As(err, new(*claims.Waiting)) || !strings.Contains(err.Error(), words) {
			t.Fatalf("%v, want %q", err, words)
		}
	}
	wait("there is no VolumeAttachment yet")
	name := "v"
	a := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: AttachmentName(driverName, "h-v", "n1")},
		Spec: storagev1.VolumeAttachmentSpec{Attacher: driverName, NodeName: "n1", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &name}}}
	a, err := w.client.StorageV1().VolumeAttachments().Create(t.Context(), a, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait("to be attached to the node")
	a = a.DeepCopy()
	a.Status.AttachError = &storagev1.VolumeError{Message: "no slot is free"}
	if a, err = w.client.StorageV1().VolumeAttachments().UpdateStatus(t.Context(), a, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(`AttachVolume.Attach failed for volume "v" : no slot is free`)
	a = a.DeepCopy()
	a.Status = storagev1.VolumeAttachmentStatus{Attached: true, AttachmentMetadata: map[string]string{"device": "/dev/x"}}
	if _, err = w.client.StorageV1().VolumeAttachments().UpdateStatus(t.Context(), a, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.manager.Mount(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if got := w.driver.Last("NodeStageVolume").(*csipb.NodeStageVolumeRequest).PublishContext["device"]; got != "/dev/x" {
		t.Fatalf("publish context %q", got)
	}
	if got := w.manager.InUse(); !slices.Equal(got, []corev1.UniqueVolumeName{"kubernetes.io/csi/" + driverName + "^h-v"}) {
		t.Fatalf("in use: %q", got)
	}
	// Who detaches reads what is in use: it is there before the driver is asked, and not after it is done.
	if err := w.manager.Unmount(t.Context(), "uid-a"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"[kubernetes.io/csi/" + driverName + "^h-v] 0", "[] 4"}; !slices.Equal(w.reports, want) {
		t.Fatalf("reports %q", w.reports)
	}
}

func TestAnInlineVolumeIsThePodsAndIsToldOfIt(t *testing.T) {
	w := newWorld(t, nil)
	v := Volume{Pod: pod("a"), Name: "scratch", Inline: &corev1.CSIVolumeSource{Driver: driverName, VolumeAttributes: map[string]string{"size": "1"}}}
	if _, err := w.manager.Mount(t.Context(), v); err == nil || !strings.Contains(err.Error(), `volume mode "Ephemeral" not supported by driver`) {
		t.Fatal(err)
	}
	w.noAttach(func(s *storagev1.CSIDriverSpec) {
		yes := true
		s.PodInfoOnMount, s.RequiresRepublish = &yes, &yes
		s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral}
		s.TokenRequests = []storagev1.TokenRequest{{Audience: "vault"}}
	})
	m, err := w.manager.Mount(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	c := w.driver.Last("NodePublishVolume").(*csipb.NodePublishVolumeRequest).VolumeContext
	if c["csi.storage.k8s.io/ephemeral"] != "true" || c["csi.storage.k8s.io/pod.name"] != "a" || c["csi.storage.k8s.io/pod.uid"] != "uid-a" || c["size"] != "1" ||
		c[tokensKey] != `{"vault":{"token":"token of a for vault","expirationTimestamp":"1970-01-01T00:00:01Z"}}` {
		t.Fatalf("context %v", c)
	}
	if err := m.Republish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.manager.Unmount(t.Context(), "uid-a"); err != nil {
		t.Fatal(err)
	}
	calls := w.driver.Calls()
	for i := range calls {
		calls[i], _, _ = strings.Cut(calls[i], " ")
	}
	if !slices.Equal(calls, []string{"NodePublishVolume", "NodePublishVolume", "NodeUnpublishVolume"}) {
		t.Fatalf("calls %q", calls)
	}
}

func TestAFSGroupIsTheDriversIfItCan(t *testing.T) {
	w := newWorld(t, func(d *csitest.Driver) { d.Group = true })
	w.noAttach(nil)
	p, gid := pod("a"), int64(4242)
	p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &gid}
	if _, err := w.manager.Mount(t.Context(), Volume{Pod: p, Name: "data", PV: volume("v")}); err != nil {
		t.Fatal(err)
	}
	if got := w.driver.Last("NodeStageVolume").(*csipb.NodeStageVolumeRequest).GetVolumeCapability().GetMount().GetVolumeMountGroup(); got != "4242" {
		t.Fatalf("group %q", got)
	}
}
