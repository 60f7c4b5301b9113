package nodeapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
)

// fake is an engine whose commands are Go: "cat", "fail", "size", "hang".
type fake struct {
	running atomic.Bool
	addr    string        // what Dial reaches
	ended   chan struct{} // a hanging command ended
}

func (f *fake) Exec(ctx context.Context, id string, cmd []string, s Streams) (int, error) {
	switch cmd[0] {
	case "cat":
		if _, err := io.Copy(s.Stdout, s.Stdin); err != nil {
			return 0, err
		}
		fmt.Fprint(s.Stderr, "done")
		return 0, nil
	case "fail":
		return 42, nil
	case "size":
		z := <-s.Resize
		fmt.Fprintf(s.Stdout, "%dx%d tty=%v", z.Width, z.Height, s.TTY)
		return 0, nil
	case "hang":
		fmt.Fprint(s.Stdout, "hanging")
		<-ctx.Done()
		close(f.ended)
		return 0, context.Cause(ctx)
	}
	return 0, fmt.Errorf("exec %q: executable file not found in $PATH", cmd[0])
}

func (f *fake) Attach(_ context.Context, id string, s Streams) error {
	_, err := io.WriteString(s.Stdout, "attached to "+id)
	return err
}

func (f *fake) Dial(ctx context.Context, _ string, port uint16) (net.Conn, error) {
	if port != 80 {
		return nil, errors.New("connection refused")
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", f.addr)
}

func serve(t *testing.T) (*httptest.Server, *fake) {
	t.Helper()
	f := &fake{ended: make(chan struct{})}
	f.running.Store(true)
	log := filepath.Join(t.TempDir(), "0.log")
	write(t, log, stamp(1)+" stdout F hello\n")
	h := New(Config{
		Pod: func(_, name string) (*corev1.Pod, bool) { return &corev1.Pod{}, name == "web" },
		Container: func(_, _, c string, previous bool) (string, string, bool, error) {
			if previous {
				return "", "", false, apierrors.NewBadRequest(`previous terminated container "c" in pod "web" not found`)
			}
			return "id-" + c, log, false, nil
		},
		Running: func(string, string, string) bool { return f.running.Load() },
		Sandbox: func(string, string) (string, error) { return "box", nil },
		Engine:  func(string, string) (Engine, error) { return f, nil },
	})
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s, f
}

func get(t *testing.T, u string) (int, string) {
	t.Helper()
	r, err := http.Get(u)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return r.StatusCode, strings.TrimSpace(string(b))
}

func TestAnswersAndRefusals(t *testing.T) {
	s, f := serve(t)
	f.running.Store(false)
	for _, tc := range []struct {
		path string
		code int
		text string
	}{
		{"/healthz", 200, "ok"},
		{"/containerLogs/default/web/c", 200, "hello"},
		{"/containerLogs/default/web/c?follow=true", 200, "hello"},
		{"/containerLogs/default/web/c?previous=true", 400, `previous terminated container "c" in pod "web" not found`},
		{"/containerLogs/default/web/c?tailLines=-1", 400, `tailLines: "-1" must be a number that isn't negative`},
		{"/containerLogs/default/web/c?stream=Both", 400, `stream: "Both" is none of All, Stdout, Stderr`},
		{"/containerLogs/default/none/c", 404, `pods "none" not found`},
		{"/exec/default/web/c", 400, "you must specify at least one command for the container"},
		{"/exec/default/web/c?command=cat&output=1", 500, `container not found ("c")`},
		{"/portForward/default/web", 400, "Upgrade request required"},
		{"/elsewhere", 404, "404 page not found"},
	} {
		if code, text := get(t, s.URL+tc.path); code != tc.code || text != tc.text {
			t.Errorf("%s: %d %q, want %d %q", tc.path, code, text, tc.code, tc.text)
		}
	}
	f.running.Store(true)
	if code, text := get(t, s.URL+"/exec/default/web/c?command=cat&output=1"); code != 400 || text != "Upgrade request required" {
		t.Errorf("exec without an upgrade: %d %q", code, text)
	}
}

// executors are what kubectl uses, in its order.
func executors(t *testing.T, s *httptest.Server, path string) map[string]remotecommand.Executor {
	t.Helper()
	cfg := &rest.Config{Host: s.URL}
	u, err := url.Parse(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]remotecommand.Executor{}
	for name, p := range map[string]string{"websocket v5": protocolV5, "websocket v4": protocolV4} {
		if out[name], err = remotecommand.NewWebSocketExecutorForProtocols(cfg, "GET", u.String(), p); err != nil {
			t.Fatal(err)
		}
	}
	if out["spdy"], err = remotecommand.NewSPDYExecutor(cfg, "POST", u); err != nil {
		t.Fatal(err)
	}
	return out
}

type sizes struct{ left []remotecommand.TerminalSize }

func (s *sizes) Next() *remotecommand.TerminalSize {
	if len(s.left) == 0 {
		return nil
	}
	z := s.left[0]
	s.left = s.left[1:]
	return &z
}

func TestExecCarriesStreamsSizesAndExitCodes(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s, _ := serve(t)
	defer http.DefaultClient.CloseIdleConnections()
	defer s.Close()
	big := strings.Repeat("0123456789", 300_000)
	for name := range executors(t, s, "/") {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if name != "websocket v4" { // which can't say that its input ended
				e := executors(t, s, "/exec/default/web/c?command=cat&input=1&output=1&error=1")[name]
				err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader(big), Stdout: &out, Stderr: &errs})
				if err != nil || out.String() != big || errs.String() != "done" {
					t.Errorf("cat: %v, %d bytes, %q", err, out.Len(), errs.String())
				}
			}
			e := executors(t, s, "/exec/default/web/c?command=fail&output=1")[name]
			err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out})
			var code utilexec.CodeExitError
			if !errors.As(err, &code) || code.Code != 42 {
				t.Errorf("fail: %v", err)
			}
			e = executors(t, s, "/exec/default/web/c?command=nothing&output=1")[name]
			if err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out}); err == nil || !strings.Contains(err.Error(), "executable file not found") {
				t.Errorf("no such command: %v", err)
			}
			out.Reset()
			e = executors(t, s, "/exec/default/web/c?command=size&output=1&tty=1")[name]
			err = e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out, Tty: true,
				TerminalSizeQueue: &sizes{[]remotecommand.TerminalSize{{Width: 80, Height: 24}}}})
			if err != nil || out.String() != "80x24 tty=true" {
				t.Errorf("size: %v %q", err, out.String())
			}
			out.Reset()
			e = executors(t, s, "/attach/default/web/c?output=1")[name]
			if err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out}); err != nil || out.String() != "attached to id-c" {
				t.Errorf("attach: %v %q", err, out.String())
			}
		})
	}
}

