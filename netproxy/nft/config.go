package nft

import (
	"errors"
	"log/slog"
	"net/netip"
)

// ErrUnsupported is returned where nftables can't be had.
var ErrUnsupported = errors.New("nftables is not available")

// Config says what to program. Name is required.
type Config struct {
	// Name is the cluster's; the table is "pintle-"+Name.
	Name string
	// ServiceCIDRs: new connections to an address in them that no Service port answers are rejected.
	ServiceCIDRs []netip.Prefix
	// PodCIDRs are the cluster's pods: connections from outside them to a ClusterIP are masqueraded.
	PodCIDRs []netip.Prefix
	// DNSServiceIP port 53 is answered on this host itself and never translated.
	DNSServiceIP netip.Addr
	// Logger hears of trouble that is survived; nil discards.
	Logger *slog.Logger
}

// TableName returns the name of the table for a cluster.
func TableName(cluster string) string { return "pintle-" + cluster }
