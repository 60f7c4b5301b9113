package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pintle/pintle/runtime/wasm/wasmtest"
)

// raised is what the leader logs when the store is written in the next version from now on.
const raised = "every member speaks a newer version of the log's format"

// fleet is three members and a worker.
type fleet struct {
	dir     string
	members []*box
	worker  *box
	archive string
}

func newFleet(t *testing.T, program string) *fleet {
	t.Helper()
	f := &fleet{dir: t.TempDir()}
	f.archive = filepath.Join(f.dir, "image.tar")
	archive, err := wasmtest.ServerArchive(t.Context(), "example.com/wasi:1")
	if err == nil {
		err = os.WriteFile(f.archive, archive, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"a", "b", "c"} {
		b := f.newMember(t, node)
		b.start(t, program)
		b.waitReady(t)
		f.members = append(f.members, b)
	}
	f.worker = newBox(t, f.dir, spec{Node: "w", Join: f.addresses(), Token: f.members[0].read(t, "node"), Worker: true, Archive: f.archive})
	f.worker.start(t, program)
	f.worker.waitReady(t)
	f.awaitVoters(t)
	return f
}

func (f *fleet) newMember(t *testing.T, node string) *box {
	t.Helper()
	s := spec{Node: node, Address: freeAddress(t), Archive: f.archive}
	if len(f.members) > 0 {
		s.Join, s.Token = f.addresses(), f.members[0].read(t, "member")
	}
	return newBox(t, f.dir, s)
}

func (f *fleet) addresses() (all []string) {
	for _, b := range f.members {
		all = append(all, b.spec.Address)
	}
	return all
}

// failover is a client of whichever member answers, the i-th at first.
func (f *fleet) failover(t *testing.T, i int) *rest.Config {
	t.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig([]byte(f.members[i].read(t, "kubeconfig")))
	if err != nil {
		t.Fatal(err)
	}
	addresses := append(f.addresses()[i:], f.addresses()[:i]...)
	config.QPS = -1
	config.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var errs []error
		for _, address := range addresses {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	return config
}

// awaitVoters waits until all members vote and are well.
func (f *fleet) awaitVoters(t *testing.T) {
	t.Helper()
	client, err := dynamic.NewForConfig(f.failover(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	members := schema.GroupVersionResource{Group: "cluster.pintle.dev", Version: "v1alpha1", Resource: "members"}
	eventually(t, "every member votes and is ready", func() error {
		list, err := client.Resource(members).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		well := 0
		for _, m := range list.Items {
			role, _, _ := unstructured.NestedString(m.Object, "status", "role")
			conditions, _, _ := unstructured.NestedSlice(m.Object, "status", "conditions")
			if role == "Voter" && slices.ContainsFunc(conditions, func(c any) bool {
				c1, _ := c.(map[string]any)
				return c1["type"] == "Ready" && c1["status"] == "True"
			}) {
				well++
			}
		}
		if well < len(f.members) {
			return fmt.Errorf("%d are", well)
		}
		return nil
	})
}

// said reports whether any process has said that.
func (f *fleet) said(text string) bool {
	return slices.ContainsFunc(f.members, func(b *box) bool { return strings.Contains(b.said(), text) })
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("never: %s: %v", what, err)
}

// load writes and reads through every member, and fails over. A request that fails fails the test.
type load struct {
	stop   chan struct{}
	asking sync.WaitGroup
	asked  atomic.Int64
}

func (f *fleet) startLoad(t *testing.T) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for i := range f.members {
		client, err := kubernetes.NewForConfig(f.failover(t, i))
		if err != nil {
			t.Fatal(err)
		}
		l.asking.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-l.stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				name := fmt.Sprintf("load-%d-%d", i, n)
				_, err := client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
				if err == nil {
					_, err = client.CoreV1().ConfigMaps("default").Get(ctx, name, metav1.GetOptions{})
				}
				if err == nil && n >= 10 {
					err = client.CoreV1().ConfigMaps("default").Delete(ctx, fmt.Sprintf("load-%d-%d", i, n-10), metav1.DeleteOptions{})
				}
				cancel()
				if err != nil {
					t.Errorf("the client that begins at %s: %s: %v", f.members[i].spec.Node, name, err)
				}
				l.asked.Add(1)
			}
		})
	}
	return l
}

// goesOn waits until every client has asked some times more.
func (l *load) goesOn(t *testing.T) {
	t.Helper()
	begun := l.asked.Load()
	eventually(t, "requests go on", func() error {
		if n := l.asked.Load() - begun; n < 60 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

// works runs a pod on the node, asked for at any member.
func (f *fleet) works(t *testing.T, name, node string) {
	t.Helper()
	client, err := kubernetes.NewForConfig(f.failover(t, len(name)%len(f.members)))
	if err != nil {
		t.Fatal(err)
	}
	pods := client.CoreV1().Pods("default")
	if _, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeName: node, RestartPolicy: corev1.RestartPolicyNever,
		Containers: []corev1.Container{{Name: "c", Image: "example.com/wasi:1", Args: []string{"echo", "hello from " + node}}},
	}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, name+" on "+node+" succeeds, and its logs are there", func() error {
		pod, err := pods.Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodSucceeded {
			err = fmt.Errorf("it is %s", pod.Status.Phase)
		}
		if err != nil {
			return err
		}
		text, err := pods.GetLogs(name, &corev1.PodLogOptions{}).DoRaw(t.Context())
		if err == nil && !strings.Contains(string(text), "hello from "+node) {
			err = fmt.Errorf("they say %q", text)
		}
		return err
	})
}

func TestProgramsOfTwoVersionsAreOneClusterWhileItIsUpgraded(t *testing.T) {
	this, next := os.Args[0], nextVersion(t)
	f := newFleet(t, this)
	l := f.startLoad(t)
	replace := func(b *box, program string) {
		t.Helper()
		l.goesOn(t)
		b.stop(t)
		l.goesOn(t)
		b.start(t, program)
		b.waitReady(t)
		f.awaitVoters(t)
	}
	round := 0
	everyNodeWorks := func() {
		t.Helper()
		round++
		for _, b := range append([]*box{f.worker}, f.members...) {
			f.works(t, fmt.Sprintf("pod-%d-%s", round, b.spec.Node), b.spec.Node)
		}
	}
	everyNodeWorks()
	replace(f.worker, next)
	for i, b := range f.members {
		replace(b, next)
		if i == 0 { // one may go back as long as there are others
			replace(b, this)
			replace(b, next)
		}
		if i < 2 && f.said(raised) {
			t.Fatalf("the next version is written while %s has this one", f.members[2].spec.Node)
		}
		everyNodeWorks()
	}
	eventually(t, "the next version is written", func() error {
		if !f.said(raised) {
			return errors.New("nobody says so")
		}
		return nil
	})
	everyNodeWorks()
	l.goesOn(t)
	close(l.stop)
	l.asking.Wait()
	t.Logf("%d rounds of a write, a read and a deletion", l.asked.Load())

	// There is no way back now, and who comes too late is told so.
	last := f.members[2]
	last.stop(t)
	late := f.newMember(t, "d")
	for b, want := range map[*box]string{last: "use a newer one", late: "upgrade it first"} {
		b.start(t, this)
		b.ends(t)
		if code := b.process.ProcessState.ExitCode(); code == 0 || !strings.Contains(b.said(), want) {
			t.Errorf("%s ended with %d:\n%s", b.spec.Node, code, b.said())
		}
	}
	last.start(t, next)
	last.waitReady(t)
	f.awaitVoters(t)
}
