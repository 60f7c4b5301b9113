package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"

	"github.com/pintle/pintle/internal/memnet"
	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver/authn"
	"github.com/pintle/pintle/orchestrator/apiserver/authz"
	"github.com/pintle/pintle/orchestrator/apiserver/nodeproxy"
	"github.com/pintle/pintle/orchestrator/apiserver/openapi"
	"github.com/pintle/pintle/orchestrator/registry"
)

// DefaultVersion is the version of the API that is served: Kubernetes' own, marked as ours.
const DefaultVersion = "v1.37.2+pintle"

// Config says what is served and to whom.
type Config struct {
	// Registry holds the objects; its Run is the caller's.
	Registry *registry.Registry

	// Listener is served over TLS with the given configuration, HTTP/1.1 and HTTP/2; nil: no port.
	// The TLS configuration must ask for client certificates where those authenticate. TLS nil: the
	// listener's connections are *tls.Conn already, after their handshake.
	Listener net.Listener
	TLS      *tls.Config
	// Memory is served without TLS; its connections carry who dialled. ListenMemory makes one. Nil: none.
	Memory *Memory

	// Authenticator finds out who asks. A request that it doesn't know is answered with 401, so end it
	// with authn.WithAnonymous where anonymous requests are welcome.
	Authenticator authn.Authenticator
	// Authorizer decides on every request, those for /healthz and the like included.
	Authorizer authz.Authorizer
	// RBAC evaluates rules for reviews and for the check that nobody grants more than they hold.
	RBAC authz.RBAC

	// Issuer makes tokens for serviceaccounts/token. Nil: those requests are refused.
	Issuer *authn.Issuer
	// Tokens answers TokenReviews. Nil: those are refused.
	Tokens authn.TokenAuthenticator

	// NodeProxy carries logs, exec, attach and port-forward. Nil: those are refused.
	NodeProxy *nodeproxy.Proxy
	// Explain answers pods/{name}/scheduling with what is to be written as JSON. Nil: it is refused.
	Explain func(ctx context.Context, namespace, pod string) (any, error)
	// Metrics answers metrics.k8s.io, custom.metrics.k8s.io and external.metrics.k8s.io. Nil: they aren't served.
	Metrics Metrics
	// OpenAPI serves /openapi/; nil: made from the registry's kinds.
	OpenAPI http.Handler

	// Health are further parts that /healthz and /readyz ask, as they are now. Nil: none.
	Health func() []HealthCheck

	Version string             // as kubectl version prints it; "" is DefaultVersion
	Logger  *slog.Logger       // nil discards
	Clock   clock.PassiveClock // nil: the machine's; ages in tables come from it
	Grace   time.Duration      // how long requests may go on when Run ends; 0: 2 s
}

// Memory is a net.Listener without a socket. Its Dial(ctx, user) gives one end of a connection, and the
// other end's requests come from user, a *authn.User, where authn.InProcess is among the authenticators.
// It is safe for concurrent use.
type Memory = memnet.Listener

// ListenMemory returns an open Memory.
func ListenMemory() *Memory { return memnet.Listen() }

// HealthCheck is what /healthz and /readyz say of one part. /readyz?verbose lists all of them.
type HealthCheck struct {
	Name    string
	Problem string // "": it works
}

// Server is an API server. All methods are safe for concurrent use; Run is called once.
type Server struct {
	cfg      Config
	registry *registry.Registry
	log      *slog.Logger
	clock    clock.PassiveClock
	codecs   *codecs
	managers *fieldManagers
	reviews  authz.Reviews
	groups   *discovery
	ready    chan struct{}
	stopping chan struct{} // closed when Run begins to end: watches end then
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Registry == nil:
		return nil, errors.New("apiserver: Config.Registry is nil")
	case cfg.Authenticator == nil:
		return nil, errors.New("apiserver: Config.Authenticator is nil")
	case cfg.Authorizer == nil:
		return nil, errors.New("apiserver: Config.Authorizer is nil")
	}
	if cfg.Version == "" {
		cfg.Version = DefaultVersion
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Grace <= 0 {
		cfg.Grace = 2 * time.Second
	}
	if cfg.OpenAPI == nil {
		handler, err := openapi.Handler(openapi.Config{Kinds: cfg.Registry.Kinds(), Reviews: describedReviews(), Title: "Kubernetes", Version: cfg.Version})
		if err != nil {
			return nil, fmt.Errorf("apiserver: %w", err)
		}
		cfg.OpenAPI = handler
	}
	scheme := api.Scheme()
	groups := newDiscovery(cfg.Registry.Kinds())
	if cfg.Metrics != nil {
		groups.addMetrics()
	}
	return &Server{
		cfg: cfg, registry: cfg.Registry, log: cfg.Logger, clock: cfg.Clock,
		codecs: newCodecs(scheme), managers: newFieldManagers(scheme, cfg.Registry.Kinds()),
		reviews:  authz.Reviews{Authorizer: cfg.Authorizer, RBAC: cfg.RBAC, Tokens: cfg.Tokens, Clock: cfg.Clock},
		groups:   groups,
		ready:    make(chan struct{}),
		stopping: make(chan struct{}),
	}, nil
}

