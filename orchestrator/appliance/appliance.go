package appliance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/pintle/pintle/internal/memnet"
	"github.com/pintle/pintle/internal/scopedmetrics"
	"github.com/pintle/pintle/netproxy"
	"github.com/pintle/pintle/netproxy/podroutes"
	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/cluster"
	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/runtime"
)

// Appliance is the whole product on this machine. Make one with New, then Run it. Methods are safe
// for concurrent use.
type Appliance struct {
	cfg     Config
	cluster string // its name: Config.Name, or what the cluster that was joined is called there
	engines *engines
	agent   *runtime.Agent // these three from New on, or, where networks come from the cluster, while Run runs
	proxy   *netproxy.Proxy
	routes  *podroutes.Routes // nil with the user-space proxy
	worker  *worker           // nil on a member of the control plane
	// policies runs the modules of the control plane; nil on a worker.
	policies *policies.Host
	node     *memnet.Listener // the agent's handler, for the API server
	http     *port
	https    *port
	metrics  *scopedmetrics.Scope
	ready    chan struct{}
	started  atomic.Bool

	restarts chan chan error // requests to restart the control plane

	// mu guards the control plane that runs now.
	mu      sync.Mutex
	control *orchestrator.Orchestrator
	changed chan struct{} // closed when control is replaced
}

