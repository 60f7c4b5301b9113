package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

const streamIdle = 4 * time.Hour

// httpError is an error with the status to answer.
type httpError struct {
	code int
	error
}

func notFound(format string, args ...any) error {
	return httpError{http.StatusNotFound, fmt.Errorf(format, args...)}
}

func badRequest(err error) error { return httpError{http.StatusBadRequest, err} }

func (a *Agent) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			defer func() {
				if p := recover(); p != nil && p != http.ErrAbortHandler {
					a.log.Error("panic in handler", "path", r.URL.Path, "panic", fmt.Sprint(p))
				}
			}()
			if err := h(rw, r); err != nil {
				code := http.StatusInternalServerError
				var he httpError
				if errors.As(err, &he) {
					code = he.code
				}
				http.Error(rw, err.Error(), code)
			}
		})
	}
	handle("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) error { _, err := io.WriteString(rw, "ok"); return err })
	handle("GET /containerLogs/{ns}/{pod}/{container}", a.serveLogs)
	for _, p := range []string{"/exec/{ns}/{pod}/{container}", "/exec/{ns}/{pod}/{uid}/{container}"} {
		handle(p, a.serveExec)
	}
	for _, p := range []string{"/attach/{ns}/{pod}/{container}", "/attach/{ns}/{pod}/{uid}/{container}"} {
		handle(p, a.serveAttach)
	}
	for _, p := range []string{"/portForward/{ns}/{pod}", "/portForward/{ns}/{pod}/{uid}"} {
		handle(p, a.servePortForward)
	}
	handle("GET /pods", a.servePods)
	handle("GET /stats/summary", a.serveSummary)
	handle("GET /metrics/resource", a.serveResourceMetrics)
	return mux
}

func (a *Agent) target(r *http.Request) (*worker, error) {
	ns, name := r.PathValue("ns"), r.PathValue("pod")
	w := a.find(ns, name)
	if w == nil || r.PathValue("uid") != "" && r.PathValue("uid") != string(w.uid) {
		return nil, notFound("pod %q in namespace %q not found", name, ns)
	}
	return w, nil
}

func (a *Agent) serveLogs(rw http.ResponseWriter, r *http.Request) error {
	w, err := a.target(r)
	if err != nil {
		return err
	}
	o, err := parseLogOptions(r.URL.Query(), a.cfg.Clock())
	if err != nil {
		return badRequest(err)
	}
	container := r.PathValue("container")
	pod := w.pod()
	if !hasContainer(pod, container) {
		return notFound("container %q not found in pod %q", container, pod.Name)
	}
	path, attempt, err := w.logOf(container, o.previous)
	if err != nil {
		return badRequest(err)
	}
	id := containerID(pod, container, attempt)
	alive := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		c, ok := w.live[id]
		return !w.gone && (ok && c.State != Exited || !ok && w.status != nil && w.status.Phase != corev1.PodFailed && w.status.Phase != corev1.PodSucceeded && !w.killed)
	}
	rw.Header().Set("Content-Type", "text/plain")
	if o.follow {
		rw.Header().Set("Transfer-Encoding", "chunked")
		rw.WriteHeader(http.StatusOK)
		if f, ok := rw.(http.Flusher); ok {
			f.Flush()
		}
		// The headers are out: an error can only end the stream.
		if err := readLogs(r.Context(), flushing{rw}, path, o, alive); err != nil {
			a.log.Debug("follow log", "path", path, "error", err)
		}
		return nil
	}
	return readLogs(r.Context(), rw, path, o, func() bool { return false })
}

// flushing sends each line at once.
type flushing struct{ http.ResponseWriter }

func (f flushing) Flush() {
	if x, ok := f.ResponseWriter.(http.Flusher); ok {
		x.Flush()
	}
}

func hasContainer(pod *corev1.Pod, name string) bool {
	is := func(c corev1.Container) bool { return c.Name == name }
	return slices.ContainsFunc(pod.Spec.Containers, is) || slices.ContainsFunc(pod.Spec.InitContainers, is)
}

