package nodeapi

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

const (
	portForwardV1 = "portforward.k8s.io"
	tunnelV1      = "SPDY/3.1+portforward.k8s.io" // SPDY inside a WebSocket: kubectl's first choice
)

// forwarder copies between a client's streams and ports of one pod.
type forwarder struct {
	h       *handler
	engine  Engine
	sandbox string
	pod     string
}

func (h *handler) portForward(w http.ResponseWriter, r *http.Request) error {
	namespace, pod, err := h.pod(r)
	if err != nil {
		return err
	}
	sandbox, err := h.cfg.Sandbox(namespace, pod)
	if err != nil {
		return err
	}
	engine, err := h.cfg.Engine(namespace, pod)
	if err != nil {
		return err
	}
	f := &forwarder{h: h, engine: engine, sandbox: sandbox, pod: pod}
	switch {
	case websocket.IsWebSocketUpgrade(r):
		for _, p := range websocket.Subprotocols(r) {
			if p == tunnelV1 {
				return f.tunnel(w, r)
			}
		}
		return f.channels(w, r)
	case httpstream.IsUpgradeRequest(r):
		return f.spdy(w, r)
	}
	return apierrors.NewBadRequest("Upgrade request required")
}

// tunnel serves SPDY inside a WebSocket.
func (f *forwarder) tunnel(w http.ResponseWriter, r *http.Request) error {
	up := websocket.Upgrader{Subprotocols: []string{tunnelV1}, CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return nil // it is answered
	}
	p := newPairs()
	conn, err := spdy.NewServerConnection(portforward.NewTunnelingConnectionWithLogger(logr.Discard(), ws), p.arrived)
	if err != nil {
		_ = ws.Close()
		return nil
	}
	f.serve(r.Context(), conn, p)
	return nil
}

func (f *forwarder) spdy(w http.ResponseWriter, r *http.Request) error {
	if _, err := httpstream.Handshake(r, w, []string{portForwardV1}); err != nil {
		return nil // it is answered
	}
	p := newPairs()
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, p.arrived)
	if conn != nil {
		f.serve(r.Context(), conn, p)
	}
	return nil
}

// pairs joins the data stream of a connection with its error stream.
type pairs struct {
	complete chan pair
	done     chan struct{}

	mu   sync.Mutex
	half map[string]httpstream.Stream
}

type pair struct {
	port        uint16
	data, error httpstream.Stream
}

func newPairs() *pairs {
	return &pairs{complete: make(chan pair), done: make(chan struct{}), half: map[string]httpstream.Stream{}}
}

// arrived takes a new stream. A stream that makes no sense is reset here, because an error would
// be written to the host's stderr.
func (p *pairs) arrived(s httpstream.Stream, _ <-chan struct{}) error {
	kind := s.Headers().Get("streamType")
	port, err := strconv.ParseUint(s.Headers().Get("port"), 10, 16)
	if err != nil || port == 0 || kind != "data" && kind != "error" {
		go func() { _ = s.Reset() }()
		return nil
	}
	id := s.Headers().Get("requestID")
	if id == "" { // old clients: the error stream comes first, then data with the next number
		n := s.Identifier()
		if kind == "data" {
			n -= 2
		}
		id = "#" + strconv.FormatUint(uint64(n), 10)
	}
	p.mu.Lock()
	other, ok := p.half[id]
	if !ok {
		p.half[id] = s
		p.mu.Unlock()
		time.AfterFunc(creationTimeout, func() {
			p.mu.Lock()
			late := p.half[id] == s
			if late {
				delete(p.half, id)
			}
			p.mu.Unlock()
			if late {
				_ = s.Reset()
			}
		})
		return nil
	}
	delete(p.half, id)
	p.mu.Unlock()
	c := pair{port: uint16(port), data: s, error: other}
	if kind == "error" {
		c.data, c.error = other, s
	}
	go func() { // the connection's loop must not wait
		select {
		case p.complete <- c:
		case <-p.done:
		}
	}()
	return nil
}

// serve forwards until the client's connection ends.
func (f *forwarder) serve(ctx context.Context, conn httpstream.Connection, p *pairs) {
	conn.SetIdleTimeout(idleTimeout)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(p.done)
	defer conn.Close()
	defer cancel()
	for {
		select {
		case <-conn.CloseChan():
			return
		case <-ctx.Done():
			return
		case c := <-p.complete:
			wg.Go(func() {
				defer conn.RemoveStreams(c.data, c.error)
				defer c.error.Close()
				defer c.data.Close()
				f.forward(ctx, c.port, c.data, c.error)
			})
		}
	}
}

// channels serves the older WebSocket protocol: for each port of the query a channel of data and
// one of errors, each beginning with the port.
func (f *forwarder) channels(w http.ResponseWriter, r *http.Request) error {
	var ports []uint16
	for _, v := range r.URL.Query()["port"] {
		for _, s := range strings.Split(v, ",") {
			n, err := strconv.ParseUint(s, 10, 16)
			if err != nil || n == 0 {
				return apierrors.NewBadRequest(fmt.Sprintf("unable to parse %q as a port", s))
			}
			ports = append(ports, uint16(n))
		}
	}
	if len(ports) == 0 || len(ports) > 64 {
		return apierrors.NewBadRequest(`query parameter "port" is required, at most 64 times`)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	m, err := upgrade(w, r, cancel, 2*len(ports), protocolV4, base64V4)
	if err != nil {
		return nil // it is answered
	}
	defer m.close()
	var wg sync.WaitGroup
	for i, port := range ports {
		data, errs := m.channel(2*i), m.channel(2*i+1)
		for _, c := range []io.Writer{data, errs} {
			if _, err := c.Write(binary.LittleEndian.AppendUint16(nil, port)); err != nil {
				return nil
			}
		}
		wg.Go(func() { f.forward(ctx, port, data, errs) })
	}
	wg.Wait()
	return nil
}

// forward copies one connection. The pod's end of output ends it; the client's end is passed on, and
// the pod may still answer.
func (f *forwarder) forward(ctx context.Context, port uint16, data io.ReadWriteCloser, errs io.Writer) {
	conn, err := f.engine.Dial(ctx, f.sandbox, port)
	if err != nil {
		if ctx.Err() == nil {
			fmt.Fprintf(errs, "error forwarding port %d to pod %s, uid : %v", port, f.sandbox, err)
		}
		return
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := io.Copy(conn, data)
		half, ok := conn.(interface{ CloseWrite() error })
		if err == nil && ok {
			_ = half.CloseWrite()
		} else {
			conn.Close()
		}
	})
	if _, err := io.Copy(data, conn); err != nil && ctx.Err() == nil {
		f.h.log.Debug("port-forward", "pod", f.pod, "port", port, "error", err)
	}
	conn.Close()
	// The reader of data ends when its stream does; the stream is closed by whoever waits for us.
	if r, ok := data.(httpstream.Stream); ok {
		_ = r.Close()
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-ctx.Done():
		case <-time.After(time.Second): // a client that doesn't close its end
			_ = r.Reset()
			<-done
		}
		return
	}
	data.Close()
	wg.Wait()
}
