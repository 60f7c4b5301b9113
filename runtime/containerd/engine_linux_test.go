package containerd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pintle/pintle/internal/containertest"
	"github.com/pintle/pintle/internal/hostcheck"
	"github.com/pintle/pintle/runtime"
)

type running struct {
	*Engine
	stop func() error
}

func start(t testing.TB, cfg Config) *running {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	errc := make(chan error, 1)
	go func() { errc <- e.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-errc })
	t.Cleanup(func() { stop() })
	select {
	case <-e.Ready():
	case err := <-errc:
		t.Fatalf("Run: %v", err)
	}
	return &running{e, stop}
}

func (r *running) exit(t testing.TB, id string) runtime.Container {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		cs, err := r.Containers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cs {
			if c.ID == id && c.State == runtime.Exited {
				return c
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("container %s did not exit", id)
	return runtime.Container{}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPodLivesSurvivesRestartsAndLeavesTheHostAsItWas(t *testing.T) {
	containertest.Need(t)
	ctx := t.Context()
	before, err := hostcheck.Snapshot()
	must(t, err)
	cluster := fmt.Sprintf("t%d", os.Getpid())
	n := namesOf(cluster)
	cfg := Config{Name: cluster, DataDir: t.TempDir(), PodCIDR: netip.MustParsePrefix("10.231.0.0/24")}
	e := start(t, cfg)
	t.Cleanup(func() { e.stop(); e.Teardown(context.Background()) })
	_, err = e.ImportImages(ctx, bytes.NewReader(containertest.Busybox(t, "box:1", "FROM=image")))
	must(t, err)
	_, err = e.ImportImages(ctx, bytes.NewReader(containertest.Busybox(t, "box:1", "FROM=image")))
	must(t, err)
	sb, err := e.CreateSandbox(ctx, runtime.SandboxSpec{ID: "pod-1", Hostname: "web-0", CgroupPath: "burstable/pod-1",
		Sysctls:  map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"},
		PortMaps: []runtime.PortMap{{Protocol: "tcp", HostPort: 31999, ContainerPort: 80}}})
	must(t, err)
	if len(sb.IPs) != 1 || !sb.Ready {
		t.Fatalf("sandbox %+v", sb)
	}
	log := filepath.Join(t.TempDir(), "pod", "0.log")
	run := func(id, script string, edit func(*runtime.ContainerSpec)) {
		s := runtime.ContainerSpec{ID: id, SandboxID: "pod-1", Name: id, Image: "box:1", Args: []string{script},
			LogPath: log, CgroupPath: "burstable/pod-1", Security: runtime.Security{MaskedPaths: true, Seccomp: "RuntimeDefault"}}
		if edit != nil {
			edit(&s)
		}
		must(t, e.CreateContainer(ctx, s))
		must(t, e.StartContainer(ctx, id))
	}
	run("main", `busybox hostname; echo $FROM; echo bad >&2; mkdir /www; echo hi > /www/index.html
		busybox httpd -p 127.0.0.1:80 -h /www; trap 'exit 7' TERM; n=0; while :; do n=$((n+1)); echo tick $n; busybox sleep 0.1; done`, nil)
	var out bytes.Buffer
	code, err := e.Exec(ctx, "main", []string{"/bin/sh", "-c", "busybox cat; busybox id -u; exit 3"}, runtime.Streams{Stdin: strings.NewReader("piped\n"), Stdout: &out})
	if err != nil || code != 3 || out.String() != "piped\n0\n" {
		t.Fatalf("exec: %d %v %q", code, err, out.String())
	}
	c, err := e.Dial(ctx, "pod-1", 80)
	must(t, err)
	fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	body, _ := io.ReadAll(c)
	c.Close()
	if !strings.HasSuffix(string(body), "hi\n") {
		t.Fatalf("dial: %q", body)
	}
	run("named", "busybox id; exit 5", func(s *runtime.ContainerSpec) { s.Security.User = "web" })
	if x := e.exit(t, "named"); x.ExitCode != 5 {
		t.Fatalf("exit %+v", x)
	}
	run("oom", "busybox tail /dev/zero", func(s *runtime.ContainerSpec) { s.Resources.MemoryLimit = 16 << 20 })
	if x := e.exit(t, "oom"); x.ExitCode != 137 || !x.OOMKilled {
		t.Fatalf("oom %+v", x)
	}
	if s, err := e.Stats(ctx, "main"); err != nil || s.MemoryBytes == 0 || s.CPUNanos == 0 {
		t.Fatalf("stats %+v %v", s, err)
	}

	// The control plane restarts: the container runs on, its exit is noticed and its log goes on.
	must(t, e.stop())
	e2 := start(t, cfg)
	t.Cleanup(func() { e2.stop() })
	if s, _ := e2.Sandboxes(ctx); len(s) != 1 || !s[0].Ready || s[0].IPs[0] != sb.IPs[0] {
		t.Fatalf("sandboxes after restart: %+v", s)
	}
	// containerd dies under us: it comes back and the container ran on.
	fd, ok := e2.daemon.running()
	if !ok {
		t.Fatal("containerd isn't running")
	}
	must(t, unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0))
	unix.Close(fd)
	for i := 0; ; i++ {
		out.Reset()
		if _, err = e2.Exec(ctx, "main", []string{"/bin/sh", "-c", "echo back"}, runtime.Streams{Stdout: &out}); err == nil && out.String() == "back\n" {
			break
		}
		if i > 500 {
			t.Fatalf("containerd did not come back: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	must(t, e2.SignalContainer(ctx, "main", "SIGTERM"))
	if x := e2.exit(t, "main"); x.ExitCode != 7 {
		t.Fatalf("main %+v", x)
	}
	text, _ := os.ReadFile(log)
	for _, want := range []string{" stdout F web-0\n", " stdout F image\n", " stderr F bad\n", "uid=1234(web) gid=4321"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("log lacks %q", want)
		}
	}
	must(t, e2.stop())
	must(t, e2.Teardown(ctx))
	after, err := hostcheck.Snapshot()
	must(t, err)
	ours := func(l string) bool {
		return strings.Contains(l, cluster) || strings.Contains(l, n.bridge) || strings.Contains(l, cfg.DataDir)
	}
	if d := hostcheck.Diff(before, after, ours); len(d) > 0 {
		t.Errorf("the host is not as it was:\n%s", strings.Join(d, "\n"))
	}
	if out, err := exec.Command("nft", "list", "table", "ip", n.table).CombinedOutput(); err == nil {
		t.Errorf("nft table stays: %s", out)
	}
}
