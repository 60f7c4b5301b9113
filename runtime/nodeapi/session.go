package nodeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// The sub-protocols of exec and attach. Version 4 brought exit codes, 5 (WebSockets alone) a
// message that closes one stream. SPDY needs none, because its streams can be closed.
const (
	protocolV1 = "channel.k8s.io"
	protocolV2 = "v2.channel.k8s.io"
	protocolV3 = "v3.channel.k8s.io"
	protocolV4 = "v4.channel.k8s.io"
	protocolV5 = "v5.channel.k8s.io"
	base64V1   = "base64.channel.k8s.io"
	base64V4   = "v4.base64.channel.k8s.io"

	exitCodeReason = metav1.StatusReason("NonZeroExitCode")
	exitCodeCause  = metav1.CauseType("ExitCode")

	idleTimeout     = 4 * time.Hour // the kubelet's
	creationTimeout = 30 * time.Second
)

// session is the connection of an exec or attach.
type session struct {
	streams Streams
	status  io.Writer
	json    bool // the status is a metav1.Status; older protocols have text
	close   func()
}

// open upgrades the connection. The context that it returns is the session's: it ends when the
// client leaves. Without a session the answer, or its connection, is used up: nothing may be written
// to w any more, unless the error is an API status.
func open(w http.ResponseWriter, r *http.Request) (context.Context, *session, error) {
	q := r.URL.Query()
	on := func(key string) bool { b, _ := strconv.ParseBool(q.Get(key)); return b }
	want := wanted{stdin: on("input"), stdout: on("output"), stderr: on("error"), tty: on("tty")}
	if want.tty {
		want.stderr = false // a terminal has one output
	}
	if !want.stdin && !want.stdout && !want.stderr {
		return nil, nil, apierrors.NewBadRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	switch {
	case websocket.IsWebSocketUpgrade(r):
		return openWebSocket(w, r, want)
	case httpstream.IsUpgradeRequest(r):
		return openSPDY(w, r, want)
	}
	return nil, nil, apierrors.NewBadRequest("Upgrade request required")
}

type wanted struct{ stdin, stdout, stderr, tty bool }

var errAnswered = errors.New("the answer is written")

func openWebSocket(w http.ResponseWriter, r *http.Request, want wanted) (context.Context, *session, error) {
	ctx, cancel := context.WithCancel(r.Context())
	m, err := upgrade(w, r, cancel, 5, protocolV5, protocolV4, base64V4, protocolV1, base64V1)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	s := &session{status: m.channel(3), close: func() { cancel(); m.close() }}
	p := m.protocol()
	s.json = p == protocolV5 || p == protocolV4 || p == base64V4
	s.streams.TTY = want.tty
	if want.stdin {
		s.streams.Stdin = m.channel(0)
	} else {
		m.ignore(0)
	}
	first := 3
	if want.stderr {
		s.streams.Stderr = m.channel(2)
		first = 2
	}
	if want.stdout {
		s.streams.Stdout = m.channel(1)
		first = 1
	}
	if want.tty {
		s.resizeFrom(ctx, m.channel(4))
	} else {
		m.ignore(4)
	}
	_, _ = m.channel(first).Write(nil) // tells the client that it is connected
	return ctx, s, nil
}

func openSPDY(w http.ResponseWriter, r *http.Request, want wanted) (context.Context, *session, error) {
	protocol, err := httpstream.Handshake(r, w, []string{protocolV4, protocolV3, protocolV2, protocolV1})
	if err != nil {
		return nil, nil, errAnswered
	}
	type arrival struct {
		stream httpstream.Stream
		sent   <-chan struct{}
	}
	arrivals := make(chan arrival, 8)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, sent <-chan struct{}) error {
		select {
		case arrivals <- arrival{s, sent}:
		default:
			_ = s.Reset() // more than there are kinds
		}
		return nil
	})
	if conn == nil {
		return nil, nil, errAnswered
	}
	conn.SetIdleTimeout(idleTimeout)
	ctx, cancel := context.WithCancel(r.Context())
	go func() {
		defer cancel()
		select {
		case <-conn.CloseChan():
		case <-ctx.Done():
		}
	}()
	s := &session{json: protocol == protocolV4, close: func() { cancel(); _ = conn.Close() }}
	s.streams.TTY = want.tty
	missing := map[string]bool{"error": true}
	for name, on := range map[string]bool{"stdin": want.stdin, "stdout": want.stdout, "stderr": want.stderr,
		"resize": want.tty && (protocol == protocolV4 || protocol == protocolV3)} {
		if on {
			missing[name] = true
		}
	}
	timeout := time.NewTimer(creationTimeout)
	defer timeout.Stop()
	for len(missing) > 0 {
		select {
		case a := <-arrivals:
			kind := a.stream.Headers().Get("streamType")
			if !missing[kind] {
				_ = a.stream.Reset()
				continue
			}
			delete(missing, kind)
			switch kind {
			case "error":
				s.status = a.stream
			case "stdin":
				s.streams.Stdin = a.stream
			case "stdout":
				s.streams.Stdout = a.stream
			case "stderr":
				s.streams.Stderr = a.stream
			case "resize":
				s.resizeFrom(ctx, a.stream)
			}
			// The reply must be on its way before a short command can end the connection.
			select {
			case <-a.sent:
			case <-ctx.Done():
			}
		case <-ctx.Done():
			s.close()
			return nil, nil, errAnswered
		case <-timeout.C:
			s.close()
			return nil, nil, errAnswered
		}
	}
	return ctx, s, nil
}

