package appliance

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/pintle/pintle/netproxy"
	"github.com/pintle/pintle/netproxy/podroutes"
	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/runtime"
)

// newNode makes the agent, the proxy and the routes. They outlive restarts of the control plane.
func (a *Appliance) newNode() error {
	agentClient, err := kubernetes.NewForConfig(a.agentConfig())
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	proxyClient, err := kubernetes.NewForConfig(a.proxyConfig())
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	mode := netproxy.NFT
	dnsAddress := ""
	if a.engines.wasmOnly() {
		mode, dnsAddress = netproxy.Userspace, "127.0.0.1:0"
	}
	a.proxy, err = netproxy.New(netproxy.Config{
		Client: proxyClient, Name: a.cfg.host, NodeName: a.cfg.Node, Mode: mode,
		ServiceCIDRs: []netip.Prefix{a.cfg.ServiceCIDR}, PodCIDRs: []netip.Prefix{a.cfg.PodCIDR},
		DNSServiceIP: a.cfg.dnsServiceIP(), DNSAddress: dnsAddress, KeepRules: true,
		Ingress: netproxy.IngressConfig{HTTP: []net.Listener{a.http}, HTTPS: []net.Listener{a.https}},
		NodeIPs: published(a.https),
		Logger:  a.cfg.Logger.With("part", "netproxy"), Metrics: a.metrics.Registerer(),
	})
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	devices, err := a.devices()
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	agent := runtime.Config{
		Client: agentClient, NodeName: a.cfg.Node, DataDir: filepath.Join(a.cfg.DataDir, "node"), Engines: a.engines.all,
		Devices: devices, Drainer: drainer{a}, ClusterDNS: []string{a.cfg.dnsServiceIP().String()}, PodCIDR: a.cfg.PodCIDR.String(),
		CPUManagerPolicy: a.cfg.CPUManagerPolicy, ReservedCPUs: a.cfg.ReservedCPUs, VolumesDir: a.cfg.VolumesDir, MaxPods: a.cfg.MaxPods,
		Logger: a.cfg.Logger.With("part", "agent"), Metrics: a.metrics.Registerer(),
	}
	if a.cfg.NodeAddress.IsValid() {
		agent.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: a.cfg.NodeAddress.String()}, {Type: corev1.NodeHostName, Address: a.cfg.Node}}
	}
	if a.agent, err = runtime.New(agent); err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	if a.engines.wasmOnly() {
		return nil
	}
	a.routes, err = podroutes.New(podroutes.Config{
		Client: agentClient, Name: a.cluster, Node: a.cfg.Node, PodCIDR: a.cfg.PodCIDR, Logger: a.cfg.Logger.With("part", "routes"),
	})
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	return nil
}

func (a *Appliance) agentConfig() *rest.Config {
	if a.worker != nil {
		return a.worker.node.AgentConfig()
	}
	return a.RESTConfigAs("system:node:"+a.cfg.Node, "system:nodes")
}

func (a *Appliance) proxyConfig() *rest.Config {
	if a.worker != nil {
		return a.worker.node.ProxyConfig()
	}
	return a.RESTConfigAs("system:kube-proxy")
}

// meetCluster waits, where an appliance joins, until the cluster has let it in, and then makes the node's parts: their
// networks are the cluster's. ctx may end before; then there are no parts and no error.
func (a *Appliance) meetCluster(ctx context.Context, controlEnded chan error) error {
	if a.agent != nil {
		return nil
	}
	select {
	case <-a.controlReady():
	case err := <-controlEnded:
		controlEnded <- nil // said here
		return err
	case <-ctx.Done():
		return nil
	}
	if a.worker != nil {
		admission := a.worker.node.Admission()
		services, err := netip.ParsePrefix(admission.ServiceCIDR)
		if err != nil {
			return fmt.Errorf("appliance: the cluster's service range: %w", err)
		}
		a.cfg.ServiceCIDR, a.cluster = services, admission.Cluster
	} else {
		a.cfg.ServiceCIDR, a.cluster = a.current().ServiceCIDR(), a.current().ClusterName()
	}
	if err := a.checkPodNetwork(ctx); err != nil {
		return err
	}
	return a.newNode()
}

// checkPodNetwork refuses a pod network that another node has: the networks are chosen by names, and two names
// may choose alike.
func (a *Appliance) checkPodNetwork(ctx context.Context) error {
	if a.engines.wasmOnly() {
		return nil
	}
	client, err := kubernetes.NewForConfig(a.agentConfig())
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("appliance: list nodes: %w", err)
	}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		if pods, err := netip.ParsePrefix(n.Spec.PodCIDR); err == nil && n.Name != a.cfg.Node && pods.Overlaps(a.cfg.PodCIDR) {
			return fmt.Errorf("appliance: the pod network %s of this node overlaps with that of node %s, %s: set Config.PodCIDR to one that is free", a.cfg.PodCIDR, n.Name, pods)
		}
	}
	return nil
}

// nodeHandler is what servers call on this node: the agent, and whether the proxy has drained an address.
func (a *Appliance) nodeHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", a.agent.Handler())
	mux.HandleFunc("POST "+orchestrator.DrainedPath, func(w http.ResponseWriter, r *http.Request) {
		address, err := netip.ParseAddr(strings.TrimPrefix(r.URL.Path, orchestrator.DrainedPath))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := a.proxy.Drained(r.Context(), address); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return mux
}

// drainer asks this node's proxy and then, through the control plane, everybody else's.
type drainer struct{ a *Appliance }

func (d drainer) Drained(ctx context.Context, address netip.Addr) error {
	if err := d.a.proxy.Drained(ctx, address); err != nil {
		return err
	}
	if d.a.worker != nil {
		return d.a.worker.node.Drained(ctx, address)
	}
	return d.a.current().Drained(ctx, address)
}
