package nodeproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// dialTimeout bounds DialNode: a node that is gone must not hold a client.
	dialTimeout = 10 * time.Second
	// maxErrorText is how much of an agent's error is repeated to the client, in bytes.
	maxErrorText = 10 << 10
)

// Config is what a Proxy needs.
type Config struct {
	// DialNode connects to the agent of a node, which speaks HTTP/1.1 on the connection. An error
	// says that the node can't be reached now.
	DialNode func(ctx context.Context, node string) (net.Conn, error)
	// Pod and Node read one object; a missing one is an apierrors NotFound. What they return is
	// not changed.
	Pod    func(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Node   func(ctx context.Context, name string) (*corev1.Node, error)
	Logger *slog.Logger // nil discards
}

// Proxy forwards requests to agents.
type Proxy struct {
	cfg       Config
	transport *http.Transport
	logger    *slog.Logger
}

// New checks the configuration. It starts nothing.
func New(cfg Config) (*Proxy, error) {
	if cfg.DialNode == nil || cfg.Pod == nil || cfg.Node == nil {
		return nil, errors.New("nodeproxy: DialNode, Pod and Node are needed")
	}
	p := &Proxy{cfg: cfg, logger: cfg.Logger}
	if p.logger == nil {
		p.logger = slog.New(slog.DiscardHandler)
	}
	p.transport = &http.Transport{
		DisableKeepAlives:  true, // one connection per request: nothing to leak, nothing to find stale
		DisableCompression: true, // bytes pass as they are
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			conn, err := cfg.DialNode(ctx, node)
			if err != nil {
				return nil, &unreachableError{node: node, err: err}
			}
			return conn, nil
		},
	}
	return p, nil
}

// ServePod serves pods/{name}/{subresource} for log, exec, attach and portforward. The caller has
// authorized the request. An error is an apierrors status for the caller to write: nothing has
// been written then. Once the answer has begun the result is nil, or the handler ends with
// http.ErrAbortHandler, as httputil's does, when the agent broke off in the middle.
func (p *Proxy) ServePod(w http.ResponseWriter, r *http.Request, namespace, name, subresource string) error {
	pod, err := p.cfg.Pod(r.Context(), namespace, name)
	if err != nil {
		return err
	}
	t, err := podTarget(pod, subresource, r.URL.Query())
	if err != nil {
		return err
	}
	if t.node == "" {
		// A pod that isn't scheduled has no logs yet: an empty answer, as Kubernetes gives.
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	return p.forward(w, r, t, schema.GroupResource{Resource: "pods/" + subresource}, name)
}

// ServeNode serves nodes/{name}/proxy/{path}. path is what follows "proxy", escaped as it came.
// Errors are as ServePod's.
func (p *Proxy) ServeNode(w http.ResponseWriter, r *http.Request, name, path string) error {
	node, err := p.cfg.Node(r.Context(), name)
	if err != nil {
		return err
	}
	u, err := url.Parse("/" + strings.TrimLeft(path, "/"))
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("node proxy path: %v", err))
	}
	t := target{node: node.Name, path: u.Path, rawPath: u.RawPath, query: r.URL.Query()}
	return p.forward(w, r, t, schema.GroupResource{Resource: "nodes/proxy"}, name)
}

// target is where a request goes.
type target struct {
	node          string
	path, rawPath string
	query         url.Values
}

func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, t target, gr schema.GroupResource, name string) error {
	var failed error
	reverse := &httputil.ReverseProxy{
		Transport:     p.transport,
		FlushInterval: -1, // followed logs appear as they are written
		ErrorLog:      slog.NewLogLogger(p.logger.Handler(), slog.LevelDebug),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL = &url.URL{Scheme: "http", Host: net.JoinHostPort(t.node, "10250"), Path: t.path, RawPath: t.rawPath, RawQuery: t.query.Encode()}
			pr.Out.Host = t.node
			stripCredentials(pr.Out.Header)
		},
		ModifyResponse: func(resp *http.Response) error {
			if resp.StatusCode < 400 || strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
				return nil
			}
			text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorText))
			return statusOf(resp.StatusCode, strings.TrimSpace(string(text)), gr, name)
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	}
	reverse.ServeHTTP(w, r)
	if failed == nil {
		return nil
	}
	var unreachable *unreachableError
	var status apierrors.APIStatus
	switch {
	case errors.As(failed, &status):
		return failed
	case errors.As(failed, &unreachable):
		p.logger.Warn("node can't be reached", "node", t.node, "error", unreachable.err)
		return apierrors.NewInternalError(fmt.Errorf("error dialing backend: %w", unreachable))
	case r.Context().Err() != nil:
		return apierrors.NewTimeoutError("the client went away", 0)
	default:
		return apierrors.NewInternalError(fmt.Errorf("request to node %s: %w", t.node, failed))
	}
}

// stripCredentials keeps the caller's credentials from the node: the agent trusts the API server
// that dialled it, and has no business knowing them.
func stripCredentials(h http.Header) {
	h.Del("Authorization")
	h.Del("Cookie")
	for key := range h {
		if strings.HasPrefix(key, "Impersonate-") {
			delete(h, key)
		}
	}
	const bearer = "base64url.bearer.authorization.k8s.io."
	if values := h.Values("Sec-Websocket-Protocol"); len(values) > 0 {
		var keep []string
		for _, protocol := range strings.Split(strings.Join(values, ","), ",") {
			if protocol = strings.TrimSpace(protocol); !strings.HasPrefix(protocol, bearer) {
				keep = append(keep, protocol)
			}
		}
		h.Set("Sec-Websocket-Protocol", strings.Join(keep, ", "))
	}
}

func statusOf(code int, text string, gr schema.GroupResource, name string) error {
	switch code {
	case http.StatusBadRequest:
		return apierrors.NewBadRequest(text)
	case http.StatusInternalServerError:
		return apierrors.NewInternalError(errors.New(text))
	}
	return apierrors.NewGenericServerResponse(code, "", gr, name, text, 0, false)
}

type unreachableError struct {
	node string
	err  error
}

func (e *unreachableError) Error() string { return fmt.Sprintf("dial node %s: %v", e.node, e.err) }
func (e *unreachableError) Unwrap() error { return e.err }
