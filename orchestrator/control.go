package orchestrator

import (
	"net/netip"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/controllers"
	"github.com/pintle/pintle/orchestrator/controllers/kubernetesservice"
	"github.com/pintle/pintle/orchestrator/controllers/nodeautoscaler"
	"github.com/pintle/pintle/orchestrator/controllers/podautoscaler"
)

// controllersConfig says what the controllers of this cluster publish and watch. Their writes carry
// the term in which they lead, and are refused once it has been succeeded.
func (p *parts) controllersConfig(term uint64) controllers.Config {
	cfg := controllers.Config{
		Client: p.registry.Client("system:kube-controller-manager").InTerm(term), Kinds: api.All(),
		Logger: p.cfg.Logger.With("part", "controllers"), Clock: p.cfg.Clock,
		RootCA: p.identity.ca.CertPEM(), ServiceCIDR: p.cfg.ServiceCIDR, Metrics: p.metrics.Registerer(),
		Autoscaling: podautoscaler.Config{Metrics: p.usage, Sync: p.cfg.HPASync}, Usage: p.usage, Consolidation: p.cfg.Consolidation,
	}
	if p.cfg.NodeProvider != nil {
		cfg.NodeAutoscaling = &nodeautoscaler.Config{Provider: p.cfg.NodeProvider, Options: p.cfg.NodeScaling, Simulator: newSimulator,
			Evict: p.registry.Client(nodeautoscaler.Name).InTerm(term).Evict}
	}
	if at := p.advertised(); at.IsValid() {
		cfg.KubernetesService = kubernetesservice.Config{
			ClusterIP: KubernetesServiceIP(p.cfg.ServiceCIDR).String(), Addresses: []string{at.Addr().String()}, Target: int32(at.Port()),
		}
	}
	return cfg
}

// advertised is the endpoint of default/kubernetes: what the config says, with the listener's port
// when it says none, or the listener's own address.
func (p *parts) advertised() netip.AddrPort {
	var listening netip.AddrPort
	if p.addr != nil {
		listening, _ = netip.ParseAddrPort(p.addr.String())
	}
	at := p.cfg.Advertise
	switch {
	case at.IsValid() && at.Port() != 0:
		return at
	case at.Addr().IsValid() && listening.IsValid():
		return netip.AddrPortFrom(at.Addr(), listening.Port())
	case listening.IsValid() && !listening.Addr().IsUnspecified() && !listening.Addr().IsLoopback(): // pods can't reach those
		return listening
	}
	return netip.AddrPort{}
}
