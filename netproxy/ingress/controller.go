package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/netproxy/services"
	"github.com/pintle/pintle/netproxy/standby"
)

// ControllerName is what an IngressClass names to be served here.
const ControllerName = "pintle.dev/ingress"

// Config of a Controller. One listener at least is required.
type Config struct {
	// HTTP and HTTPS are served, and closed when Run ends.
	HTTP, HTTPS []net.Listener
	// HTTPSPort is where redirects to HTTPS point; 0 is the first HTTPS listener's.
	HTTPSPort int
	// Class is the class name that is served beside the IngressClasses that name ControllerName;
	// the default is "pintle".
	Class string
	// Default is the certificate for names without one; nil makes a self-signed one.
	Default *tls.Certificate
	// Dial reaches endpoints; nil is a net.Dialer that notices within seconds when nobody is there any more.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// MaxBody is the largest request body in bytes where no annotation says otherwise; 0 is 64 MiB.
	MaxBody int64
	// Client writes Ingresses' status and events; nil writes none.
	Client kubernetes.Interface
	// Addresses are published in Ingresses' status.
	Addresses []netip.Addr
	// Name stands in events as the reporting instance.
	Name string
	// Standby holds requests for Services that are scaled to zero; nil: none is held.
	Standby *standby.Desk
	Logger  *slog.Logger
}

// Controller serves Ingresses. See the package comment.
type Controller struct {
	cfg    Config
	log    *slog.Logger
	self   *tls.Certificate
	state  atomic.Pointer[state]
	closed atomic.Bool
	ready  chan struct{}
	kick   chan struct{} // new status and events to write
	ctx    atomic.Pointer[context.Context]
	fast   atomic.Pointer[fastConns]

	mu        sync.Mutex // guards what follows
	services  map[services.Key]*services.Service
	ingresses []*networkingv1.Ingress
	secrets   map[services.Key]*corev1.Secret
	eps       map[epKey]*endpoint
	used      map[services.Key]bool
	certs     map[services.Key]*parsedCert
	problems  []problem
	served    []*networkingv1.Ingress

	wakeMu sync.Mutex // guards woken
	woken  chan struct{}
}

type epKey struct {
	addr  netip.AddrPort
	proto string
}

// state is everything that a request needs, swapped at once.
type state struct {
	table *table
	exact map[string][]*tls.Certificate
	wild  map[string][]*tls.Certificate
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Controller, error) {
	if len(cfg.HTTP)+len(cfg.HTTPS) == 0 {
		return nil, errors.New("ingress: Config has no listener")
	}
	if cfg.Class == "" {
		cfg.Class = "pintle"
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 64 << 20
	}
	if cfg.Dial == nil {
		cfg.Dial = endpointDialer().DialContext
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.HTTPSPort == 0 && len(cfg.HTTPS) > 0 {
		if a, ok := cfg.HTTPS[0].Addr().(*net.TCPAddr); ok {
			cfg.HTTPSPort = a.Port
		}
	}
	c := &Controller{cfg: cfg, log: cfg.Logger, self: cfg.Default, ready: make(chan struct{}), kick: make(chan struct{}, 1),
		services: map[services.Key]*services.Service{}, eps: map[epKey]*endpoint{}, used: map[services.Key]bool{},
		certs: map[services.Key]*parsedCert{}, woken: make(chan struct{})}
	if c.self == nil {
		cert, err := selfSigned()
		if err != nil {
			return nil, fmt.Errorf("make the default certificate: %w", err)
		}
		c.self = cert
	}
	c.state.Store(&state{table: &table{}})
	return c, nil
}

// SetServices swaps endpoints: once it returns, no request chooses one that left.
func (c *Controller) SetServices(changes []services.Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dirty := false
	for _, ch := range changes {
		key := services.Key{}
		if ch.New != nil {
			key = ch.New.Key
			c.services[key] = ch.New
		} else if ch.Old != nil {
			key = ch.Old.Key
			delete(c.services, key)
		}
		dirty = dirty || c.used[key]
	}
	if dirty {
		c.compileLocked()
	}
}

// SetIngresses replaces all Ingresses, their classes and the Secrets that hold certificates.
func (c *Controller) SetIngresses(list []*networkingv1.Ingress, classes []*networkingv1.IngressClass, secrets map[services.Key]*corev1.Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ingresses = c.ingresses[:0:0]
	for _, ing := range list {
		if c.mine(ing, classes) {
			c.ingresses = append(c.ingresses, ing)
		}
	}
	c.secrets = secrets
	c.compileLocked()
}

// mine says whether an Ingress is of our class.
func (c *Controller) mine(ing *networkingv1.Ingress, classes []*networkingv1.IngressClass) bool {
	name := ing.Annotations["kubernetes.io/ingress.class"]
	if ing.Spec.IngressClassName != nil {
		name = *ing.Spec.IngressClassName
	}
	for _, cl := range classes {
		ours := cl.Spec.Controller == ControllerName
		if name != "" && cl.Name == name {
			return ours
		}
		if name == "" && cl.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
			return ours
		}
	}
	return name == "" || name == c.cfg.Class
}

