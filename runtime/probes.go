package runtime

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// A container is probed fast until it first succeeds, so that it serves as soon as it can: failures in
// this phase count as one per period.
const (
	eagerEvery = 50 * time.Millisecond
	eagerFor   = 10 * time.Second
)

// prober runs the probes of one attempt of one container.
type prober struct {
	id     string
	cancel context.CancelFunc

	mu      sync.Mutex
	view    probeView
	graceOf *int64
}

func (p *prober) see() probeView {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view
}

// grace is the failed probe's own termination grace period, if it has one.
func (p *prober) grace() *int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.graceOf
}

func (w *worker) prober(container string) *prober {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.probers[container]
}

func (w *worker) stopProbers() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, p := range w.probers {
		p.cancel()
		delete(w.probers, n)
	}
}

// syncProbers starts and ends probers with the containers that run, and fills in what they see.
func (w *worker) syncProbers(ctx context.Context, s *snapshot) {
	for _, init := range []bool{true, false} {
		l := s.pod.Spec.Containers
		if init {
			l = s.pod.Spec.InitContainers
		}
		for i := range l {
			c := &l[i]
			last := s.containers[c.Name].last
			run := last != nil && last.State == Running
			w.mu.Lock()
			p := w.probers[c.Name]
			if p != nil && (!run || p.id != last.ID) {
				p.cancel()
				delete(w.probers, c.Name)
				p = nil
			}
			if p == nil && run && !w.killing {
				p = w.startProber(ctx, s.pod, c, last)
				w.probers[c.Name] = p
			}
			w.mu.Unlock()
			if p != nil {
				s.probes[c.Name] = p.see()
			}
		}
	}
}

// startProber is called with mu held.
func (w *worker) startProber(ctx context.Context, pod *corev1.Pod, c *corev1.Container, last *Container) *prober {
	ctx, cancel := context.WithCancel(ctx)
	p := &prober{id: last.ID, cancel: cancel, view: probeView{id: last.ID}}
	p.view.started = c.StartupProbe == nil
	p.view.ready = c.ReadinessProbe == nil
	if w.adopted {
		// What was ready before the agent's restart stays so until a probe says otherwise.
		for _, l := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
			for _, st := range l {
				if st.Name == c.Name && strings.HasSuffix(st.ContainerID, "://"+last.ID) {
					p.view.ready = p.view.ready || st.Ready
					p.view.started = p.view.started || st.Started != nil && *st.Started
				}
			}
		}
	}
	if c.StartupProbe == nil && c.ReadinessProbe == nil && c.LivenessProbe == nil {
		return p
	}
	wasReady, wasStarted := p.view.ready, p.view.started
	began := last.StartedAt
	c = c.DeepCopy()
	w.wg.Go(func() {
		if c.StartupProbe != nil && !wasStarted {
			ok := false
			w.loop(ctx, pod, c, "Startup", c.StartupProbe, began, true, func(good bool) bool {
				if good {
					ok = true
					p.set(w, func(v *probeView) { v.started = true })
				} else {
					p.fail(w, c.StartupProbe, "startup")
				}
				return true // either way it has done its part
			})
			if !ok {
				return
			}
			began = time.Now()
		}
		var wg sync.WaitGroup
		if c.ReadinessProbe != nil {
			wg.Go(func() {
				w.loop(ctx, pod, c, "Readiness", c.ReadinessProbe, began, !wasReady, func(good bool) bool {
					if p.see().ready != good {
						w.log.Debug("readiness changed", "container", c.Name, "ready", good)
					}
					p.set(w, func(v *probeView) { v.ready = good })
					return false
				})
			})
		}
		if c.LivenessProbe != nil {
			wg.Go(func() {
				w.loop(ctx, pod, c, "Liveness", c.LivenessProbe, began, false, func(good bool) bool {
					if !good {
						p.fail(w, c.LivenessProbe, "liveness")
					}
					return !good
				})
			})
		}
		wg.Wait()
	})
	return p
}

