package wasm

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/wasm/wasmtest"
)

//go:embed testdata/guest.go.src
var guestSource string

const reference = "guest:1"

// compiled is a folder of compiled code that all engines here share: with -race one compilation of the
// guest takes a minute.
var compiled string

func TestMain(m *testing.M) {
	var err error
	if compiled, err = os.MkdirTemp("", "wasm-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(compiled)
		os.Exit(code)
	}))
}

// running starts an engine that holds the guest's image; the test's end stops it.
func running(t *testing.T) *Engine {
	t.Helper()
	module, err := wasmtest.Module(t.Context(), guestSource)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := wasmtest.Archive(reference, module, wasmtest.Options{Rootfs: true, Files: map[string]string{"etc/motd": "from the image\n"}, Env: []string{"NAME=image", "KEPT=yes"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(compiled, filepath.Join(dir, "cache")); err != nil {
		t.Fatal(err)
	}
	e, err := New(Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-e.Ready()
	images, err := e.ImportImages(ctx, bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	if len(images) != 1 || !images[0].Wasm || images[0].Names[0] != "docker.io/library/guest:1" {
		t.Fatalf("imported %+v", images)
	}
	return e
}

func start(t *testing.T, e *Engine, id string, change func(*runtime.ContainerSpec), args ...string) string {
	t.Helper()
	if _, err := e.CreateSandbox(t.Context(), runtime.SandboxSpec{ID: "pod-" + id}); err != nil {
		t.Fatal(err)
	}
	s := runtime.ContainerSpec{ID: id, SandboxID: "pod-" + id, Image: reference, Args: args, LogPath: filepath.Join(t.TempDir(), "log")}
	if change != nil {
		change(&s)
	}
	if err := errors.Join(e.CreateContainer(t.Context(), s), e.StartContainer(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	return s.LogPath
}

func wait(t *testing.T, e *Engine, id string) runtime.Container {
	t.Helper()
	e.mu.Lock()
	c := e.containers[id]
	e.mu.Unlock()
	<-c.exited
	e.mu.Lock()
	defer e.mu.Unlock()
	return c.state
}

func signal(t *testing.T, e *Engine, id, name string) {
	t.Helper()
	if err := e.SignalContainer(t.Context(), id, name); err != nil {
		t.Fatal(err)
	}
}

func TestGuestsRunToTheirExitCodeAndLog(t *testing.T) {
	e := running(t)
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "key"), []byte("mounted\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(data, "out")); err != nil {
		t.Fatal(err)
	}
	volume := func(readOnly bool) func(*runtime.ContainerSpec) {
		return func(s *runtime.ContainerSpec) {
			s.Mounts = []runtime.Mount{
				{HostPath: data, ContainerPath: "/data", ReadOnly: readOnly},
				{HostPath: filepath.Join(data, "key"), ContainerPath: "/etc/hosts"},
			}
		}
	}
	for i, c := range []struct {
		args   []string
		change func(*runtime.ContainerSpec)
		code   int
		logged string
		oom    bool
	}{
		{args: []string{"exit", "0"}},
		{args: []string{"exit", "42"}, code: 42},
		{args: []string{"print", "a", "b"}, logged: " stdout F a b\n"},
		{args: []string{"print"}, logged: " stderr F to stderr\n"},
		{args: []string{"env", "KEPT"}, logged: " stdout F yes\n"},
		{args: []string{"env", "NAME"}, change: func(s *runtime.ContainerSpec) { s.Env = []string{"NAME=spec"} }, logged: " stdout F spec\n"},
		{args: []string{"cat", "/etc/motd"}, logged: " stdout F from the image\n"},
		{args: []string{"cat", "/data/key"}, change: volume(true), logged: " stdout F mounted\n"},
		{args: []string{"cat", "/etc/hosts"}, change: volume(true), logged: " stdout F mounted\n"},
		{args: []string{"cat", "/data/out"}, change: volume(true), code: 1},
		{args: []string{"write", "/data/new", "x"}, change: volume(true), code: 1},
		{args: []string{"write", "/data/new", "x"}, change: volume(false)},
		{args: []string{"symlink", "/etc", "/data/etc"}, change: volume(false), code: 1},
		{args: []string{"write", "/etc/motd", "x"}, code: 1},
		{args: []string{"panic"}, code: 2},
		{args: []string{"alloc", "200"}, change: func(s *runtime.ContainerSpec) { s.Resources.MemoryLimit = 64 << 20 }, code: 2, oom: true},
	} {
		id := fmt.Sprint("run", i)
		log := start(t, e, id, c.change, c.args...)
		got := wait(t, e, id)
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if got.ExitCode != c.code || got.OOMKilled != c.oom || !strings.Contains(string(text), c.logged) {
			t.Errorf("%v: exit %d oom %v (%s), want %d %v; log:\n%.600s", c.args, got.ExitCode, got.OOMKilled, got.Message, c.code, c.oom, text)
		}
	}
}

func TestSignalsEndGuestsWithTheirNumber(t *testing.T) {
	e := running(t)
	for i, c := range []struct {
		mode, signal string
		code         int
	}{{"spin", "SIGKILL", 137}, {"spin", "SIGTERM", 143}, {"sleep", "SIGTERM", 143}, {"sleep", "SIGKILL", 137}} {
		id := fmt.Sprint("sig", i)
		start(t, e, id, nil, c.mode)
		signal(t, e, id, c.signal)
		if got := wait(t, e, id); got.ExitCode != c.code || got.Signal != c.code-128 {
			t.Errorf("%s after %s: exit %d signal %d, want %d", c.mode, c.signal, got.ExitCode, got.Signal, c.code)
		}
	}
}

func client(e *Engine, id string, port uint16) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return e.Dial(ctx, "pod-"+id, port)
	}}}
}

func get(c *http.Client, path, body string) (string, error) {
	resp, err := c.Post("http://pod"+path, "", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func serving(port uint16, name string) func(*runtime.ContainerSpec) {
	return func(s *runtime.ContainerSpec) { s.Ports, s.Env = []uint16{port}, []string{"NAME=" + name} }
}

func TestTwoPodsServeManyConnectionsOnTheSamePort(t *testing.T) {
	e := running(t)
	for _, id := range []string{"a", "b"} {
		start(t, e, id, serving(18080, id), "serve")
	}
	var wg sync.WaitGroup
	for i := range 200 {
		id := []string{"a", "b"}[i%2]
		wg.Go(func() {
			c := client(e, id, 18080)
			if got, err := get(c, "/", ""); err != nil || got != "hello from "+id {
				t.Errorf("%s answered %q, %v", id, got, err)
			}
			body := strings.Repeat(fmt.Sprint(i), 60_000)
			if got, err := get(c, "/echo", body); err != nil || got != body {
				t.Errorf("%s echoed %d of %d bytes, %v", id, len(got), len(body), err)
			}
		})
	}
	wg.Wait()
	if _, err := e.Dial(t.Context(), "pod-a", 1); err == nil {
		t.Error("a port that nobody serves accepted")
	}
}

func TestSIGTERMLetsARequestFinish(t *testing.T) {
	e := running(t)
	start(t, e, "held", serving(18081, "held"), "serve")
	c := client(e, "held", 18081)
	resp, err := c.Post("http://pod/hold", "", strings.NewReader("x"))
	if err != nil { // headers are here, so the request is in the guest
		t.Fatal(err)
	}
	defer resp.Body.Close()
	release, err := e.Dial(t.Context(), "pod-held", 18081) // accepted before the listener closes
	if err != nil {
		t.Fatal(err)
	}
	defer release.Close()
	if _, err := io.WriteString(release, "GET /release HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	signal(t, e, "held", "SIGTERM")
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "released" {
		t.Errorf("held request got %q, %v", body, err)
	}
	if got := wait(t, e, "held"); got.ExitCode != 143 {
		t.Errorf("exit %d, want 143", got.ExitCode)
	}
}

func TestWhatGuestsCannotHaveIsRefusedByName(t *testing.T) {
	e := running(t)
	if _, err := e.CreateSandbox(t.Context(), runtime.SandboxSpec{ID: "x", HostPID: true}); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "hostPID") {
		t.Error(err)
	}
	if _, err := e.CreateSandbox(t.Context(), runtime.SandboxSpec{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	err := e.CreateContainer(t.Context(), runtime.ContainerSpec{ID: "x", SandboxID: "x", Image: reference, TTY: true})
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "tty") {
		t.Error(err)
	}
	// A user would say whose rights the host's files are opened with.
	err = e.CreateContainer(t.Context(), runtime.ContainerSpec{ID: "x", SandboxID: "x", Image: reference, Security: runtime.Security{User: "1000"},
		Mounts: []runtime.Mount{{HostPath: t.TempDir(), ContainerPath: "/host", HostVolume: true}}})
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "runAsUser") || !strings.Contains(err.Error(), "/host") {
		t.Error(err)
	}
	archive, err := wasmtest.Archive("no:1", []byte("\x7fELF"), wasmtest.Options{Rootfs: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.ImportImages(t.Context(), bytes.NewReader(archive)); !errors.Is(err, runtime.ErrImageFormat) {
		t.Error(err)
	}
}