type onWrite func()

func (f onWrite) Write(p []byte) (int, error) {
	if len(p) > 0 {
		f()
	}
	return len(p), nil
}

func TestACommandEndsWhenItsClientLeaves(t *testing.T) {
	for _, name := range []string{"websocket v5", "websocket v4", "spdy"} {
		t.Run(name, func(t *testing.T) {
			s, f := serve(t)
			ctx, cancel := context.WithCancel(t.Context())
			e := executors(t, s, "/exec/default/web/c?command=hang&output=1")[name]
			_ = e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: onWrite(cancel)})
			<-f.ended
		})
	}
}

func TestPortForwardReachesThePod(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "from the pod") }))
	defer web.Close()
	s, f := serve(t)
	f.addr = web.Listener.Addr().String()
	u, err := url.Parse(s.URL + "/portForward/default/web")
	if err != nil {
		t.Fatal(err)
	}
	cfg := &rest.Config{Host: s.URL}
	rt, up, err := spdy.RoundTripperFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(u, cfg)
	if err != nil {
		t.Fatal(err)
	}
	forward := func(t *testing.T, fw *portforward.PortForwarder, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- fw.ForwardPorts() }()
		select {
		case <-fw.Ready:
		case err := <-done:
			t.Fatal(err)
		}
		ports, err := fw.GetPorts()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if code, text := get(t, fmt.Sprintf("http://127.0.0.1:%d/", ports[0].Local)); code != 200 || text != "from the pod" {
				t.Errorf("%d %q", code, text)
			}
		}
		http.DefaultClient.CloseIdleConnections()
	}
	var errs bytes.Buffer
	t.Run("spdy", func(t *testing.T) {
		stop := make(chan struct{})
		defer close(stop)
		fw, err := portforward.New(spdy.NewDialer(up, &http.Client{Transport: rt}, "POST", u), []string{":80"}, stop, make(chan struct{}), io.Discard, &errs)
		forward(t, fw, err)
	})
	t.Run("websocket tunnel", func(t *testing.T) {
		stop := make(chan struct{})
		defer close(stop)
		fw, err := portforward.New(tunnel, []string{":80"}, stop, make(chan struct{}), io.Discard, &errs)
		forward(t, fw, err)
	})
}