func (a *Agent) runningContainer(r *http.Request) (*worker, string, error) {
	w, err := a.target(r)
	if err != nil {
		return nil, "", err
	}
	name := r.PathValue("container")
	if !hasContainer(w.pod(), name) {
		return nil, "", notFound("container %s is not valid for pod %s", name, w.name)
	}
	id := w.liveID(name)
	if id == "" {
		return nil, "", httpError{http.StatusBadRequest, fmt.Errorf("container not found (%q)", name)}
	}
	return w, id, nil
}

// streamer is what remotecommand and portforward call.
type streamer struct {
	w  *worker
	id string
}

func (a *Agent) serveExec(rw http.ResponseWriter, r *http.Request) error {
	w, id, err := a.runningContainer(r)
	if err != nil {
		return err
	}
	opts, err := streamOptions(r)
	if err != nil {
		return badRequest(err)
	}
	remotecommand.ServeExec(rw, r, streamer{w, id}, w.name, string(w.uid), r.PathValue("container"), r.URL.Query()["command"], opts,
		streamIdle, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
	return nil
}

func (a *Agent) serveAttach(rw http.ResponseWriter, r *http.Request) error {
	w, id, err := a.runningContainer(r)
	if err != nil {
		return err
	}
	opts, err := streamOptions(r)
	if err != nil {
		return badRequest(err)
	}
	remotecommand.ServeAttach(rw, r, streamer{w, id}, w.name, string(w.uid), r.PathValue("container"), opts,
		streamIdle, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
	return nil
}

// streamOptions takes the API's names (stdin=true) and the kubelet's (input=1) alike.
func streamOptions(r *http.Request) (*remotecommand.Options, error) {
	q := r.URL.Query()
	is := func(names ...string) bool {
		for _, n := range names {
			if v := q.Get(n); v == "1" || v == "true" {
				return true
			}
		}
		return false
	}
	o := &remotecommand.Options{Stdin: is("input", "stdin"), Stdout: is("output", "stdout"), Stderr: is("error", "stderr"), TTY: is("tty")}
	if o.TTY {
		o.Stderr = false // a terminal has one output
	}
	if !o.Stdin && !o.Stdout && !o.Stderr {
		return nil, errors.New("you must specify at least 1 of stdin, stdout, stderr")
	}
	return o, nil
}

func (a *Agent) servePortForward(rw http.ResponseWriter, r *http.Request) error {
	w, err := a.target(r)
	if err != nil {
		return err
	}
	opts, err := portforward.NewV4Options(r)
	if err != nil {
		return badRequest(err)
	}
	portforward.ServePortForward(rw, r, streamer{w, ""}, w.name, string(w.uid), opts, streamIdle,
		remotecommand.DefaultStreamCreationTimeout, portforward.SupportedProtocols)
	return nil
}

func (s streamer) streams(ctx context.Context, in io.Reader, out, errw io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) Streams {
	st := Streams{TTY: tty}
	if in != nil {
		st.Stdin = in
	}
	if out != nil {
		st.Stdout = out
	}
	if errw != nil {
		st.Stderr = errw
	}
	if resize != nil {
		ch := make(chan Size)
		st.Resize = ch
		go func() {
			defer close(ch)
			for {
				select {
				case <-ctx.Done():
					return
				case z, ok := <-resize:
					if !ok {
						return
					}
					select {
					case ch <- Size{z.Width, z.Height}:
					case <-ctx.Done():
						return
					}
				}
			}
		}()
	}
	return st
}

// ExecInContainer implements remotecommand.Executor.
func (s streamer) ExecInContainer(ctx context.Context, _, _, _ string, cmd []string, in io.Reader, out, errw io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	code, err := s.w.engine.Exec(ctx, s.id, cmd, s.streams(ctx, in, out, errw, tty, resize))
	if err != nil {
		return err
	}
	if code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	return nil
}

// AttachContainer implements remotecommand.Attacher.
func (s streamer) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, errw io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return s.w.engine.Attach(ctx, s.id, s.streams(ctx, in, out, errw, tty, resize))
}

// PortForward implements portforward.PortForwarder.
func (s streamer) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	if port <= 0 || port > 65535 {
		return fmt.Errorf("invalid port %d", port)
	}
	e := s.w.eng()
	if e == nil {
		return fmt.Errorf("pod %s has no sandbox yet", s.w.name)
	}
	conn, err := e.Dial(ctx, string(s.w.uid), uint16(port))
	if err != nil {
		return fmt.Errorf("failed to connect to port %d of pod %s: %w", port, s.w.name, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close(); stream.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(conn, stream)
		if c, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite()
		}
	})
	_, err = io.Copy(stream, conn)
	stream.Close()
	wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func writeJSON(rw http.ResponseWriter, v any) error {
	rw.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(rw).Encode(v)
}

