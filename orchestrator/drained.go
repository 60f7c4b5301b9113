package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/registry"
)

// DrainedPath, followed by an IP address, is what a node's agent answers with 200 once its proxy and its
// ingress send no new connection to the address.
const DrainedPath = "/drained/"

// Drained returns once no node's proxy sends new connections to address, or when ctx ends. Nodes that have no
// connection to this member are not asked: they are gone, or would be too late. Nothing is stored.
func (o *Orchestrator) Drained(ctx context.Context, address netip.Addr) error {
	p := o.running()
	if p == nil {
		return errors.New("orchestrator: drained: Run has not begun or has ended")
	}
	return p.drained(ctx, address)
}

// Drained is for nodes elsewhere.
func (h joinHost) Drained(ctx context.Context, address netip.Addr) error {
	return h.drained(ctx, address)
}

func (p *parts) drained(ctx context.Context, address netip.Addr) error {
	nodes, err := p.registry.List(ctx, corev1.SchemeGroupVersion.WithResource("nodes"), "", registry.ListOptions{})
	if err != nil {
		return fmt.Errorf("orchestrator: drained: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, entry := range nodes.Entries {
		node := entry.Object().GetName()
		group.Go(func() error { return p.drainedOn(ctx, node, address) })
	}
	return group.Wait()
}

func (p *parts) drainedOn(ctx context.Context, node string, address netip.Addr) error {
	conn, err := p.dialNode(ctx, node)
	if err != nil {
		return ctx.Err() // it is not here to be asked
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://node"+DrainedPath+address.String(), nil)
	if err != nil {
		_ = conn.Close()
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		_ = conn.Close()
		return ctx.Err() // it went away meanwhile
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("orchestrator: drained: node %s answers %s", node, response.Status)
	}
	return nil
}