// Ready is closed when requests are accepted and the registry is ready.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is the listener's address, nil without one.
func (s *Server) Addr() net.Addr {
	if s.cfg.Listener == nil {
		return nil
	}
	return s.cfg.Listener.Addr()
}

// Handler serves the API on a server of the caller's. Watches then end with their clients.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

// Run serves until ctx ends: it then accepts no more, ends watches, gives other requests
// Config.Grace to finish and returns nil when all connections are closed.
func (s *Server) Run(ctx context.Context) error {
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(errors.New("the API server has stopped"))
	var servers []*http.Server
	unused := newUnusedConns()
	group, groupCtx := errgroup.WithContext(ctx)
	start := func(srv *http.Server, what string, serve func() error) {
		srv.Handler = s.Handler()
		srv.ReadHeaderTimeout = 30 * time.Second
		srv.IdleTimeout = 3 * time.Minute
		srv.MaxHeaderBytes = 1 << 20
		srv.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
		srv.ConnState = unused.note
		srv.BaseContext = func(net.Listener) context.Context { return base }
		servers = append(servers, srv)
		group.Go(func() error {
			if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
				return fmt.Errorf("apiserver: serve %s: %w", what, err)
			}
			return nil
		})
	}
	if s.cfg.Listener != nil {
		conf, encrypted := &tls.Config{}, s.cfg.TLS == nil
		if !encrypted {
			conf = s.cfg.TLS.Clone()
		}
		for _, proto := range []string{"h2", "http/1.1"} {
			if !slices.Contains(conf.NextProtos, proto) {
				conf.NextProtos = append(conf.NextProtos, proto)
			}
		}
		srv := &http.Server{TLSConfig: conf}
		start(srv, "TLS", func() error {
			if encrypted {
				return srv.Serve(onlyTLS{s.cfg.Listener})
			}
			return srv.ServeTLS(s.cfg.Listener, "", "")
		})
	}
	if s.cfg.Memory != nil {
		srv := &http.Server{ConnContext: authn.ConnContext}
		start(srv, "in memory", func() error { return srv.Serve(s.cfg.Memory) })
	}
	group.Go(func() error {
		select {
		case <-s.registry.Ready():
			close(s.ready)
			s.managers.warm()
		case <-groupCtx.Done():
		}
		return nil
	})
	group.Go(func() error {
		<-groupCtx.Done()
		close(s.stopping)
		grace, done := context.WithTimeout(base, s.cfg.Grace)
		defer done()
		unused.closeAll()
		var stop errgroup.Group
		for _, srv := range servers {
			stop.Go(func() error {
				if err := srv.Shutdown(grace); err != nil {
					cancel(errors.New("the API server is stopping"))
					return srv.Close()
				}
				return nil
			})
		}
		if err := stop.Wait(); err != nil {
			s.log.Warn("connections cut at the end", "error", err)
		}
		cancel(errors.New("the API server has stopped"))
		return nil
	})
	return group.Wait()
}

// serveHTTP is the one way into the server.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.recoverPanic(w, r)
	if err := s.serve(w, r); err != nil {
		s.writeError(w, r, err)
	}
}

// recoverPanic turns a panic into a 500. Where the answer has begun (its type is set then), the
// connection is broken off instead, so that nobody takes half an answer for a whole one.
func (s *Server) recoverPanic(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p) // net/http ends the connection in silence
	}
	s.log.ErrorContext(r.Context(), "panic in a request", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if w.Header().Get("Content-Type") != "" {
		panic(http.ErrAbortHandler)
	}
	s.writeError(w, r, apierrors.NewInternalError(errors.New("this request caused an error in the server, which has logged it")))
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	deepen()
	info := parseRequest(r)
	user, ok, err := s.cfg.Authenticator.Authenticate(r)
	if err != nil || !ok || user == nil {
		s.log.DebugContext(r.Context(), "not authenticated", "path", r.URL.Path, "error", err)
		return apierrors.NewUnauthorized("Unauthorized")
	}
	if user, err = s.impersonate(r, user); err != nil {
		return err
	}
	r = r.WithContext(authn.WithUser(r.Context(), user))
	attributes := info.attributes(user)
	if info.verb == "list" || info.verb == "watch" || info.verb == "deletecollection" {
		if name := selectedName(r.URL.Query().Get("fieldSelector")); name != "" && attributes.Name == "" {
			attributes.Name = name
		}
	}
	allowed, reason, err := s.cfg.Authorizer.Authorize(r.Context(), attributes)
	if !allowed {
		if err != nil {
			s.log.WarnContext(r.Context(), "authorization is incomplete", "path", r.URL.Path, "error", err)
		}
		return authz.Forbidden(attributes, reason)
	}
	if !info.resourceRequest {
		return s.servePath(w, r)
	}
	return s.serveResource(w, r, info, user)
}

// deepen has the goroutine's stack grow once, while there is little on it. Every request has a goroutine of its own, and what
// creates an object goes deep: doubling the stack on the way there, and copying it each time, took one twentieth of all.
//
//go:noinline
func deepen() {
	var room [24 << 10]byte
	runtime.KeepAlive(&room)
}