func (c *Controller) compileLocked() {
	used := map[services.Key]bool{}
	ups := map[string]*upstream{}
	live := map[*endpoint]bool{}
	resolve := func(b backendKey, o Options) *upstream {
		used[b.Key] = true
		id := fmt.Sprint(b, o.BackendProtocol)
		if u := ups[id]; u != nil {
			return u
		}
		u := &upstream{zero: c.cfg.Standby.Of(b.Key)}
		ups[id] = u
		if s := c.services[b.Key]; s != nil {
			for i := range s.Ports {
				p := &s.Ports[i]
				if (b.port != "" && p.Name != b.port) || (b.port == "" && p.Port != b.num) || p.Protocol != corev1.ProtocolTCP {
					continue
				}
				for _, a := range p.Cluster {
					k := epKey{a, o.BackendProtocol}
					e := c.eps[k]
					if e == nil {
						e = &endpoint{addr: a, proto: o.BackendProtocol, c: c}
						c.eps[k] = e
					}
					live[e] = true
					u.eps = append(u.eps, e)
				}
			}
		}
		return u
	}
	st := &state{}
	var problems []problem
	st.table, problems = compile(c.ingresses, resolve)
	more := c.certificatesLocked(st)
	c.used, c.problems, c.served = used, append(problems, more...), c.ingresses
	c.state.Store(st)
	for k, e := range c.eps {
		if !live[e] {
			delete(c.eps, k)
			e.leave()
			gone := e
			if gone.picked.Load() > 0 {
				c.goneLocked(gone)
			}
		}
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// goneLocked remembers an endpoint that left with requests under way, for Quiesce.
func (c *Controller) goneLocked(e *endpoint) {
	c.eps[epKey{e.addr, fmt.Sprintf("gone %p", e)}] = e
}

func (c *Controller) wake() {
	c.wakeMu.Lock()
	close(c.woken)
	c.woken = make(chan struct{})
	c.wakeMu.Unlock()
}

// Quiesce returns once no request that chose an endpoint of addr before it left is without an
// answer, or with the context's cause.
func (c *Controller) Quiesce(ctx context.Context, addr netip.Addr) error {
	for {
		c.wakeMu.Lock()
		woken := c.woken
		c.wakeMu.Unlock()
		busy := false
		c.mu.Lock()
		for k, e := range c.eps {
			if e.gone.Load() && e.picked.Load() == 0 {
				delete(c.eps, k)
			} else if e.gone.Load() && e.addr.Addr() == addr {
				busy = true
			}
		}
		c.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-woken:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Ready is closed once Run serves.
func (c *Controller) Ready() <-chan struct{} { return c.ready }

// shutdownGrace is how long requests get to end when Run ends.
const shutdownGrace = 3 * time.Second

// Run serves until ctx ends, then lets requests end for three seconds. It can run once.
func (c *Controller) Run(ctx context.Context) error {
	c.ctx.Store(&ctx)
	g, ctx := errgroup.WithContext(ctx)
	discard := discardLogger{}
	fast := &fasthttp.Server{
		Handler: c.serveFast, Logger: discard, NoDefaultServerHeader: true, NoDefaultContentType: true, NoDefaultDate: true,
		StreamRequestBody: true, MaxRequestBodySize: prefetch, ReadBufferSize: maxHeader, WriteBufferSize: 8 << 10,
		DisablePreParseMultipartForm: true, // no timeouts: fastConns.sweep
		ErrorHandler: func(rc *fasthttp.RequestCtx, err error) {
			code := fasthttp.StatusBadRequest
			if _, small := err.(*fasthttp.ErrSmallBuffer); small {
				code = fasthttp.StatusRequestHeaderFieldsTooLarge
			} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
				code = fasthttp.StatusRequestTimeout
			}
			rc.Error(http.StatusText(code), code)
		},
	}
	slow := &http.Server{Handler: http.HandlerFunc(c.serveSlow), ReadHeaderTimeout: 15 * time.Second, IdleTimeout: 75 * time.Second,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	h1, h2 := &fastConns{srv: fast, conns: map[*tracked]struct{}{}}, newChanListener()
	fast.ConnState = h1.state
	h1.now.Store(time.Now().UnixNano())
	c.fast.Store(h1)
	g.Go(func() error { return closedOK(ctx, slow.Serve(h2)) })
	for _, l := range c.cfg.HTTP {
		g.Go(func() error { return closedOK(ctx, c.acceptLoop(ctx, l, h1.push)) })
	}
	var handshakes sync.WaitGroup
	conf := &tls.Config{GetCertificate: c.certificate, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	for _, l := range c.cfg.HTTPS {
		g.Go(func() error {
			return closedOK(ctx, c.acceptLoop(ctx, l, func(nc net.Conn) {
				handshakes.Go(func() {
					tc := tls.Server(nc, conf)
					hctx, cancel := context.WithTimeout(ctx, 10*time.Second)
					err := tc.HandshakeContext(hctx)
					cancel()
					switch {
					case err != nil:
						nc.Close()
					case tc.ConnectionState().NegotiatedProtocol == "h2":
						h2.push(tc)
					default:
						h1.push(tc)
					}
				})
			}))
		})
	}
	g.Go(func() error { return c.reportLoop(ctx) })
	swept := make(chan struct{})
	g.Go(func() error { // until the last connection has ended
		t := time.NewTicker(sweepEvery)
		defer t.Stop()
		for {
			select {
			case <-swept:
				return nil
			case now := <-t.C:
				h1.sweep(now)
			}
		}
	})
	g.Go(func() error {
		t := time.NewTicker(idleTimeout / 2)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case now := <-t.C:
				c.mu.Lock()
				for _, e := range c.eps {
					e.sweep(now)
				}
				c.mu.Unlock()
			}
		}
	})
	g.Go(func() error {
		<-ctx.Done()
		for _, l := range append(append([]net.Listener(nil), c.cfg.HTTP...), c.cfg.HTTPS...) {
			l.Close()
		}
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		handshakes.Wait()
		c.closed.Store(true)
		h1.shutdown(grace)
		close(swept)
		if slow.Shutdown(grace) != nil {
			slow.Close()
		}
		h2.Close()
		c.mu.Lock()
		for _, e := range c.eps {
			e.leave()
		}
		c.mu.Unlock()
		return nil
	})
	close(c.ready)
	return g.Wait()
}

func closedOK(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (c *Controller) acceptLoop(ctx context.Context, l net.Listener, push func(net.Conn)) error {
	for {
		nc, err := l.Accept()
		if err == nil {
			push(nc)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("ingress listener %s: %w", l.Addr(), err)
		}
		select { // out of descriptors, perhaps: let others end first
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}

type discardLogger struct{}

func (discardLogger) Printf(string, ...any) {}

func hostOnly(h string) string {
	if strings.HasPrefix(h, "[") {
		if i := strings.IndexByte(h, ']'); i > 0 {
			return strings.ToLower(h[1:i])
		}
	}
	if i := strings.LastIndexByte(h, ':'); i >= 0 {
		h = h[:i]
	}
	return strings.ToLower(strings.TrimSuffix(h, "."))
}