func (a *Agent) servePods(rw http.ResponseWriter, _ *http.Request) error {
	l := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
	for _, w := range a.allWorkers() {
		l.Items = append(l.Items, *w.pod())
	}
	return writeJSON(rw, l)
}

// usage is one running container's consumption.
type usage struct {
	pod       *corev1.Pod
	container string
	started   time.Time
	stats     Stats
}

func (a *Agent) usage(ctx context.Context) []usage {
	var out []usage
	for _, w := range a.allWorkers() {
		w.mu.Lock()
		live := make([]Container, 0, len(w.live))
		for _, c := range w.live {
			if c.State == Running {
				live = append(live, c)
			}
		}
		e := w.box
		w.mu.Unlock()
		if e == nil {
			continue
		}
		for _, c := range live {
			if s, err := w.engine.Stats(ctx, c.ID); err == nil {
				out = append(out, usage{w.pod(), c.Name, c.StartedAt, s})
			}
		}
	}
	slices.SortFunc(out, func(x, y usage) int {
		return strings.Compare(objectKey(x.pod)+"/"+x.container, objectKey(y.pod)+"/"+y.container)
	})
	return out
}

// serveSummary is the part of the kubelet's summary that is known: CPU and memory per container.
func (a *Agent) serveSummary(rw http.ResponseWriter, r *http.Request) error {
	type cpu struct {
		Time  time.Time `json:"time"`
		Total uint64    `json:"usageCoreNanoSeconds"`
	}
	type mem struct {
		Time    time.Time `json:"time"`
		Working uint64    `json:"workingSetBytes"`
		RSS     uint64    `json:"rssBytes"`
	}
	type container struct {
		Name   string    `json:"name"`
		Start  time.Time `json:"startTime"`
		CPU    cpu       `json:"cpu"`
		Memory mem       `json:"memory"`
	}
	type ref struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		UID       string `json:"uid"`
	}
	type pod struct {
		Ref        ref         `json:"podRef"`
		Containers []container `json:"containers"`
	}
	var out struct {
		Node struct {
			Name string `json:"nodeName"`
		} `json:"node"`
		Pods []pod `json:"pods"`
	}
	out.Node.Name = a.cfg.NodeName
	out.Pods = []pod{}
	for _, u := range a.usage(r.Context()) {
		id := ref{u.pod.Name, u.pod.Namespace, string(u.pod.UID)}
		if n := len(out.Pods); n == 0 || out.Pods[n-1].Ref != id {
			out.Pods = append(out.Pods, pod{Ref: id})
		}
		p := &out.Pods[len(out.Pods)-1]
		p.Containers = append(p.Containers, container{u.container, u.started, cpu{u.stats.Time, u.stats.CPUNanos}, mem{u.stats.Time, u.stats.MemoryBytes, u.stats.MemoryRSS}})
	}
	return writeJSON(rw, out)
}

func (a *Agent) serveResourceMetrics(rw http.ResponseWriter, r *http.Request) error {
	rw.Header().Set("Content-Type", "text/plain; version=0.0.4")
	all := a.usage(r.Context())
	var b strings.Builder
	b.WriteString("# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed by the container in core-seconds\n# TYPE container_cpu_usage_seconds_total counter\n")
	for _, u := range all {
		fmt.Fprintf(&b, "container_cpu_usage_seconds_total{container=%q,namespace=%q,pod=%q} %g\n", u.container, u.pod.Namespace, u.pod.Name, float64(u.stats.CPUNanos)/1e9)
	}
	b.WriteString("# HELP container_memory_working_set_bytes Current working set of the container in bytes\n# TYPE container_memory_working_set_bytes gauge\n")
	for _, u := range all {
		fmt.Fprintf(&b, "container_memory_working_set_bytes{container=%q,namespace=%q,pod=%q} %d\n", u.container, u.pod.Namespace, u.pod.Name, u.stats.MemoryBytes)
	}
	_, err := io.WriteString(rw, b.String())
	return err
}
