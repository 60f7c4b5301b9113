package podroutes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Config says whose routes to keep.
type Config struct {
	Client kubernetes.Interface // lists and watches Nodes
	Name   string               // the cluster's
	Node   string               // this node's
	// PodCIDR is the network of this node's own pods.
	PodCIDR netip.Prefix
	Logger  *slog.Logger // nil discards
}

// Routes keeps the ways to the pods of other nodes. Make it with New, then Run it.
type Routes struct {
	cfg   Config
	ready chan struct{}
}

// repairEvery is how often the routes are compared with what they should be: somebody may have removed one, and
// links come and go.
const repairEvery = 10 * time.Second

// New checks the config. It starts nothing.
func New(cfg Config) (*Routes, error) {
	switch {
	case cfg.Client == nil:
		return nil, errors.New("podroutes: Config.Client is nil")
	case cfg.Name == "" || cfg.Node == "":
		return nil, errors.New("podroutes: Config.Name and Config.Node are needed")
	case !cfg.PodCIDR.IsValid() || !cfg.PodCIDR.Addr().Is4():
		return nil, fmt.Errorf("podroutes: Config.PodCIDR %v is no IPv4 network", cfg.PodCIDR)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Routes{cfg: cfg, ready: make(chan struct{})}, nil
}

// Ready is closed once the routes to all nodes that are known are there.
func (r *Routes) Ready() <-chan struct{} { return r.ready }

// Run follows the Nodes until ctx ends. The routes stay, since the pods do: see Teardown.
func (r *Routes) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactory(r.cfg.Client, 0)
	defer factory.Shutdown()
	nodes := factory.Core().V1().Nodes()
	changed := make(chan struct{}, 1)
	note := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	_, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: note, DeleteFunc: note, UpdateFunc: func(_, n any) { note(n) },
	})
	if err != nil {
		return fmt.Errorf("podroutes: watch nodes: %w", err)
	}
	// The factory's informers end with this context, before Run returns.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), nodes.Informer().HasSynced) {
		return nil
	}
	tick := time.NewTicker(repairEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		list, err := nodes.Lister().List(labels.Everything())
		if err == nil {
			err = r.apply(list)
		}
		if err != nil {
			r.cfg.Logger.Warn("the ways to other nodes' pods are not all there; trying again", "error", err)
		}
		if first {
			close(r.ready)
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *Routes) apply(nodes []*corev1.Node) error {
	links, err := machineNetworks()
	if err != nil {
		return err
	}
	return program(r.cfg, peersOf(r.cfg.Node, nodes, links))
}

// Teardown removes the routes and the tunnel. Run must have ended. Idempotent.
func (r *Routes) Teardown() error { return teardown(r.cfg) }
