package appliance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/pintle/pintle/internal/memnet"
	"github.com/pintle/pintle/netproxy"
	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/runtime"
)

// Appliance is the whole product on this machine. Make one with New, then Run it. Methods are safe
// for concurrent use.
type Appliance struct {
	cfg     Config
	engines *engines
	agent   *runtime.Agent
	proxy   *netproxy.Proxy
	node    *memnet.Listener // the agent's handler, for the API server
	http    net.Listener
	https   net.Listener
	ready   chan struct{}

	restarts chan chan error // requests to restart the control plane

	// mu guards the control plane that runs now.
	mu      sync.Mutex
	control *orchestrator.Orchestrator
	changed chan struct{} // closed when control is replaced
}

// New checks the config, chooses the engine and opens the ingress's ports. It starts nothing.
func New(cfg Config) (*Appliance, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg, err = chooseNetworks(cfg); err != nil {
		return nil, err
	}
	a := &Appliance{cfg: cfg, node: memnet.Listen(), ready: make(chan struct{}), restarts: make(chan chan error)}
	if a.engines, err = chooseEngines(cfg); err != nil {
		return nil, err
	}
	if err := a.newControlPlane(); err != nil {
		return nil, err
	}
	httpAddress, httpsAddress := cfg.ingressAddresses(a.engines.wasmOnly())
	if a.http, err = listen(httpAddress); err != nil {
		return nil, err
	}
	if a.https, err = listen(httpsAddress); err != nil {
		a.http.Close()
		return nil, err
	}
	if err := a.newNode(); err != nil {
		a.http.Close()
		a.https.Close()
		return nil, err
	}
	return a, nil
}

// newControlPlane makes the control plane that runs next, on the same folder and port.
func (a *Appliance) newControlPlane() error {
	cfg := orchestrator.Config{
		Name: a.cfg.Name, DataDir: a.cfg.DataDir, Address: a.cfg.Address, ServiceCIDR: a.cfg.ServiceCIDR,
		DialNode: func(ctx context.Context, node string) (net.Conn, error) {
			if node != a.cfg.Node {
				return nil, fmt.Errorf("node %q is not this machine", node)
			}
			return a.node.Dial(ctx, nil)
		},
		KeyProvider: a.cfg.KeyProvider, Backups: a.cfg.Backups,
		Admission: a.cfg.Admission, Policy: a.cfg.Policy, Logger: a.cfg.Logger,
	}
	if !a.engines.wasmOnly() {
		// The bridge's address, the first of the pods' network: pods and the host reach it alike.
		cfg.Advertise = netip.AddrPortFrom(a.cfg.PodCIDR.Masked().Addr().Next(), 0)
	}
	if addr := a.apiAddr(); addr != nil {
		cfg.Address = addr.String() // a restart keeps the port, so that kubeconfigs stay good
	}
	control, err := orchestrator.New(cfg)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.control = control
	if a.changed != nil {
		close(a.changed)
	}
	a.changed = make(chan struct{})
	return nil
}

func (a *Appliance) apiAddr() net.Addr {
	if control := a.current(); control != nil {
		return control.Addr()
	}
	return nil
}

func (a *Appliance) current() *orchestrator.Orchestrator {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.control
}

// newNode makes the agent and the proxy. They outlive restarts of the control plane.
func (a *Appliance) newNode() error {
	agentClient, err := kubernetes.NewForConfig(a.restConfigAs("system:node:"+a.cfg.Node, "system:nodes"))
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	proxyClient, err := kubernetes.NewForConfig(a.restConfigAs("system:kube-proxy"))
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	mode := netproxy.NFT
	dnsAddress := ""
	if a.engines.wasmOnly() {
		mode, dnsAddress = netproxy.Userspace, "127.0.0.1:0"
	}
	a.proxy, err = netproxy.New(netproxy.Config{
		Client: proxyClient, Name: a.cfg.Name, NodeName: a.cfg.Node, Mode: mode,
		ServiceCIDRs: []netip.Prefix{a.cfg.ServiceCIDR}, PodCIDRs: []netip.Prefix{a.cfg.PodCIDR},
		DNSServiceIP: a.cfg.dnsServiceIP(), DNSAddress: dnsAddress, KeepRules: true,
		Ingress: netproxy.IngressConfig{HTTP: []net.Listener{a.http}, HTTPS: []net.Listener{a.https}},
		Logger:  a.cfg.Logger.With("part", "netproxy"), Metrics: a.cfg.Metrics,
	})
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	a.agent, err = runtime.New(runtime.Config{
		Client: agentClient, NodeName: a.cfg.Node, DataDir: filepath.Join(a.cfg.DataDir, "node"), Engines: a.engines.all,
		Devices: a.cfg.Devices, Drainer: a.proxy, ClusterDNS: []string{a.cfg.dnsServiceIP().String()}, PodCIDR: a.cfg.PodCIDR.String(),
		Logger: a.cfg.Logger.With("part", "agent"), Metrics: a.cfg.Metrics,
	})
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	return nil
}

// Choice says in one line which engine and data plane were chosen, and why.
func (a *Appliance) Choice() string { return a.engines.choice }

// Wasm says whether pods are WASI modules in process: images must hold such modules then.
func (a *Appliance) Wasm() bool { return a.engines.wasmOnly() }

// Ready is closed once the API serves, the node is registered and Services are programmed.
func (a *Appliance) Ready() <-chan struct{} { return a.ready }

