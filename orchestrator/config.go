package orchestrator

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/clock"

	"github.com/pintle/pintle/orchestrator/controllers/consolidation"
	"github.com/pintle/pintle/orchestrator/metrics"
	"github.com/pintle/pintle/orchestrator/policy"
	"github.com/pintle/pintle/orchestrator/registry"
	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/raftstore"
)

// Config is what an Orchestrator needs. The zero value is a cluster in memory that is reached by
// RESTConfig alone.
type Config struct {
	Name    string // cluster name, a DNS label; "" means "pintle"
	DataDir string // all state lives here; "" keeps everything in memory

	// Listener, or else Address ("host:port"), is the one TLS port. With neither, nothing listens and
	// only this process reaches the API.
	Listener net.Listener
	Address  string
	// Member names this process among the members of the control plane: a DNS name. "" is the host's name. It
	// stays with the data folder.
	Member string
	// MemberAddress is where the other members reach the port, "host:port"; "" is the listener's address, or,
	// where that is none in particular, the machine's first.
	MemberAddress string
	// Join makes this process a member of a cluster that is there; nil starts one, or goes on with that of
	// the data folder. It needs a Listener or an Address.
	Join *Join
	// DialMember connects to another member's port; nil is a net.Dialer.
	DialMember func(ctx context.Context, network, address string) (net.Conn, error)
	// Advertise is where pods reach the API: the endpoint of the Service default/kubernetes. Zero means
	// the listener's own address.
	Advertise netip.AddrPort
	// ServerNames are further DNS names and IP addresses for the server's certificate. localhost,
	// the listener's and the advertised address and the Service's names are always in it.
	ServerNames []string

	// ServiceCIDR is where cluster IPs come from; zero means 10.96.0.0/16.
	ServiceCIDR netip.Prefix

	// DialNode connects to the agent of a node, for logs, exec, attach and port-forward. Nil: those are refused.
	DialNode func(ctx context.Context, node string) (net.Conn, error)

	// KeyProvider has the stored state, the cluster's private keys and backups sealed (AES-256-GCM) under data keys
	// that it wraps; raftstore.FileKey is one with a key in a file. What was there before is sealed at the next start.
	// nil: nothing is sealed, and what is sealed is refused.
	KeyProvider raftstore.KeyProvider
	// Backups has the stored state backed up into a folder from time to time, by each member that has
	// it set. It is what Restore takes beside the folder pki. The zero value: never.
	Backups raftstore.BackupSchedule

	// NodeProvider makes nodes that pending pods need, and takes back those that nobody needs; NodeScaling says when.
	// nil: the nodes are those that join.
	NodeProvider NodeProvider
	NodeScaling  NodeScaling
	// Consolidation moves pods that have parts of GPUs together where pods wait for whole ones: see the package. The zero value: never.
	Consolidation consolidation.Config

	Admission registry.Admitter // asked before the policies; nil: none

	// Policies runs the WebAssembly modules of policy.pintle.dev: a *policies.Host, which serves no other control
	// plane and whose Run is the caller's. Nil: those objects are stored, and nobody asks them.
	Policies policy.Host
	// PolicyImage reads the module of an image in the local store, and PolicyFiles holds those that the program brings
	// along, for PolicyModules that name one. Nil: those fail.
	PolicyImage func(ctx context.Context, image string) ([]byte, error)
	PolicyFiles fs.FS
	// Policy takes part in scheduling in place of Policies; nil: those do.
	Policy scheduler.Policy

	// HPASync is how often each HorizontalPodAutoscaler is looked at; 0: 15 s. Nodes are then read at least as often, and
	// every 5 s otherwise.
	HPASync time.Duration
	// CustomMetrics and ExternalMetrics answer custom.metrics.k8s.io and external.metrics.k8s.io, and with them
	// autoscalers, beside what is built in: the use of GPUs by pods. Nil: nothing.
	CustomMetrics   metrics.Custom
	ExternalMetrics metrics.External

	Logger  *slog.Logger                        // nil discards
	Metrics prometheus.Registerer               // nil: none. What Run registers there it takes out again at its end
	Clock   clock.WithTickerAndDelayedExecution // nil: the machine's

	nameGiven, serviceCIDRGiven bool
}

// defaultServiceCIDR is the range that kubeadm uses.
var defaultServiceCIDR = netip.MustParsePrefix("10.96.0.0/16")

func (c Config) withDefaults() (Config, error) {
	c.nameGiven = c.Name != ""
	if c.Name == "" {
		c.Name = "pintle"
	}
	if problems := validation.IsDNS1123Label(c.Name); len(problems) > 0 {
		return c, fmt.Errorf("orchestrator: Config.Name %q: %s", c.Name, problems[0])
	}
	if c.Listener != nil && c.Address != "" {
		return c, fmt.Errorf("orchestrator: Config.Listener and Config.Address are both set: give one")
	}
	if c.Member != "" {
		if problems := validation.IsDNS1123Subdomain(c.Member); len(problems) > 0 {
			return c, fmt.Errorf("orchestrator: Config.Member %q: %s", c.Member, problems[0])
		}
	}
	if c.MemberAddress != "" {
		if _, _, err := net.SplitHostPort(c.MemberAddress); err != nil {
			return c, fmt.Errorf("orchestrator: Config.MemberAddress %q: give host:port", c.MemberAddress)
		}
	}
	if c.Join != nil {
		if c.Listener == nil && c.Address == "" {
			return c, fmt.Errorf("orchestrator: Config.Join needs a Listener or an Address: the other members connect to this one")
		}
		if len(c.Join.Addresses) == 0 {
			return c, fmt.Errorf("orchestrator: Config.Join.Addresses is empty: name a member")
		}
	}
	c.serviceCIDRGiven = c.ServiceCIDR.IsValid()
	if !c.ServiceCIDR.IsValid() {
		c.ServiceCIDR = defaultServiceCIDR
	}
	if !c.ServiceCIDR.Addr().Is4() || c.ServiceCIDR.Bits() > 24 {
		return c, fmt.Errorf("orchestrator: Config.ServiceCIDR %s: give an IPv4 range of /24 or larger", c.ServiceCIDR)
	}
	c.ServiceCIDR = c.ServiceCIDR.Masked()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	return c, nil
}

// nthAddress is the address n above the start of the range: 1 is the Service default/kubernetes.
func nthAddress(prefix netip.Prefix, n int) netip.Addr {
	addr := prefix.Addr()
	for range n {
		addr = addr.Next()
	}
	return addr
}

// KubernetesServiceIP is the cluster IP of the Service default/kubernetes: the range's first.
func KubernetesServiceIP(serviceCIDR netip.Prefix) netip.Addr {
	return nthAddress(serviceCIDR.Masked(), 1)
}

// DNSServiceIP is the cluster IP that is kept for the cluster's DNS: the range's tenth.
func DNSServiceIP(serviceCIDR netip.Prefix) netip.Addr { return nthAddress(serviceCIDR.Masked(), 10) }
