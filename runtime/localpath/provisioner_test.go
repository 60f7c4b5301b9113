package localpath

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeQuota keeps limits in memory.
type fakeQuota struct {
	mu     sync.Mutex
	limits map[uint32]int64
	used   map[uint32]int64
	dirs   map[uint32]string
}

func newFakeQuota() *fakeQuota {
	return &fakeQuota{limits: map[uint32]int64{}, used: map[uint32]int64{}, dirs: map[uint32]string{}}
}

func (q *fakeQuota) Limit(dir string, project uint32, bytes int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if dir != "" {
		q.dirs[project] = filepath.Base(dir)
	}
	if q.limits[project] = bytes; bytes == 0 {
		delete(q.limits, project)
	}
	return nil
}

func (q *fakeQuota) Used(project uint32) (int64, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used[project], nil
}

func (q *fakeQuota) limitOf(name string) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	for p, d := range q.dirs {
		if d == name {
			return q.limits[p]
		}
	}
	return 0
}

type world struct {
	t      *testing.T
	client *fake.Clientset
	quota  *fakeQuota
	dir    string
	inUse  func(claim, volume string) bool
	stop   func()

	mu     sync.Mutex
	events []string
}

func newWorld(t *testing.T) *world {
	return &world{t: t, client: fake.NewClientset(class()), quota: newFakeQuota(), dir: t.TempDir()}
}

