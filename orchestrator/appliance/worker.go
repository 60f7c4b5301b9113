package appliance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/pintle/pintle/internal/nodelink"
	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/cluster"
)

// worker is this appliance's side of a control plane that runs elsewhere.
type worker struct {
	cfg  Config
	node *cluster.Node // from joined on

	once   sync.Once
	joined chan struct{}
}

// refreshServers is how often a worker asks which members the control plane has.
const refreshServers = 3 * time.Second

func (w *worker) ready() chan struct{} {
	w.once.Do(func() { w.joined = make(chan struct{}) })
	return w.joined
}

// run joins, and then keeps the certificates and the list of servers fresh until ctx ends.
func (w *worker) run(ctx context.Context) error {
	joined := w.ready()
	node, err := cluster.NewNode(ctx, cluster.NodeConfig{
		Name: w.cfg.Node, Dir: filepath.Join(w.cfg.DataDir, "node", "pki"), Token: w.cfg.Join.Token,
		Servers: cluster.NewServers(w.cfg.Join.Addresses), Logger: w.cfg.Logger.With("part", "worker"),
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("appliance: %w", err)
	}
	w.node = node
	close(joined)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { _ = node.Run(ctx) })
	w.learnServers(ctx)
	return nil
}

// learnServers follows the Member objects, so that a worker outlives the members that it began with.
func (w *worker) learnServers(ctx context.Context) {
	client, err := dynamic.NewForConfig(w.node.AgentConfig())
	if err != nil {
		w.cfg.Logger.Warn("the members of the control plane can't be learned", "error", err)
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(refreshServers)
	defer tick.Stop()
	for {
		if addresses, err := memberAddresses(ctx, client); err == nil {
			w.node.Servers().Set(addresses)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func memberAddresses(ctx context.Context, client dynamic.Interface) (addresses []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, refreshServers)
	defer cancel()
	list, err := client.Resource(api.ClusterGroupVersion().WithResource("members")).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, m := range list.Items {
		if address, _, _ := unstructured.NestedString(m.Object, "status", "address"); address != "" && m.GetDeletionTimestamp() == nil {
			addresses = append(addresses, address)
		}
	}
	return addresses, nil
}

// controlReady is closed once there is a control plane to talk to.
func (a *Appliance) controlReady() <-chan struct{} {
	if a.worker != nil {
		return a.worker.ready()
	}
	return a.current().Ready()
}

// link lets the servers reach this node, until ctx ends. A member's own server reaches it in memory.
func (a *Appliance) link(ctx context.Context) error {
	if a.worker == nil {
		return a.linkToMembers(ctx)
	}
	link := nodelink.New(nodelink.Config{Servers: a.worker.node.Servers().Addresses, Dial: a.worker.node.DialServer,
		Logger: a.cfg.Logger.With("part", "nodelink")})
	server := &http.Server{Handler: a.nodeHandler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(link) }()
	err := link.Run(ctx)
	_ = server.Close()
	if serveErr := <-served; err == nil && ctx.Err() == nil && !errors.Is(serveErr, http.ErrServerClosed) && !errors.Is(serveErr, net.ErrClosed) {
		err = fmt.Errorf("appliance: node link: %w", serveErr)
	}
	return err
}

// linkToMembers does so for each control plane that this appliance runs, one after the other.
func (a *Appliance) linkToMembers(ctx context.Context) error {
	for ctx.Err() == nil {
		a.mu.Lock()
		control, changed := a.control, a.changed
		a.mu.Unlock()
		linkCtx, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			select {
			case <-control.Ready():
				if err := control.LinkNode(linkCtx, a.cfg.Node, a.nodeHandler()); err != nil && linkCtx.Err() == nil {
					a.cfg.Logger.Warn("other members don't reach this node", "error", err)
				}
			case <-linkCtx.Done():
			}
		}()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		stop()
		<-ended
	}
	return nil
}

func errWorker(what string) error {
	return fmt.Errorf("appliance: a worker can't %s: ask a member of the control plane (Config.Worker is set)", what)
}

func refusedConfig() *rest.Config {
	return &rest.Config{Host: "http://worker.invalid", Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errWorker("use the API as somebody")
	}}
}
