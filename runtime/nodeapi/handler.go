package nodeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Engine is what runs the containers, as far as this package needs it. A runtime.Engine is one.
type Engine interface {
	// Exec runs a command in a running container and returns its exit code. It ends when ctx does.
	Exec(ctx context.Context, id string, cmd []string, s Streams) (exitCode int, err error)
	// Attach connects to the first process's streams until it exits or ctx ends.
	Attach(ctx context.Context, id string, s Streams) error
	// Dial connects to a TCP port inside the sandbox.
	Dial(ctx context.Context, sandboxID string, port uint16) (net.Conn, error)
}

// Streams are the ends of an exec or attach session. Nil members are not connected.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         <-chan Size // nil: none; closed with the session
}

// Size is a terminal's, in characters.
type Size struct{ Width, Height uint16 }

// Config says where the handler finds pods, containers and engines. All functions but Running are
// required; they must be safe for concurrent use. Their errors reach the client: an apierrors
// status with its code, any other as 500.
type Config struct {
	// Pod finds a pod of this node.
	Pod func(namespace, name string) (*corev1.Pod, bool)
	// Container finds the newest attempt of a container, or the one before it. logPath is the file
	// that its engine appends to.
	Container func(namespace, pod, container string, previous bool) (id, logPath string, tty bool, err error)
	// Running says whether a container with that id still runs: the followers of its log end when
	// it doesn't, and exec and attach are refused. nil: followers end with their clients, and the
	// engine refuses.
	Running func(namespace, pod, id string) bool
	// Sandbox finds the pod's sandbox.
	Sandbox func(namespace, pod string) (id string, err error)
	// Engine finds the engine that runs the pod.
	Engine func(namespace, pod string) (Engine, error)
	Logger *slog.Logger // nil discards
}

type handler struct {
	cfg Config
	log *slog.Logger
}

// New makes the handler.
func New(cfg Config) http.Handler {
	h := &handler{cfg: cfg, log: cfg.Logger}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", h.answer(h.logs))
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{container}", h.answer(h.exec))
		mux.HandleFunc(method+" /attach/{namespace}/{pod}/{container}", h.answer(h.attach))
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}", h.answer(h.portForward))
	}
	return mux
}

// answer writes the error of f, if nothing was written before it, and keeps panics from the host.
func (h *handler) answer(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p != http.ErrAbortHandler {
				h.log.Error("panic in a handler of the node", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler) // ends the connection, and the server says nothing
		}()
		if err := f(w, r); err != nil {
			writeError(w, err)
		}
	}
}

func writeError(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Code != 0 {
		code = int(status.Status().Code)
	}
	http.Error(w, err.Error(), code)
}

// pod checks that the pod named by the path is this node's.
func (h *handler) pod(r *http.Request) (namespace, name string, err error) {
	namespace, name = r.PathValue("namespace"), r.PathValue("pod")
	if _, ok := h.cfg.Pod(namespace, name); !ok {
		return "", "", apierrors.NewNotFound(corev1.Resource("pods"), name)
	}
	return namespace, name, nil
}

func (h *handler) logs(w http.ResponseWriter, r *http.Request) error {
	namespace, pod, err := h.pod(r)
	if err != nil {
		return err
	}
	container := r.PathValue("container")
	opts, previous, err := logOptions(r)
	if err != nil {
		return err
	}
	id, path, _, err := h.cfg.Container(namespace, pod, container, previous)
	if err != nil {
		return err
	}
	if h.cfg.Running != nil {
		opts.Running = func() bool { return h.cfg.Running(namespace, pod, id) }
	}
	if previous {
		opts.Follow = false // it ended
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	out := &flusher{w: w, c: http.NewResponseController(w)}
	opts.Idle = out.flush
	if opts.Follow {
		out.flush() // the client sees that it is connected
	}
	if err := ReadLogs(r.Context(), path, opts, out); err != nil && r.Context().Err() == nil {
		h.log.Debug("read logs", "namespace", namespace, "pod", pod, "container", container, "error", err)
		panic(http.ErrAbortHandler) // the client must not take what it got for everything
	}
	return nil
}

// flusher sends what was written when the reader of the log has caught up.
type flusher struct {
	w     io.Writer
	c     *http.ResponseController
	dirty bool
}

func (f *flusher) Write(p []byte) (int, error) {
	f.dirty = true
	return f.w.Write(p)
}

func (f *flusher) flush() {
	_ = f.c.Flush() // a client that left is noticed by its context
	f.dirty = false
}

func logOptions(r *http.Request) (o LogOptions, previous bool, err error) {
	q := r.URL.Query()
	for key, to := range map[string]*bool{"follow": &o.Follow, "previous": &previous, "timestamps": &o.Timestamps} {
		if v := q.Get(key); v != "" {
			if *to, err = strconv.ParseBool(v); err != nil {
				return o, false, apierrors.NewBadRequest(fmt.Sprintf("%s: %q is neither true nor false", key, v))
			}
		}
	}
	number := func(key string) *int64 {
		v := q.Get(key)
		if v == "" || err != nil {
			return nil
		}
		n, e := strconv.ParseInt(v, 10, 64)
		if e != nil || n < 0 {
			err = apierrors.NewBadRequest(fmt.Sprintf("%s: %q must be a number that isn't negative", key, v))
			return nil
		}
		return &n
	}
	o.TailLines, o.LimitBytes = number("tailLines"), number("limitBytes")
	if s := number("sinceSeconds"); s != nil {
		o.Since = time.Now().Add(-time.Duration(*s) * time.Second)
	}
	if err != nil {
		return o, false, err
	}
	if v := q.Get("sinceTime"); v != "" {
		if o.Since, err = time.Parse(time.RFC3339, v); err != nil {
			return o, false, apierrors.NewBadRequest(fmt.Sprintf("sinceTime: %q is no RFC 3339 time", v))
		}
	}
	switch v := q.Get("stream"); v {
	case "", corev1.LogStreamAll:
	case corev1.LogStreamStdout:
		o.Stream = "stdout"
	case corev1.LogStreamStderr:
		o.Stream = "stderr"
	default:
		return o, false, apierrors.NewBadRequest(fmt.Sprintf("stream: %q is none of All, Stdout, Stderr", v))
	}
	return o, previous, nil
}