// start runs a provisioner until the test ends or stop is called.
func (w *world) start() {
	w.t.Helper()
	p, err := New(Config{Client: w.client, NodeName: "n1", Dir: w.dir, Quota: w.quota, InUse: w.inUse,
		Free: func() (int64, error) { return 10 << 30, nil },
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
	go func() { done <- p.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	w.t.Cleanup(w.stop)
}

func (w *world) said(words string) func() bool {
	return func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range w.events {
			if strings.Contains(e, words) {
				return true
			}
		}
		return false
	}
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
	w.t.Fatalf("never: %s; events: %q", what, w.events)
}

func (w *world) create(c *corev1.PersistentVolumeClaim) {
	w.t.Helper()
	if _, err := w.client.CoreV1().PersistentVolumeClaims(c.Namespace).Create(w.t.Context(), c, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) volume(name string) *corev1.PersistentVolume {
	v, err := w.client.CoreV1().PersistentVolumes().Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return v.DeepCopy()
}

func (w *world) claim(name string) *corev1.PersistentVolumeClaim {
	w.t.Helper()
	c, err := w.client.CoreV1().PersistentVolumeClaims("default").Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return c.DeepCopy()
}

func (w *world) update(o runtime.Object) {
	w.t.Helper()
	var err error
	switch o := o.(type) {
	case *corev1.PersistentVolume:
		_, err = w.client.CoreV1().PersistentVolumes().Update(w.t.Context(), o, metav1.UpdateOptions{})
	case *corev1.PersistentVolumeClaim:
		_, err = w.client.CoreV1().PersistentVolumeClaims(o.Namespace).Update(w.t.Context(), o, metav1.UpdateOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// provisioned makes a claim and binds the volume that comes.
func (w *world) provisioned(name, size string) *corev1.PersistentVolume {
	w.t.Helper()
	w.create(claim(name, size))
	w.eventually("provisioned", func() bool { return w.volume("pvc-"+name) != nil })
	v, c := w.volume("pvc-"+name), w.claim(name)
	bind(c, v)
	w.update(v)
	w.update(c)
	return v
}

// released is what the binder does when the claim is gone.
func (w *world) released(name string) {
	w.t.Helper()
	if err := w.client.CoreV1().PersistentVolumeClaims("default").Delete(w.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
	v := w.volume("pvc-" + name)
	v.Status.Phase = corev1.VolumeReleased
	w.update(v)
}

func (w *world) exists(name string) bool {
	_, err := os.Stat(filepath.Join(w.dir, name))
	return err == nil
}

func TestAFolderComesGrowsAndGoesWithItsClaim(t *testing.T) {
	w := newWorld(t)
	w.start()
	v := w.provisioned("a", "1Gi")
	if v.Spec.Local.Path != filepath.Join(w.dir, "pvc-a") || !w.exists("pvc-a") || v.Annotations[AnnotationQuota] != "project" {
		t.Fatalf("volume %+v", v)
	}
	if got := w.quota.limitOf("pvc-a"); got != 1<<30 {
		t.Fatalf("limit %d", got)
	}
	c := w.claim("a")
	c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Gi")
	c.Status.Conditions = []corev1.PersistentVolumeClaimCondition{{Type: corev1.PersistentVolumeClaimResizing, Status: corev1.ConditionTrue}}
	w.update(c)
	w.eventually("grown", func() bool {
		c := w.claim("a")
		q := c.Status.Capacity[corev1.ResourceStorage]
		return q.String() == "2Gi" && len(c.Status.Conditions) == 0
	})
	if q := w.volume("pvc-a").Spec.Capacity[corev1.ResourceStorage]; q.String() != "2Gi" || w.quota.limitOf("pvc-a") != 2<<30 {
		t.Fatalf("capacity %s, limit %d", q.String(), w.quota.limitOf("pvc-a"))
	}
	w.released("a")
	w.eventually("gone", func() bool { return w.volume("pvc-a") == nil && !w.exists("pvc-a") && !w.exists(".records/pvc-a.json") })
	if w.quota.limitOf("pvc-a") != 0 {
		t.Fatal("the quota wasn't given back")
	}
}

func TestWhatIsRetainedOrUsedStays(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	used := true
	w.inUse = func(name, _ string) bool { mu.Lock(); defer mu.Unlock(); return used && name == "default/used" }
	w.start()
	v := w.provisioned("retained", "1Gi")
	v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	w.update(v)
	w.released("retained")
	w.provisioned("used", "1Gi")
	w.released("used")
	w.eventually("said", w.said("pvc-used VolumeFailedDelete: persistentvolume pvc-used is still used by a pod of this node"))
	w.provisioned("later", "1Gi") // the loop has seen all of it by now
	if !w.exists("pvc-retained") || !w.exists("pvc-used") || w.volume("pvc-used") == nil {
		t.Fatal("a folder that is retained or used was removed")
	}
	// A retained volume that somebody deletes goes, and its folder stays.
	if err := w.client.CoreV1().PersistentVolumes().Delete(t.Context(), "pvc-retained", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	used = false
	mu.Unlock()
	w.eventually("gone", func() bool { return w.volume("pvc-used") == nil && !w.exists("pvc-used") })
	if !w.exists("pvc-retained") {
		t.Fatal("a folder went without being told to")
	}
}

func TestAKillBetweenFolderAndVolumeLosesAndLeaksNothing(t *testing.T) {
	w := newWorld(t)
	refuse := true
	w.client.PrependReactor("create", "persistentvolumes", func(clienttesting.Action) (bool, runtime.Object, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return refuse, nil, apierrors.NewServiceUnavailable("gone")
	})
	w.start()
	w.create(claim("wanted", "1Gi"))
	w.create(claim("unwanted", "1Gi"))
	w.eventually("half made", func() bool { return w.exists("pvc-wanted") && w.exists("pvc-unwanted") })
	w.stop() // as a kill there: both folders, no volume
	if err := w.client.CoreV1().PersistentVolumeClaims("default").Delete(t.Context(), "unwanted", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(w.dir, "somebody's"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	refuse = false
	w.mu.Unlock()
	w.start()
	w.eventually("finished", func() bool {
		return w.volume("pvc-wanted") != nil && !w.exists("pvc-unwanted") && !w.exists(".records/pvc-unwanted.json")
	})
	if !w.exists("pvc-wanted") || !w.exists("somebody's") {
		t.Fatal("too much was removed")
	}
	w.stop()
	f, err := OpenFolders(w.dir, w.quota)
	if err != nil {
		t.Fatal(err)
	}
	if r := f.Records(); len(r) != 1 || r[0].Name != "pvc-wanted" || r[0].State != Ready {
		t.Fatalf("records: %+v", r)
	}
}

func TestARemovalThatWasInterruptedIsFinished(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.provisioned("a", "1Gi")
	w.stop()
	// As after a kill between putting the folder aside and deleting the volume.
	f, err := OpenFolders(w.dir, w.quota)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := f.Record("pvc-a")
	r.State = Deleting
	f.mu.Lock()
	err = f.writeLocked(r)
	f.mu.Unlock()
	if err := errors.Join(err, os.Rename(filepath.Join(w.dir, "pvc-a"), filepath.Join(w.dir, trashDir, "pvc-a"))); err != nil {
		t.Fatal(err)
	}
	w.released("a")
	w.start()
	w.eventually("gone", func() bool { return w.volume("pvc-a") == nil && !w.exists(".records/pvc-a.json") })
	if w.exists(".trash/pvc-a") {
		t.Fatal("the folder is left in the trash")
	}
}

func TestTooMuchIsRefusedAndSaidOnce(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.create(claim("huge", "1Pi"))
	w.eventually("said", w.said("huge ProvisioningFailed: failed to provision volume with StorageClass \"local-path\": not enough free space on node n1: 1Pi is asked for"))
	w.eventually("the scheduler is to choose again", func() bool { return w.claim("huge").Annotations[AnnotationSelectedNode] == "" })
	if w.exists("pvc-huge") || w.volume("pvc-huge") != nil {
		t.Fatal("it was made all the same")
	}
}

func TestTwoFoldersHaveTwoProjects(t *testing.T) {
	f, err := OpenFolders(t.TempDir(), newFakeQuota())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := f.Make(Record{Name: name, Bytes: 1}); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := f.Record("a")
	b, _ := f.Record("b")
	if a.Project == b.Project || a.Project < firstProject {
		t.Fatalf("projects %d and %d", a.Project, b.Project)
	}
	for _, bad := range []string{"", ".", "..", ".records", "a/b", "../x"} {
		if _, err := f.Make(Record{Name: bad}); err == nil {
			t.Errorf("%q is a folder's name", bad)
		}
	}
}
