package orchestrator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/pintle/pintle/orchestrator/cluster"
)

// serveNodes takes the connections that nodes dial, over which this member reaches their agents.
func (p *parts) serveNodes(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = p.nodes.Close() })()
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		conn, err := p.nodes.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				<-ctx.Done() // the port is ending, and with it everything else
				return nil
			}
			return err
		}
		node := nodeOf(conn)
		if node == "" {
			_ = conn.Close()
			continue
		}
		serving.Go(func() {
			if err := p.switched.Serve(ctx, node, conn); err != nil {
				p.cfg.Logger.Debug("a node's connection ended", "node", node, "error", err)
			}
		})
	}
}

// nodeOf is the node whose verified certificate the connection has shown.
func nodeOf(conn net.Conn) string {
	t, ok := conn.(*tls.Conn)
	if !ok {
		return ""
	}
	chains := t.ConnectionState().VerifiedChains
	if len(chains) == 0 {
		return ""
	}
	subject := chains[0][0].Subject
	return cluster.NodeName(subject.CommonName, subject.Organization)
}

// dialNode reaches a node's agent: over the connection that the node keeps here, or the way of the program that
// embeds this one, which knows the node in its own process.
func (p *parts) dialNode(ctx context.Context, node string) (net.Conn, error) {
	if p.cfg.DialNode == nil || p.switched.Connected(node) {
		return p.switched.Dial(ctx, node)
	}
	conn, err := p.cfg.DialNode(ctx, node)
	if err != nil {
		return nil, fmt.Errorf("%w, and has no connection here", err)
	}
	return conn, nil
}
