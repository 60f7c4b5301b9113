package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pintle/pintle/internal/hostcheck"
	"github.com/pintle/pintle/orchestrator/appliance"
)

// asAppliance makes this test binary run an appliance in the folder that it names, until it is killed.
const asAppliance = "PINTLE_E2E_AS_APPLIANCE"

func applianceConfig(dir, address string) appliance.Config {
	return appliance.Config{Name: "kill", DataDir: filepath.Join(dir, "data"), Engine: appliance.Containerd,
		Address: address, HTTPAddress: "127.0.0.1:0", HTTPSAddress: "127.0.0.1:0",
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
}

// runAppliance is the process that gets killed. Archives in dir/import are imported, like an appliance's
// own installer would do it.
func runAppliance(dir string) error {
	a, err := appliance.New(applianceConfig(dir, os.Getenv("PINTLE_E2E_ADDRESS")))
	if err != nil {
		return err
	}
	go func() {
		<-a.Ready()
		if archive, err := os.ReadFile(filepath.Join(dir, "busybox.tar")); err == nil {
			if err := a.ImportImages(context.Background(), bytes.NewReader(archive)); err != nil {
				fmt.Fprintln(os.Stderr, "import:", err)
			}
		}
		config, err := a.Kubeconfig()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "kubeconfig.new"), config, 0o600)
		}
		if err == nil {
			err = os.Rename(filepath.Join(dir, "kubeconfig.new"), filepath.Join(dir, "kubeconfig"))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "kubeconfig:", err)
		}
	}()
	return a.Run(context.Background())
}

type victim struct {
	command *exec.Cmd
	output  *bytes.Buffer
	exited  chan struct{}
}

func startVictim(t *testing.T, dir, address string) *victim {
	t.Helper()
	v := &victim{command: exec.Command(os.Args[0]), output: &bytes.Buffer{}, exited: make(chan struct{})}
	v.command.Env = append(os.Environ(), asAppliance+"="+dir, "PINTLE_E2E_ADDRESS="+address)
	v.command.Stdout, v.command.Stderr = io.Discard, v.output
	if err := v.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		v.command.Wait()
		close(v.exited)
	}()
	return v
}

// waitServing waits until the API answers again, and fails the test when the process ended by itself.
func (v *victim) waitServing(t *testing.T, dir string, ready func(kubernetes.Interface) bool) kubernetes.Interface {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		if config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "kubeconfig")); err == nil {
			config.Timeout = 5 * time.Second
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				t.Fatal(err)
			}
			if ready(client) {
				return client
			}
		}
		select {
		case <-v.exited:
			t.Fatalf("the appliance ended by itself:\n%s", v.output)
		case <-deadline:
			t.Fatalf("the appliance does not serve after a minute:\n%s", v.output)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Over fifty kills at random moments: every write that was acknowledged is there, and the container that
// ran before the first kill runs after the last.
func TestKill(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI runs this as root")
		}
		t.Skip("real containers need root")
	}
	const cycles = 50
	before, err := hostcheck.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	_, archive := busybox(t)
	if err := os.WriteFile(filepath.Join(dir, "busybox.tar"), archive, 0o600); err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
	ctx := context.Background()
	defer func() {
		a, err := appliance.New(applianceConfig(dir, address))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Teardown(ctx); err != nil {
			t.Error(err)
		}
		after, err := hostcheck.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range hostcheck.Diff(before, after, nil) {
			t.Errorf("left on the host: %s", line)
		}
	}()

	v := startVictim(t, dir, address)
	client := v.waitServing(t, dir, func(c kubernetes.Interface) bool {
		_, err := c.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})
	if _, err := client.CoreV1().Pods("default").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "stays"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.com/busybox:1", Command: []string{"sleep", "100000"}}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	container := ""
	v.waitServing(t, dir, func(c kubernetes.Interface) bool {
		container = runningContainer(ctx, c)
		return container != ""
	})

	var acknowledged []string
	// Where the disk is slow, more of them, until enough was written.
	for cycle := 0; cycle < cycles || len(acknowledged) < cycles && cycle < 4*cycles; cycle++ {
		var writing sync.WaitGroup
		writing.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("c%d-%d", cycle, i)
				_, err := client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
				if err != nil {
					if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
						t.Errorf("create %s: %v", name, err)
					}
					return // the kill
				}
				acknowledged = append(acknowledged, name)
			}
		})
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond) // the moment of the kill is random on purpose
		if err := v.command.Process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		<-v.exited
		writing.Wait()
		v = startVictim(t, dir, address)
		client = v.waitServing(t, dir, func(c kubernetes.Interface) bool {
			_, err := c.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
			return err == nil
		})
		stored, err := client.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		for i := range stored.Items {
			there[stored.Items[i].Name] = true
		}
		for _, name := range acknowledged {
			if !there[name] {
				t.Fatalf("cycle %d: %s was acknowledged and is lost", cycle, name)
			}
		}
	}
	t.Logf("%d acknowledged writes", len(acknowledged))
	if len(acknowledged) < cycles {
		t.Fatalf("only %d writes in %d cycles: that proves little", len(acknowledged), cycles)
	}
	v.waitServing(t, dir, func(c kubernetes.Interface) bool { return runningContainer(ctx, c) != "" })
	if now := runningContainer(ctx, client); now != container {
		t.Errorf("the container was %s and is %s", container, now)
	}
	t.Logf("%d writes acknowledged over %d kills, none lost", len(acknowledged), cycles)
	v.command.Process.Signal(syscall.SIGKILL)
	<-v.exited
	if strings.Contains(v.output.String(), "panic:") {
		t.Errorf("a panic:\n%s", v.output)
	}
}

// runningContainer is the id of the pod's container if it is ready and was never restarted.
func runningContainer(ctx context.Context, c kubernetes.Interface) string {
	pod, err := c.CoreV1().Pods("default").Get(ctx, "stays", metav1.GetOptions{})
	if err != nil || len(pod.Status.ContainerStatuses) == 0 || !pod.Status.ContainerStatuses[0].Ready || pod.Status.ContainerStatuses[0].RestartCount > 0 {
		return ""
	}
	return pod.Status.ContainerStatuses[0].ContainerID
}
