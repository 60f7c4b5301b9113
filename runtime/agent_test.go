package runtime_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type node struct {
	t      *testing.T
	client *fake.Clientset
	engine *runtimetest.FakeEngine
	agent  *runtime.Agent
	dir    string
	stop   func()
}

func start(t *testing.T, client *fake.Clientset, engine *runtimetest.FakeEngine, dir string) *node {
	t.Helper()
	a, err := runtime.New(runtime.Config{Client: client, NodeName: "n1", DataDir: dir, Engines: []runtime.Engine{engine},
		RefreshInterval: 100 * time.Millisecond, ClusterDNS: []string{"10.0.0.10"}})
	if err != nil {
		t.Fatal(err)
	}
	return run(t, a, client, engine, dir)
}

// run runs an agent until the test ends or stop is called.
func run(t *testing.T, a *runtime.Agent, client *fake.Clientset, engine *runtimetest.FakeEngine, dir string) *node {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stopped := false
	n := &node{t: t, client: client, engine: engine, agent: a, dir: dir}
	n.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(n.stop)
	select {
	case <-a.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("agent isn't ready")
	}
	return n
}

func pod(name string) *corev1.Pod {
	grace := int64(5)
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)},
		Spec: corev1.PodSpec{NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "c", Image: "img"}}}}
}

func (n *node) create(p *corev1.Pod) {
	n.t.Helper()
	if _, err := n.client.CoreV1().Pods(p.Namespace).Create(n.t.Context(), p, metav1.CreateOptions{}); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) get(name string) *corev1.Pod {
	p, err := n.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return p
}

func (n *node) eventually(what string, f func() bool) {
	n.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	n.t.Fatalf("never: %s", what)
}

func condition(p *corev1.Pod, t corev1.PodConditionType) bool {
	return p != nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == t && c.Status == corev1.ConditionTrue })
}

func TestAPodRunsRestartsAtOnceAndEndsInOrder(t *testing.T) {
	n := start(t, fake.NewClientset(), runtimetest.NewFakeEngine("", "img"), t.TempDir())
	n.create(pod("a"))
	n.eventually("ready", func() bool { return condition(n.get("a"), corev1.PodReady) })
	p := n.get("a")
	if p.Status.Phase != corev1.PodRunning || p.Status.PodIP == "" || len(p.Status.ContainerStatuses) != 1 || !p.Status.ContainerStatuses[0].Ready {
		t.Fatalf("status: %+v", p.Status)
	}
	n.engine.Exit("uid-a-c-0", 3)
	n.eventually("restarted and ready", func() bool {
		p := n.get("a")
		return condition(p, corev1.PodReady) && p.Status.ContainerStatuses[0].RestartCount == 1
	})
	last := n.get("a").Status.ContainerStatuses[0].LastTerminationState.Terminated
	if last == nil || last.ExitCode != 3 || last.Reason != "Error" {
		t.Fatalf("last state: %+v", last)
	}
	n.engine.Exit("uid-a-c-1", 3)
	n.eventually("crash loop", func() bool {
		p := n.get("a")
		w := p.Status.ContainerStatuses[0].State.Waiting
		return w != nil && w.Reason == "CrashLoopBackOff" && !condition(p, corev1.PodReady) && p.Status.Phase == corev1.PodRunning
	})
	n.remove("a")
	n.eventually("pod is deleted", func() bool { return n.get("a") == nil })
	if boxes, _ := n.engine.Sandboxes(t.Context()); len(boxes) != 0 {
		t.Fatalf("sandboxes are left: %v", boxes)
	}
	if _, err := os.Stat(filepath.Join(n.dir, "pods", "uid-a")); !os.IsNotExist(err) {
		t.Fatalf("pod folder is left: %v", err)
	}
}

// remove marks the pod as terminating, as the API server does.
func (n *node) remove(name string) {
	n.t.Helper()
	p := n.get(name).DeepCopy()
	now, grace := metav1.Now(), int64(5)
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
	if _, err := n.client.CoreV1().Pods("default").Update(n.t.Context(), p, metav1.UpdateOptions{}); err != nil {
		n.t.Fatal(err)
	}
}

