package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/pintle/pintle/internal/nodelink"
	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/cluster"
	"github.com/pintle/pintle/orchestrator/registry"
)

// LinkNode lets the other members reach the agent of the node that this process runs, whose requests handler
// serves: it keeps a connection to each of them, as nodes on other machines do, until ctx ends. This member
// itself takes Config.DialNode. It needs the port; without one it only waits.
func (o *Orchestrator) LinkNode(ctx context.Context, node string, handler http.Handler) error {
	p := o.running()
	if p == nil {
		return errors.New("orchestrator: link node: Run has not begun or has ended")
	}
	if p.port == nil {
		<-ctx.Done()
		return nil
	}
	certificate := p.identity.ca.Rotating(cluster.NodeRequest(node))
	link := nodelink.New(nodelink.Config{
		Servers: p.otherMembers,
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return cluster.DialAsNode(ctx, address, p.identity.ca.Pool(), certificate, p.cfg.Clock.Now)
		},
		Logger: p.cfg.Logger.With("part", "nodelink"),
	})
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(link) }()
	err := link.Run(ctx)
	_ = server.Close()
	if serveErr := <-served; err == nil && !errors.Is(serveErr, http.ErrServerClosed) && ctx.Err() == nil {
		err = fmt.Errorf("orchestrator: link node: %w", serveErr)
	}
	return err
}

// otherMembers are the addresses of all members but this one.
func (p *parts) otherMembers() (addresses []string) {
	members, err := p.registry.List(context.Background(), membersGVR(), "", registry.ListOptions{})
	if err != nil {
		return nil // the next look is a second away
	}
	for _, entry := range members.Entries {
		m := entry.Object().(*api.Member)
		if m.Name != p.membership.Member && m.Status.Address != "" && m.DeletionTimestamp == nil {
			addresses = append(addresses, m.Status.Address)
		}
	}
	return addresses
}
