package nodeproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/internal/memnet"
)

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

// echoAgent takes an upgrade to any protocol and sends back what it gets, as far as "bye".
func echoAgent(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/exec/ns/p/c" || strings.Join(r.URL.Query()["command"], " ") != "echo hi" || r.Header.Get("Authorization") != "" {
		http.Error(w, "not what was asked for: "+r.URL.String(), http.StatusNotFound)
		return
	}
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
	w.Header().Set("X-Stream-Protocol-Version", r.Header.Get("X-Stream-Protocol-Version"))
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	for {
		line, err := buffered.ReadString('\n')
		if err != nil || line == "bye\n" {
			return
		}
		if _, err := io.WriteString(conn, line); err != nil {
			return
		}
	}
}

// What the protocols mean is the client's and the agent's business: the proxy carries their upgrade and bytes.
// internal/e2e has kubectl speak both through it.
func TestExecPassesBothProtocols(t *testing.T) {
	base := start(t, http.HandlerFunc(echoAgent))
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ method, upgrade string }{{http.MethodPost, "SPDY/3.1"}, {http.MethodGet, "websocket"}} {
		t.Run(tc.upgrade, func(t *testing.T) {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", u.Host)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "%s /pods/p/exec?stdin=true&stdout=true&command=echo&command=hi HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"+
				"Connection: Upgrade\r\nUpgrade: %s\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n", tc.method, tc.upgrade)
			reader := bufio.NewReader(conn)
			resp, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != tc.upgrade || resp.Header.Get("X-Stream-Protocol-Version") != "v4.channel.k8s.io" {
				t.Fatalf("%s %v", resp.Status, resp.Header)
			}
			fmt.Fprint(conn, "there\n")
			if line, err := reader.ReadString('\n'); err != nil || line != "there\n" {
				t.Fatalf("%q %v", line, err)
			}
			fmt.Fprint(conn, "bye\n")
			if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
				t.Fatalf("the agent's end doesn't come through: %q %v", rest, err)
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
