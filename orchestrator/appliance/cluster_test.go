package appliance_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/appliance"
	"github.com/pintle/pintle/orchestrator/cluster"
	"github.com/pintle/pintle/runtime/wasm/wasmtest"
)

// part is an appliance of a cluster on WASI pods.
func part(t *testing.T, node string, join *orchestrator.Join, worker bool) *appliance.Appliance {
	t.Helper()
	cfg := embedded(t.TempDir())
	cfg.Node, cfg.Join, cfg.Worker = node, join, worker
	return newAppliance(t, cfg)
}

// invite makes a token at a, whose port is at address.
func invite(t *testing.T, a *appliance.Appliance, role cluster.Role) *orchestrator.Join {
	t.Helper()
	token, err := a.JoinToken(t.Context(), role, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	members, err := a.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &orchestrator.Join{Addresses: []string{members[0].Address}, Token: token}
}

func runWorkload(t *testing.T, client kubernetes.Interface, name, node string) {
	t.Helper()
	_, err := client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeName: node, RestartPolicy: corev1.RestartPolicyNever,
		Containers: []corev1.Container{{Name: "c", Image: "example.com/wasi:1", Args: []string{"echo", "hello from " + node}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, name+" on "+node+" succeeds", func() bool {
		pod, err := client.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodSucceeded
	})
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func logs(ctx context.Context, client kubernetes.Interface, pod string) (string, error) {
	stream, err := client.CoreV1().Pods("default").GetLogs(pod, &corev1.PodLogOptions{}).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	text, err := io.ReadAll(stream)
	return string(text), err
}

func TestAWorkerRunsPodsForTheControlPlane(t *testing.T) {
	archive, err := wasmtest.ServerArchive(t.Context(), "example.com/wasi:1")
	if err != nil {
		t.Fatal(err)
	}
	member := part(t, "boss", nil, false)
	client, stop := start(t, member)
	defer stop()
	join := invite(t, member, orchestrator.RoleNode)
	worker := part(t, "hand", join, true)
	_, stopWorker := start(t, worker)
	defer func() { stopWorker() }()
	if err := worker.ImportImages(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	runWorkload(t, client, "there", "hand")
	wait(t, "the worker's logs come back through its own connection", func() bool {
		text, err := logs(t.Context(), client, "there")
		return err == nil && strings.Contains(text, "hello from hand")
	})
	if err := member.RestartControlPlane(t.Context()); err != nil {
		t.Fatal(err)
	}
	runWorkload(t, client, "again", "hand")
	if _, err := worker.Kubeconfig(); err == nil || !strings.Contains(err.Error(), "worker") {
		t.Errorf("a worker's kubeconfig: %v", err)
	}
	if _, err := worker.JoinToken(t.Context(), orchestrator.RoleNode, 0); err == nil {
		t.Error("a worker invited somebody")
	}
	// The token is for nodes: nobody becomes a member with it, or a node that is there already.
	for what, a := range map[string]*appliance.Appliance{"a member": part(t, "boss2", join, false), "the same node": part(t, "hand", join, true)} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		if err := a.Run(ctx); err == nil {
			t.Errorf("%s was let in", what)
		}
		cancel()
	}
}

func TestThreeAppliancesAreOneCluster(t *testing.T) {
	archive, err := wasmtest.ServerArchive(t.Context(), "example.com/wasi:1")
	if err != nil {
		t.Fatal(err)
	}
	first := part(t, "a", nil, false)
	client, stop := start(t, first)
	defer func() { stop() }()
	join := invite(t, first, orchestrator.RoleMember)
	clients := []kubernetes.Interface{client}
	all := []*appliance.Appliance{first}
	for _, name := range []string{"b", "c"} {
		a := part(t, name, join, false)
		client, stop := start(t, a)
		defer stop()
		clients, all = append(clients, client), append(all, a)
	}
	wait(t, "three voters", func() bool {
		members, err := first.Members(t.Context())
		voters := 0
		for _, m := range members {
			if m.Voter {
				voters++
			}
		}
		return err == nil && voters == 3
	})
	for i, name := range []string{"a", "b", "c"} {
		if err := all[i].ImportImages(t.Context(), bytes.NewReader(archive)); err != nil {
			t.Fatal(err)
		}
		runWorkload(t, clients[(i+1)%3], "on-"+name, name)
		// Whichever member is asked, it reaches the node.
		for k, from := range clients {
			wait(t, "logs from "+name, func() bool {
				text, err := logs(t.Context(), from, "on-"+name)
				if err != nil {
					t.Logf("client %d, pod on %s: %v", k, name, err)
				}
				return err == nil && strings.Contains(text, "hello from "+name)
			})
		}
	}
	stop() // the first one, in an orderly way
	stop = func() {}
	runWorkload(t, clients[1], "after", "c")
}
