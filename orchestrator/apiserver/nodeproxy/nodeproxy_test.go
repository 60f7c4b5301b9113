package nodeproxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	server "k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/pintle/pintle/internal/memnet"
)

type echo struct{}

func (echo) ExecInContainer(_ context.Context, _, _, _ string, cmd []string, in io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan server.TerminalSize, _ time.Duration) error {
	_, err := io.WriteString(out, strings.Join(cmd, " ")+":")
	if err == nil {
		// WebSockets of protocol v4 can't end stdin alone, so the length is agreed on.
		_, err = io.CopyN(out, in, int64(len("there")))
	}
	return err
}

// start serves a Proxy in front of an agent and returns its URL.
func start(t *testing.T, agent http.Handler) string {
	t.Helper()
	l := memnet.Listen()
	s := &http.Server{Handler: agent}
	go func() { _ = s.Serve(l) }()
	p, err := New(Config{
		DialNode: func(ctx context.Context, node string) (net.Conn, error) {
			if node != "n1" {
				return nil, errors.New("no route")
			}
			return l.Dial(ctx, nil)
		},
		Pod: func(_ context.Context, ns, name string) (*corev1.Pod, error) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c"}}}}
			switch name {
			case "missing":
				return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
			case "lost":
				pod.Spec.NodeName = "n2"
			case "two":
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "d"})
			}
			return pod, nil
		},
		Node: func(_ context.Context, name string) (*corev1.Node, error) {
			return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/") // pods/NAME/SUB
		if err := p.ServePod(w, r, "ns", parts[1], parts[2]); err != nil {
			var status apierrors.APIStatus
			if errors.As(err, &status) {
				http.Error(w, status.Status().Message, int(status.Status().Code))
			}
		}
	}))
	t.Cleanup(func() {
		front.Close()
		_ = s.Close()
		_ = l.Close()
	})
	return front.URL
}

func TestExecPassesBothProtocols(t *testing.T) {
	agent := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/exec/ns/p/c" {
			http.NotFound(w, r)
			return
		}
		opts, err := server.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), 400)
			return
		}
		server.ServeExec(w, r, echo{}, "p", "", "c", r.URL.Query()["command"], opts, time.Minute, time.Minute,
			[]string{"v4.channel.k8s.io"})
	})
	base := start(t, agent)
	u, _ := url.Parse(base + "/pods/p/exec?stdin=true&stdout=true&command=echo&command=hi")
	cfg := &rest.Config{Host: base}
	spdy, err := remotecommand.NewSPDYExecutor(cfg, "POST", u)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := remotecommand.NewWebSocketExecutorForProtocols(cfg, "GET", u.String(), "v4.channel.k8s.io")
	if err != nil {
		t.Fatal(err)
	}
	for name, executor := range map[string]remotecommand.Executor{"spdy": spdy, "websocket": ws} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("there"), Stdout: &out}); err != nil {
				t.Fatal(err)
			}
			if out.String() != "echo hi:there" {
				t.Fatalf("%q", out.String())
			}
		})
	}
}

func TestFollowedLogsFlushAndEndWithTheClient(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ended := make(chan struct{})
	t.Run("client", func(t *testing.T) {
		base := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			if r.Header.Get("Authorization") != "" || r.URL.Query().Get("follow") != "true" {
				t.Errorf("%v %v", r.Header, r.URL)
			}
			_, _ = io.WriteString(w, "line\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}))
		ctx, cancel := context.WithCancel(t.Context())
		r, _ := http.NewRequestWithContext(ctx, "GET", base+"/pods/p/log?follow=true", nil)
		r.Header.Set("Authorization", "Bearer secret")
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 5)
		if _, err := io.ReadFull(resp.Body, line); err != nil || string(line) != "line\n" {
			t.Fatalf("%q %v", line, err)
		}
		cancel()
		<-ended
		_ = resp.Body.Close()
	})
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	base := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "container \"c\" in pod \"p\" is waiting to start: ContainerCreating", 400)
	}))
	for path, want := range map[string]string{
		"/pods/missing/log":                `pods "missing" not found`,
		"/pods/two/log":                    `a container name must be specified for pod two, choose one of: [c d]`,
		"/pods/p/log?container=x":          `container x is not valid for pod p`,
		"/pods/p/log":                      `container "c" in pod "p" is waiting to start: ContainerCreating`,
		"/pods/p/log?tailLines=-1":         `tailLines`,
		"/pods/lost/log":                   `error dialing backend: dial node n2: no route`,
		"/pods/p/exec?stdout=1":            `you must specify at least one command for the container`,
		"/pods/p/portforward?ports=999999": `invalid port "999999"`,
	} {
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if !strings.Contains(string(body), want) || resp.StatusCode < 400 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}