// resizeFrom reads the terminal's sizes until the session ends.
func (s *session) resizeFrom(ctx context.Context, r io.Reader) {
	sizes := make(chan Size)
	s.streams.Resize = sizes
	go func() {
		defer close(sizes)
		for in := json.NewDecoder(r); ; {
			var size Size
			if in.Decode(&size) != nil {
				return
			}
			select {
			case sizes <- size:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// finish tells the client how the command ended.
func (s *session) finish(code int, err error) {
	st := metav1.Status{Status: metav1.StatusSuccess}
	switch {
	case err != nil:
		st = apierrors.NewInternalError(err).Status()
	case code != 0:
		st = metav1.Status{Status: metav1.StatusFailure, Reason: exitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: exit status %d", code),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: exitCodeCause, Message: strconv.Itoa(code)}}}}
	}
	if s.json {
		if data, err := json.Marshal(st); err == nil {
			_, _ = s.status.Write(data) // a client that left doesn't ask
		}
	} else if st.Status != metav1.StatusSuccess {
		_, _ = io.WriteString(s.status, st.Message)
	}
}

func (h *handler) exec(w http.ResponseWriter, r *http.Request) error {
	cmd := r.URL.Query()["command"]
	if len(cmd) == 0 {
		return apierrors.NewBadRequest("you must specify at least one command for the container")
	}
	return h.stream(w, r, func(ctx context.Context, s *session, e Engine, id string, _ bool) (int, error) {
		code, err := e.Exec(ctx, id, cmd, s.streams)
		if err != nil {
			return 0, fmt.Errorf("error executing command in container: %w", err)
		}
		return code, nil
	})
}

func (h *handler) attach(w http.ResponseWriter, r *http.Request) error {
	return h.stream(w, r, func(ctx context.Context, s *session, e Engine, id string, tty bool) (int, error) {
		s.streams.TTY = tty // the container's terminal, whatever the client thinks
		if err := e.Attach(ctx, id, s.streams); err != nil {
			return 0, fmt.Errorf("error attaching to container: %w", err)
		}
		return 0, nil
	})
}

// stream runs f in a session with a container. Everything that can fail early does so before the
// upgrade, because only then a client gets a message that it can show.
func (h *handler) stream(w http.ResponseWriter, r *http.Request, f func(ctx context.Context, s *session, e Engine, id string, tty bool) (int, error)) error {
	namespace, pod, err := h.pod(r)
	if err != nil {
		return err
	}
	container := r.PathValue("container")
	id, _, tty, err := h.cfg.Container(namespace, pod, container, false)
	if err != nil {
		return err
	}
	if h.cfg.Running != nil && !h.cfg.Running(namespace, pod, id) {
		return fmt.Errorf("container not found (%q)", container)
	}
	engine, err := h.cfg.Engine(namespace, pod)
	if err != nil {
		return err
	}
	ctx, s, err := open(w, r)
	if errors.Is(err, errAnswered) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.close()
	code, err := f(ctx, s, engine, id, tty)
	if ctx.Err() == nil {
		s.finish(code, err)
	}
	return nil
}