// Run works until ctx ends, and returns when everything in this process has ended. Containers run on;
// see Teardown. It may be called once.
func (a *Appliance) Run(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	// The control plane ends last: the others' last words go to it.
	controlCtx, stopControl := context.WithCancel(context.WithoutCancel(ctx))
	defer stopControl()
	controlEnded := make(chan error, 1)
	go func() { controlEnded <- a.runControlPlane(controlCtx) }()

	server := &http.Server{Handler: a.agent.Handler(), ReadHeaderTimeout: 10 * time.Second}
	group.Go(func() error {
		if err := server.Serve(a.node); err != nil && !errors.Is(err, http.ErrServerClosed) && groupCtx.Err() == nil {
			return fmt.Errorf("appliance: node API: %w", err)
		}
		return nil
	})
	group.Go(func() error { return wrap("node agent", a.agent.Run(groupCtx), groupCtx) })
	group.Go(func() error { return wrap("proxy", a.proxy.Run(groupCtx), groupCtx) })
	group.Go(func() error {
		for _, part := range []<-chan struct{}{a.current().Ready(), a.agent.Ready(), a.proxy.Ready()} {
			select {
			case <-part:
			case <-groupCtx.Done():
				return nil
			}
		}
		if err := a.createClasses(groupCtx); err != nil {
			if groupCtx.Err() != nil {
				return nil
			}
			return err
		}
		close(a.ready)
		return nil
	})
	group.Go(func() error {
		select {
		case err := <-controlEnded:
			controlEnded <- err
			if err == nil && groupCtx.Err() == nil {
				err = errors.New("appliance: the control plane ended by itself")
			}
			return err
		case <-groupCtx.Done():
		}
		return server.Close()
	})
	err := group.Wait()
	stopControl()
	return errors.Join(err, <-controlEnded)
}

func wrap(part string, err error, ctx context.Context) error {
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled):
		return nil
	case err != nil:
		return fmt.Errorf("appliance: %s: %w", part, err)
	case ctx.Err() == nil:
		return fmt.Errorf("appliance: %s ended by itself", part)
	}
	return nil
}

// runControlPlane runs one control plane after another until ctx ends.
func (a *Appliance) runControlPlane(ctx context.Context) error {
	for {
		runCtx, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		control := a.current()
		go func() { ended <- control.Run(runCtx) }()
		select {
		case err := <-ended:
			stop()
			return err
		case done := <-a.restarts:
			stop()
			err := <-ended
			if err == nil {
				err = a.newControlPlane()
			}
			done <- err
			if err != nil {
				return err
			}
		}
	}
}

// RestartControlPlane ends the API server, the scheduler, the controllers and the store and starts
// them again from the data folder. Containers, Services and the ingress go on meanwhile. It returns
// when the new control plane is ready.
func (a *Appliance) RestartControlPlane(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case a.restarts <- done:
	case <-ctx.Done():
		return fmt.Errorf("appliance: the control plane doesn't run: %w", context.Cause(ctx))
	}
	if err := <-done; err != nil {
		return err
	}
	select {
	case <-a.current().Ready():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("appliance: the new control plane is not ready: %w", context.Cause(ctx))
	}
}

// Teardown takes everything off the host that the appliance made there: containers, networks, rules,
// the private containerd. Call it after Run has returned. What lies in DataDir stays. Idempotent.
func (a *Appliance) Teardown(ctx context.Context) error {
	return errors.Join(a.engines.teardown(ctx), a.proxy.Teardown())
}

// RESTConfig is orchestrator.Orchestrator's, and survives restarts of the control plane.
func (a *Appliance) RESTConfig() *rest.Config {
	return a.restConfigAs(orchestrator.Admin, "system:masters")
}

func (a *Appliance) restConfigAs(user string, groups ...string) *rest.Config {
	cfg := a.current().RESTConfigAs(user, groups...)
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return a.current().RESTConfigAs(user, groups...).Dial(ctx, network, address)
	}
	return cfg
}

// Kubeconfig is a cluster-admin's, for kubectl on this machine.
func (a *Appliance) Kubeconfig() ([]byte, error) { return a.current().Kubeconfig() }

// ImportImages loads an OCI or Docker archive into the store of the engine that can run it.
func (a *Appliance) ImportImages(ctx context.Context, archive io.Reader) error {
	_, err := a.engines.all[0].ImportImages(ctx, archive)
	if err != nil {
		return fmt.Errorf("appliance: import images: %w", err)
	}
	return nil
}

// KillContainer kills a container as if it had crashed. id is as in a pod's status,
// "containerd://…".
func (a *Appliance) KillContainer(ctx context.Context, id string) error {
	name, id, ok := strings.Cut(id, "://")
	if !ok {
		return fmt.Errorf("appliance: container id %q: want ENGINE://ID, as in a pod's status", name)
	}
	engine, err := a.engines.named(name)
	if err != nil {
		return err
	}
	return engine.SignalContainer(ctx, id, "SIGKILL")
}

// HTTPSAddress is where this machine reaches the ingress over TLS.
func (a *Appliance) HTTPSAddress() string { return local(a.https) }

// HTTPAddress is where this machine reaches the ingress without.
func (a *Appliance) HTTPAddress() string { return local(a.http) }

func local(l net.Listener) string {
	host, port, err := net.SplitHostPort(l.Addr().String())
	if ip := net.ParseIP(host); err == nil && (ip == nil || ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return l.Addr().String()
}

// StandIn is where a Service's "IP:port" is reached from this machine: itself with nftables, a loopback
// address in user space, "" while there is none.
func (a *Appliance) StandIn(address string) string {
	if !a.engines.wasmOnly() {
		return address
	}
	for _, m := range a.proxy.Mapping() {
		if m.Address.String() == address {
			return m.StandIn.String()
		}
	}
	return ""
}

// DNSAddress is where the cluster's DNS answers on this machine.
func (a *Appliance) DNSAddress() string {
	address := net.JoinHostPort(a.cfg.dnsServiceIP().String(), "53")
	if standIn := a.StandIn(address); standIn != "" {
		return standIn
	}
	return address
}