func TestARestartedAgentAdoptsAndNoticesWhatItMissed(t *testing.T) {
	client, engine, dir := fake.NewClientset(), runtimetest.NewFakeEngine("", "img"), t.TempDir()
	n := start(t, client, engine, dir)
	n.create(pod("a"))
	n.create(pod("b"))
	n.create(pod("gone"))
	n.eventually("ready", func() bool {
		return condition(n.get("a"), corev1.PodReady) && condition(n.get("b"), corev1.PodReady) && condition(n.get("gone"), corev1.PodReady)
	})
	n.stop()
	engine.Exit("uid-b-c-0", 1)
	if err := client.CoreV1().Pods("default").Delete(t.Context(), "gone", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n = start(t, client, engine, dir)
	n.eventually("the missed exit is restarted", func() bool {
		p := n.get("b")
		return p.Status.ContainerStatuses[0].RestartCount == 1 && condition(p, corev1.PodReady)
	})
	n.eventually("the orphan is removed", func() bool { b, _ := engine.Sandboxes(t.Context()); return len(b) == 2 })
	for _, c := range engine.Calls() {
		if strings.HasPrefix(c, "StartContainer uid-a-c-1") {
			t.Fatal("a running container was restarted")
		}
	}
}

func TestInitContainersComeFirstAndAFailureFailsAPodThatNeverRestarts(t *testing.T) {
	n := start(t, fake.NewClientset(), runtimetest.NewFakeEngine("", "img"), t.TempDir())
	p := pod("i")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	p.Spec.InitContainers = []corev1.Container{{Name: "one", Image: "img"}, {Name: "two", Image: "img"}}
	n.create(p)
	n.eventually("one runs", func() bool { return slices.Contains(n.engine.Calls(), "StartContainer uid-i-one-0") })
	n.engine.Exit("uid-i-one-0", 0)
	n.eventually("two runs", func() bool { return slices.Contains(n.engine.Calls(), "StartContainer uid-i-two-0") })
	n.engine.Exit("uid-i-two-0", 9)
	n.eventually("failed", func() bool { return n.get("i").Status.Phase == corev1.PodFailed })
	if slices.Contains(n.engine.Calls(), "StartContainer uid-i-c-0") {
		t.Fatal("the main container started")
	}
	n.eventually("sandbox removed", func() bool { b, _ := n.engine.Sandboxes(t.Context()); return len(b) == 0 })
	if st := n.get("i").Status.InitContainerStatuses[1]; st.State.Terminated == nil || st.State.Terminated.ExitCode != 9 {
		t.Fatalf("init status: %+v", st)
	}
}

func TestEnvironmentVolumesAndLogs(t *testing.T) {
	client := fake.NewClientset(
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cm", Namespace: "default"}, Data: map[string]string{"k": "v1"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "default"}, Data: map[string][]byte{"p": []byte("pw")}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: "default"}, Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1", Ports: []corev1.ServicePort{{Name: "https", Port: 443}}}},
	)
	n := start(t, client, runtimetest.NewFakeEngine("", "img"), t.TempDir())
	p := pod("e")
	ref := corev1.LocalObjectReference{Name: "cm"}
	p.Spec.Volumes = []corev1.Volume{{Name: "cm", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref}}},
		{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "cm", MountPath: "/cm"}, {Name: "tmp", MountPath: "/tmp", SubPath: "x/y"}}
	p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{Prefix: "C_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref}}}
	p.Spec.Containers[0].Env = []corev1.EnvVar{
		{Name: "PW", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "p"}}},
		{Name: "ME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		{Name: "X", Value: "$(ME)-$(PW)-$$(ME)-$(NO)"}}
	p.Spec.Containers[0].Args = []string{"$(X)"}
	n.create(p)
	n.eventually("ready", func() bool { return condition(n.get("e"), corev1.PodReady) })
	spec, _ := n.engine.Spec("uid-e-c-0")
	for _, want := range []string{"PW=pw", "ME=e", "X=e-pw-$(ME)-$(NO)", "C_k=v1", "KUBERNETES_SERVICE_HOST=10.0.0.1"} {
		if !slices.Contains(spec.Env, want) {
			t.Errorf("env lacks %s: %v", want, spec.Env)
		}
	}
	if spec.Args[0] != "e-pw-$(ME)-$(NO)" {
		t.Errorf("args: %v", spec.Args)
	}
	dir := spec.Mounts[0].HostPath
	if b, _ := os.ReadFile(filepath.Join(dir, "k")); string(b) != "v1" {
		t.Errorf("volume: %q", b)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cm", Namespace: "default"}, Data: map[string]string{"k": "v2", "l": "w"}}
	if _, err := client.CoreV1().ConfigMaps("default").Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.eventually("the volume follows", func() bool { b, _ := os.ReadFile(filepath.Join(dir, "l")); return string(b) == "w" })
	for i := range 5 {
		if err := n.engine.Log("uid-e-c-0", "stdout", fmt.Sprint("line ", i)); err != nil {
			t.Fatal(err)
		}
	}
	rec := httptest.NewRecorder()
	n.agent.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/containerLogs/default/e/c?tailLines=2", nil))
	if got := rec.Body.String(); got != "line 3\nline 4\n" {
		t.Errorf("logs: %d %q", rec.Code, got)
	}
}

func TestAMissingImageIsSaidAndStartsOnceImported(t *testing.T) {
	n := start(t, fake.NewClientset(), runtimetest.NewFakeEngine(""), t.TempDir())
	n.create(pod("m"))
	n.eventually("waiting for the image", func() bool {
		p := n.get("m")
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
			slices.Contains([]string{"ErrImagePull", "ImagePullBackOff"}, p.Status.ContainerStatuses[0].State.Waiting.Reason)
	})
	if _, err := n.agent.ImportImages(t.Context(), strings.NewReader("img")); err != nil {
		t.Fatal(err)
	}
	n.eventually("ready", func() bool { return condition(n.get("m"), corev1.PodReady) })
}

func TestReadinessAndLivenessProbes(t *testing.T) {
	e := runtimetest.NewFakeEngine("", "img")
	ok := make(chan struct{})
	e.OnExec = func(id string, cmd []string, _ runtime.Streams) (int, error) {
		select {
		case <-ok:
			if cmd[0] == "live" && strings.HasSuffix(id, "-0") {
				return 1, nil
			}
			return 0, nil
		default:
			if cmd[0] == "live" {
				return 0, nil
			}
			return 1, nil
		}
	}
	n := start(t, fake.NewClientset(), e, t.TempDir())
	p := pod("p")
	exec := func(c string) corev1.ProbeHandler {
		return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{c}}}
	}
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: exec("ready"), PeriodSeconds: 1}
	p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: exec("live"), PeriodSeconds: 1, FailureThreshold: 1}
	n.create(p)
	n.eventually("running and not ready", func() bool {
		p := n.get("p")
		return p.Status.Phase == corev1.PodRunning && !condition(p, corev1.PodReady) && p.Status.ContainerStatuses[0].State.Running != nil
	})
	close(ok)
	n.eventually("restarted by liveness and ready", func() bool {
		p := n.get("p")
		return p.Status.ContainerStatuses[0].RestartCount == 1 && condition(p, corev1.PodReady)
	})
}