func (p *prober) set(w *worker, f func(*probeView)) {
	p.mu.Lock()
	old := p.view
	f(&p.view)
	changed := old != p.view
	p.mu.Unlock()
	if changed {
		w.wake()
	}
}

func (p *prober) fail(w *worker, probe *corev1.Probe, kind string) {
	p.mu.Lock()
	p.graceOf = probe.TerminationGracePeriodSeconds
	p.mu.Unlock()
	p.set(w, func(v *probeView) { v.failed = kind })
}

// loop probes until ctx ends or tell, which hears of each threshold that is reached, returns true.
func (w *worker) loop(ctx context.Context, pod *corev1.Pod, c *corev1.Container, kind string, probe *corev1.Probe, began time.Time, eager bool, tell func(good bool) bool) {
	period := time.Duration(max(probe.PeriodSeconds, 1)) * time.Second
	if probe.PeriodSeconds == 0 {
		period = 10 * time.Second
	}
	timeout := time.Duration(max(probe.TimeoutSeconds, 1)) * time.Second
	successes, failures := int(max(probe.SuccessThreshold, 1)), int(probe.FailureThreshold)
	if failures <= 0 {
		failures = 3
	}
	if d := time.Duration(probe.InitialDelaySeconds) * time.Second; d > 0 {
		if !sleep(ctx, time.Until(began.Add(d))) {
			return
		}
		eager = false
	}
	good, bad := 0, 0
	eagerUntil := time.Now().Add(eagerFor)
	var counted time.Time
	for ctx.Err() == nil {
		pctx, cancel := context.WithTimeout(ctx, timeout)
		warn, err := w.probe(pctx, pod, c, probe)
		if err != nil && pctx.Err() == context.DeadlineExceeded {
			err = fmt.Errorf("%w (timed out after %s)", err, timeout)
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		if warn != "" {
			w.eventFor(pod, c.Name, corev1.EventTypeWarning, "ProbeWarning", kind+" probe warning: "+warn)
		}
		fast := eager && time.Now().Before(eagerUntil)
		if err == nil {
			good, bad = good+1, 0
			if good >= successes {
				eager = false
				if tell(true) {
					return
				}
			}
		} else {
			good = 0
			w.log.Debug("probe failed", "kind", kind, "container", c.Name, "error", err)
			// The first failure while a server is coming up is no news; nor are those within a period.
			if now := time.Now(); !fast || counted.IsZero() && now.Sub(began) > period || !counted.IsZero() && now.Sub(counted) >= period {
				counted = now
				bad++
				w.eventFor(pod, c.Name, corev1.EventTypeWarning, "Unhealthy", kind+" probe failed: "+err.Error())
				if bad >= failures && tell(false) {
					return
				}
			}
		}
		wait := period
		if fast && eager {
			wait = eagerEvery
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// probe runs one check. A warning is a success that a person should hear of.
func (w *worker) probe(ctx context.Context, pod *corev1.Pod, c *corev1.Container, p *corev1.Probe) (warning string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("probe panicked: %v", r)
		}
	}()
	switch {
	case p.Exec != nil:
		var out limitedBuffer
		last := w.liveID(c.Name)
		code, err := w.engine.Exec(ctx, last, p.Exec.Command, Streams{Stdout: &out, Stderr: &out})
		if err != nil {
			return "", err
		}
		if code != 0 {
			return "", fmt.Errorf("%s", out.String())
		}
		return "", nil
	case p.HTTPGet != nil:
		return w.probeHTTP(ctx, pod, c, p.HTTPGet)
	case p.TCPSocket != nil:
		return "", w.probeTCP(ctx, pod, c, p.TCPSocket)
	case p.GRPC != nil:
		return "", w.probeGRPC(ctx, p.GRPC)
	}
	return "", fmt.Errorf("missing probe handler for %s:%s", pod.Name, c.Name)
}

// liveID is the newest running attempt of a container.
func (w *worker) liveID(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, attempt := "", -1
	for _, c := range w.live {
		if c.Name == name && c.State == Running && c.Attempt > attempt {
			id, attempt = c.ID, c.Attempt
		}
	}
	return id
}

// dialPod connects to a port of the pod as a neighbour would. Addresses that only the engine knows how
// to reach (none, or loopback ones) are dialled through it.
func (w *worker) dialPod(ctx context.Context, host string, port uint16) (net.Conn, error) {
	w.mu.Lock()
	box := w.box
	w.mu.Unlock()
	var d net.Dialer
	if host == "" && box != nil && len(box.IPs) > 0 && !box.IPs[0].IsLoopback() {
		host = box.IPs[0].String()
	}
	if host != "" {
		return d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	}
	return w.engine.Dial(ctx, string(w.uid), port)
}

func portOf(c *corev1.Container, p intstr.IntOrString) (uint16, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		for _, x := range c.Ports {
			if x.Name == p.StrVal {
				return uint16(x.ContainerPort), nil
			}
		}
	}
	if n <= 0 || n > 65535 {
		return 0, fmt.Errorf("invalid port %q", p.String())
	}
	return uint16(n), nil
}

func (w *worker) probeTCP(ctx context.Context, _ *corev1.Pod, c *corev1.Container, p *corev1.TCPSocketAction) error {
	port, err := portOf(c, p.Port)
	if err != nil {
		return err
	}
	conn, err := w.dialPod(ctx, p.Host, port)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (w *worker) probeHTTP(ctx context.Context, _ *corev1.Pod, c *corev1.Container, p *corev1.HTTPGetAction) (string, error) {
	port, err := portOf(c, p.Port)
	if err != nil {
		return "", err
	}
	host := p.Host
	if host == "" {
		host = w.podHost()
	}
	scheme := strings.ToLower(string(p.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	u, err := url.Parse(p.Path)
	if err != nil {
		u = &url.URL{Path: p.Path}
	}
	u.Scheme, u.Host = scheme, net.JoinHostPort(host, strconv.Itoa(int(port)))
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("User-Agent", "kube-probe/1.37")
	req.Header.Set("Accept", "*/*")
	for _, h := range p.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	t := &http.Transport{DisableKeepAlives: true, DisableCompression: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // as Kubernetes: a probe asks whether it serves, not who it is
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			h, prt, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			n, err := strconv.ParseUint(prt, 10, 16)
			if err != nil {
				return nil, err
			}
			if p.Host == "" && h == host {
				h = ""
			}
			return w.dialPod(ctx, h, uint16(n))
		}}
	defer t.CloseIdleConnections()
	client := &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if r.URL.Hostname() != host || len(via) >= 10 {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 10<<10)
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return "", nil
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return fmt.Sprintf("Probe terminated redirects, Response body: %s", res.Status), nil
	}
	return "", fmt.Errorf("HTTP probe failed with statuscode: %d", res.StatusCode)
}

func (w *worker) podHost() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.box != nil && len(w.box.IPs) > 0 {
		return w.box.IPs[0].String()
	}
	return "127.0.0.1"
}

func (w *worker) probeGRPC(ctx context.Context, p *corev1.GRPCAction) error {
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(w.podHost(), strconv.Itoa(int(p.Port))),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/1.37"),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.dialPod(ctx, "", uint16(p.Port)) }))
	if err != nil {
		return err
	}
	defer conn.Close()
	service := ""
	if p.Service != nil {
		service = *p.Service
	}
	res, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service}, grpc.WaitForReady(false))
	if err != nil {
		return fmt.Errorf("error: health rpc failed: %w", err)
	}
	if res.Status != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("service unhealthy (responded with %q)", res.Status.String())
	}
	return nil
}

// limitedBuffer keeps the first 10 KiB. Stdout and stderr may write at the same time.
type limitedBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (l *limitedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if room := 10<<10 - len(l.b); room > 0 {
		l.b = append(l.b, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func (l *limitedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}
