package netproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"
)

// Mode chooses the data plane.
type Mode string

// The modes. Auto takes nft where it may be programmed, else user space.
const (
	Auto      Mode = "auto"
	NFT       Mode = "nft"
	Userspace Mode = "userspace"
)

// Config of a Proxy. Client and Name are required.
type Config struct {
	Client kubernetes.Interface
	// Name is the cluster's; the nftables table is "pintle-"+Name.
	Name string
	// NodeName is the node whose endpoints count as local.
	NodeName string
	// Mode is Auto when empty.
	Mode Mode
	// ClusterDomain is "cluster.local" when empty.
	ClusterDomain string
	// ServiceCIDRs and PodCIDRs are the cluster's networks, IPv4.
	ServiceCIDRs, PodCIDRs []netip.Prefix
	// DNSServiceIP is where pods ask for names. In nft mode the proxy puts it on the loopback
	// interface and answers there; in user space it is only the name of DNSAddress in Mapping.
	// Invalid: DNS is served on DNSAddress alone, or not at all.
	DNSServiceIP netip.Addr
	// DNSAddress is one more address to answer DNS on, such as "127.0.0.1:0".
	DNSAddress string
	// DNSUpstreams replace the resolvers of /etc/resolv.conf.
	DNSUpstreams []netip.AddrPort
	// NodeIPs are published as the Ingresses' addresses.
	NodeIPs []netip.Addr
	Ingress IngressConfig
	// UserspaceAddress is where user-space listeners are opened; the default is 127.0.0.1.
	UserspaceAddress netip.Addr
	// Dial reaches endpoints from the ingress and in user space; nil is a net.Dialer. The wiring
	// gives one where pods' addresses are not on the host's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// KeepRules leaves Service rules on the host when Run ends, so that connections through them
	// go on while the control plane restarts. Teardown removes them.
	KeepRules bool
	// HoldFor is the longest that a connection or request waits for a pod of a Service that is scaled to zero; 0 is 60 s.
	HoldFor time.Duration
	Logger  *slog.Logger
	// Metrics registers the proxy's metrics; nil registers none.
	Metrics prometheus.Registerer
}

// IngressConfig says where Ingresses are served. Without a listener or an address none is.
type IngressConfig struct {
	// HTTP and HTTPS are listeners that Run takes over; the addresses are opened by Run.
	HTTP, HTTPS               []net.Listener
	HTTPAddress, HTTPSAddress string
	// HTTPSPort is where redirects point; 0 is the listener's own.
	HTTPSPort int
	// Class is "pintle" when empty.
	Class string
	// DefaultCertificate serves names without one; nil makes a self-signed one.
	DefaultCertificate *tls.Certificate
	// MaxBody is the largest request body, in bytes, where no annotation says otherwise; 0 is 64 MiB.
	MaxBody int64
}

func (c *IngressConfig) enabled() bool {
	return len(c.HTTP)+len(c.HTTPS) > 0 || c.HTTPAddress != "" || c.HTTPSAddress != ""
}

func (c *Config) check() error {
	switch {
	case c.Client == nil:
		return errors.New("netproxy: Config.Client is nil")
	case c.Name == "":
		return errors.New("netproxy: Config.Name is empty")
	}
	switch c.Mode {
	case "":
		c.Mode = Auto
	case Auto, NFT, Userspace:
	default:
		return fmt.Errorf("netproxy: Config.Mode %q is not auto, nft or userspace", c.Mode)
	}
	for _, p := range append(append([]netip.Prefix(nil), c.ServiceCIDRs...), c.PodCIDRs...) {
		if !p.IsValid() || !p.Addr().Is4() {
			return fmt.Errorf("netproxy: %s is not an IPv4 network", p)
		}
	}
	if c.DNSServiceIP.IsValid() && !c.DNSServiceIP.Is4() {
		return fmt.Errorf("netproxy: Config.DNSServiceIP %s is not IPv4", c.DNSServiceIP)
	}
	if c.ClusterDomain == "" {
		c.ClusterDomain = "cluster.local"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}
