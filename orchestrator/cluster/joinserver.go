package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// ServeJoin answers joining machines on listener, a Port's for ProtocolJoin, until ctx ends.
func ServeJoin(ctx context.Context, listener net.Listener, host Host, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	server := &http.Server{
		Handler: newJoinHandler(host, log), ReadHeaderTimeout: handshakeTimeout, ReadTimeout: joinTimeout, IdleTimeout: joinTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if c, ok := conn.(httpConn); ok {
				return context.WithValue(ctx, callerKey{}, c.caller)
			}
			return ctx
		},
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(httpListener{listener})
	if !stop() {
		<-ended
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		return fmt.Errorf("serve joins: %w", err)
	}
	return nil
}

type callerKey struct{}

// httpListener hides that connections are TLS: net/http drops those whose protocol it doesn't know.
type httpListener struct{ net.Listener }

type httpConn struct {
	net.Conn
	caller *x509.Certificate // nil: showed none
}

func (l httpListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := httpConn{Conn: conn}
	if t, ok := conn.(*tls.Conn); ok {
		if chains := t.ConnectionState().VerifiedChains; len(chains) > 0 {
			c.caller = chains[0][0]
		}
	}
	return c, nil
}

// subject is the name in the client's verified certificate; "" without one.
func subject(r *http.Request) string {
	if caller, ok := r.Context().Value(callerKey{}).(*x509.Certificate); ok && caller != nil {
		return caller.Subject.CommonName
	}
	return ""
}
