package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/pintle/pintle/internal/hostcheck"
	"github.com/pintle/pintle/orchestrator/appliance"
)

// busybox is Debian's static one, as an image.
func busybox(t *testing.T) (reference string, archive []byte) {
	t.Helper()
	content, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("install Debian's busybox-static: %v", err)
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	write := func(h *tar.Header, data []byte) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin/", "tmp/", "www/"} {
		write(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	}
	write(&tar.Header{Name: "bin/busybox", Mode: 0o755}, content)
	write(&tar.Header{Name: "www/index.html", Mode: 0o644}, []byte("hello from busybox\n"))
	for _, applet := range []string{"sh", "cat", "echo", "sleep", "httpd", "wget", "nslookup", "stty", "date", "seq", "env"} {
		write(&tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	if image, err = mutate.Config(image, v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"/bin/sh"}}); err != nil {
		t.Fatal(err)
	}
	reference = "example.com/busybox:1"
	tag, err := name.NewTag(reference)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := tarball.Write(tag, image, &out); err != nil {
		t.Fatal(err)
	}
	return reference, out.Bytes()
}

// startAppliance runs the whole product on real containers, and checks at the end that the host is as it was.
func startAppliance(t *testing.T, clusterName string) (*appliance.Appliance, *kubectl) {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI runs this as root")
		}
		t.Skip("real containers need root")
	}
	before, err := hostcheck.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	a, err := appliance.New(appliance.Config{Name: clusterName, DataDir: t.TempDir(), Engine: appliance.Containerd,
		Address: ":0", HTTPAddress: "127.0.0.1:0", HTTPSAddress: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := a.Teardown(context.Background()); err != nil {
			t.Error(err)
		}
		after, err := hostcheck.Snapshot()
		if err != nil {
			t.Error(err)
		}
		for _, line := range hostcheck.Diff(before, after, nil) {
			t.Errorf("left on the host: %s", line)
		}
	})
	select {
	case <-a.Ready():
	case err := <-ended:
		ended <- nil
		t.Fatalf("the appliance ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the appliance is not ready after a minute")
	}
	config, err := a.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	return a, newKubectl(t, config)
}

const webPod = `
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: example.com/busybox:1
    command: [sh, -c, "echo started; exec httpd -f -v -p 8080 -h /www"]
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
`

func TestKubectlOnRealContainers(t *testing.T) {
	a, k := startAppliance(t, "kubectl")
	_, archive := busybox(t)
	if err := a.ImportImages(context.Background(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	k.ok("", words("get nodes -o wide"), "Ready", "containerd://")
	k.ok(webPod, words("apply -f -"), "pod/web created")
	k.ok("", words("wait --for=condition=Ready pod/web --timeout=30s"), "condition met")
	k.ok("", words("get pod web -o wide"), "1/1", "Running")
	k.ok("", words("logs web"), "started")
	k.ok("", words("exec web -- echo from inside"), "from inside")
	k.ok("some input\n", words("exec -i web -- cat"), "some input")
	k.ok("", words("expose pod web --port=80 --target-port=8080"), "exposed")
	k.ok("", words("describe pod web"), "Successfully assigned default/web", "Started")
	k.ok("", []string{"exec", "web", "--", "sh", "-c", "for i in $(seq 50); do wget -qO- http://web.default.svc.cluster.local && exit 0; sleep 0.1; done; exit 1"}, "hello from busybox")
	k.ok("", []string{"exec", "web", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/namespace"}, "default")
	k.fails("", words("exec web -- sh -c 'exit 3'"), "")
	k.portForward("pod/web", 8080)

	k.ok("", words("run crash --image=example.com/busybox:1 --command -- sh -c false"), "created")
	k.ok("", []string{"wait", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/crash", "--timeout=30s"}, "condition met")
	k.ok("", words("logs crash --previous"))
	k.ok("", words("delete pod web crash --now"), "deleted")
}

func TestInteractiveExec(t *testing.T) {
	a, k := startAppliance(t, "tty")
	_, archive := busybox(t)
	if err := a.ImportImages(context.Background(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	k.ok(webPod, words("apply -f -"), "created")
	k.ok("", words("wait --for=condition=Ready pod/web --timeout=30s"), "condition met")
	// script gives kubectl a terminal, so that -it is what a person gets.
	command := exec.Command("script", "-qec", os.Args[0]+" exec -it web -- sh -c 'stty size; echo tty ok'", "/dev/null")
	command.Env = append(os.Environ(), asKubectl+"=1", "KUBECONFIG="+k.config, "HOME="+k.home, "TERM=xterm")
	out, err := command.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "tty ok") {
		t.Fatalf("%v\n%s", err, out)
	}
	k.ok("", words("delete pod web --now"), "deleted")
}

// portForward fetches a page through kubectl port-forward.
func (k *kubectl) portForward(target string, port int) {
	k.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		k.t.Fatal(err)
	}
	local := l.Addr().(*net.TCPAddr).Port
	l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, os.Args[0], "port-forward", target, fmt.Sprintf("%d:%d", local, port))
	command.Env = append(os.Environ(), asKubectl+"=1", "KUBECONFIG="+k.config, "HOME="+filepath.Dir(k.config))
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	if err := command.Start(); err != nil {
		k.t.Fatal(err)
	}
	defer func() {
		cancel()
		command.Wait()
	}()
	for {
		response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", local))
		if err == nil {
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if !strings.Contains(string(body), "hello from busybox") {
				k.t.Fatalf("port-forward answers %q", body)
			}
			return
		}
		select {
		case <-ctx.Done():
			k.t.Fatalf("port-forward: %v\n%s", err, out.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