// New checks the config and chooses the engine and the networks. It starts nothing, opens no port and
// registers no metric, so that nothing must be undone when Run is never called.
func New(cfg Config) (*Appliance, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg, err = chooseNetworks(cfg); err != nil {
		return nil, err
	}
	a := &Appliance{cfg: cfg, cluster: cfg.Name, node: memnet.Listen(), metrics: scopedmetrics.New(cfg.Metrics), ready: make(chan struct{}), restarts: make(chan chan error)}
	if a.engines, err = chooseEngines(cfg); err != nil {
		return nil, err
	}
	if cfg.Worker {
		a.worker = &worker{cfg: cfg}
	} else {
		if err := a.newPolicies(); err != nil {
			return nil, err
		}
		if err := a.newControlPlane(); err != nil {
			return nil, err
		}
	}
	httpAddress, httpsAddress := cfg.ingressAddresses(a.engines.wasmOnly())
	a.http, a.https = newPort(httpAddress), newPort(httpsAddress)
	if cfg.Join == nil {
		if err := a.newNode(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// newControlPlane makes the control plane that runs next, on the same folder and port.
func (a *Appliance) newControlPlane() error {
	cfg := orchestrator.Config{
		Name: a.cfg.Name, DataDir: a.cfg.DataDir, Address: a.cfg.Address, ServiceCIDR: a.cfg.ServiceCIDR,
		Join: a.cfg.Join, Member: a.cfg.Node, MemberAddress: a.cfg.MemberAddress,
		DialNode: func(ctx context.Context, node string) (net.Conn, error) {
			if node != a.cfg.Node {
				return nil, fmt.Errorf("node %q is not this machine", node)
			}
			return a.node.Dial(ctx, nil)
		},
		KeyProvider: a.cfg.KeyProvider, Backups: a.cfg.Backups,
		Admission: a.cfg.Admission, Policies: a.policies, PolicyImage: a.engines.module, PolicyFiles: a.cfg.PolicyFiles, Policy: a.cfg.Policy,
		HPASync: a.cfg.HPASync, CustomMetrics: a.cfg.CustomMetrics, ExternalMetrics: a.cfg.ExternalMetrics,
		Consolidation: a.cfg.Consolidation,
		Logger:        a.cfg.Logger, Metrics: a.cfg.Metrics,
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

// Choice says in one line which engine and data plane were chosen, and why.
func (a *Appliance) Choice() string { return a.engines.choice }

// Wasm says whether pods are WASI modules in process: images must hold such modules then.
func (a *Appliance) Wasm() bool { return a.engines.wasmOnly() }

// Ready is closed once the API serves, the node is registered and Services are programmed.
func (a *Appliance) Ready() <-chan struct{} { return a.ready }

// Run works until ctx ends, and returns when everything in this process has ended. Containers run on;
// see Teardown. It may be called once; make another Appliance on the same folder to start again.
func (a *Appliance) Run(ctx context.Context) error {
	if a.started.Swap(true) {
		return errors.New("appliance: Run was called before: make a new Appliance")
	}
	defer a.node.Close()
	if err := errors.Join(a.http.open(), a.https.open()); err != nil {
		return errors.Join(err, a.http.Close(), a.https.Close())
	}
	defer func() { _, _ = a.http.Close(), a.https.Close() }() // where the proxy didn't come to it
	if err := a.metrics.Open(); err != nil {
		return fmt.Errorf("appliance: register metrics: %w; where two share a registry, wrap it with a label for each", err)
	}
	defer a.metrics.Close()

	group, groupCtx := errgroup.WithContext(ctx)
	// The control plane ends last: the others' last words go to it.
	controlCtx, stopControl := context.WithCancel(context.WithoutCancel(ctx))
	defer stopControl()
	controlEnded := make(chan error, 1)
	go func() { controlEnded <- a.runControlPlane(controlCtx) }()
	if err := a.meetCluster(ctx, controlEnded); err != nil {
		stopControl()
		return errors.Join(err, <-controlEnded)
	}
	if a.agent == nil { // ctx has ended
		stopControl()
		return <-controlEnded
	}

	server := &http.Server{Handler: a.nodeHandler(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(a.cfg.Logger.With("part", "node API").Handler(), slog.LevelDebug)}
	group.Go(func() error {
		if err := server.Serve(a.node); err != nil && !errors.Is(err, http.ErrServerClosed) && groupCtx.Err() == nil {
			return fmt.Errorf("appliance: node API: %w", err)
		}
		return nil
	})
	group.Go(func() error { return wrap("node agent", a.agent.Run(groupCtx), groupCtx) })
	group.Go(func() error { return wrap("proxy", a.proxy.Run(groupCtx), groupCtx) })
	if a.routes != nil {
		group.Go(func() error { return wrap("routes", a.routes.Run(groupCtx), groupCtx) })
	}
	group.Go(func() error { return a.link(groupCtx) })
	group.Go(func() error {
		for _, part := range []<-chan struct{}{a.controlReady(), a.agent.Ready(), a.proxy.Ready()} {
			select {
			case <-part:
			case <-groupCtx.Done():
				return nil
			}
		}
		if a.worker != nil {
			close(a.ready)
			return nil
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
		<-groupCtx.Done()
		return server.Close()
	})
	group.Go(func() error { // the control plane's end is everybody's
		select {
		case err := <-controlEnded:
			controlEnded <- nil // said here
			if err == nil && groupCtx.Err() == nil {
				err = errors.New("appliance: the control plane ended by itself")
			}
			return err
		case <-groupCtx.Done():
			return nil
		}
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
	if a.worker != nil {
		return a.worker.run(ctx)
	}
	defer a.runPolicies()()
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
	if a.worker != nil {
		return errWorker("restart the control plane")
	}
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
	errs := []error{a.engines.teardown(ctx)}
	if a.proxy != nil {
		errs = append(errs, a.proxy.Teardown())
	}
	if a.routes != nil {
		errs = append(errs, a.routes.Teardown())
	}
	return errors.Join(errs...)
}

// RESTConfig is orchestrator.Orchestrator's, and survives restarts of the control plane. A worker has no right to
// it: its requests are refused.
func (a *Appliance) RESTConfig() *rest.Config {
	return a.RESTConfigAs(orchestrator.Admin, "system:masters")
}

// RESTConfigAs is orchestrator.Orchestrator's, and survives restarts of the control plane.
func (a *Appliance) RESTConfigAs(user string, groups ...string) *rest.Config {
	if a.worker != nil {
		return refusedConfig()
	}
	cfg := a.current().RESTConfigAs(user, groups...)
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return a.current().RESTConfigAs(user, groups...).Dial(ctx, network, address)
	}
	return cfg
}

// Backup is orchestrator.Orchestrator's; orchestrator.Restore fills a new DataDir from it. Images and
// containers are not in it.
func (a *Appliance) Backup(ctx context.Context, w io.Writer) error {
	if a.worker != nil {
		return errWorker("back up the control plane")
	}
	return a.current().Backup(ctx, w)
}

// JoinToken is orchestrator.Orchestrator's: it invites another appliance, whose Config.Join names it.
func (a *Appliance) JoinToken(ctx context.Context, role cluster.Role, lifetime time.Duration) (string, error) {
	if a.worker != nil {
		return "", errWorker("invite machines")
	}
	return a.current().JoinToken(ctx, role, lifetime)
}

// Members is orchestrator.Orchestrator's.
func (a *Appliance) Members(ctx context.Context) ([]raftstore.Member, error) {
	if a.worker != nil {
		return nil, errWorker("list the members")
	}
	return a.current().Members(ctx)
}

// Kubeconfig is a cluster-admin's, for kubectl on this machine.
func (a *Appliance) Kubeconfig() ([]byte, error) {
	if a.worker != nil {
		return nil, errWorker("make a kubeconfig")
	}
	return a.current().Kubeconfig()
}

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

// HTTPSAddress is where this machine reaches the ingress over TLS. Before Run has opened the port it
// is the address that was asked for.
func (a *Appliance) HTTPSAddress() string { return a.https.local() }

// HTTPAddress is where this machine reaches the ingress without.
func (a *Appliance) HTTPAddress() string { return a.http.local() }

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
