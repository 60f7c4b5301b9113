package containerd

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
)

// Config says what an Engine is called and where its things live.
type Config struct {
	// Name is the cluster's name, a DNS label. Everything on the host that is shared with others
	// derives from it: containerd namespace, cgroup parent, bridge, nft table, run folder.
	Name string
	// DataDir is the folder (absolute or relative to the working folder) for state that survives a
	// reboot: images, sandbox and container records, address leases.
	DataDir string
	// Address is the socket of a running containerd; "" starts a private one.
	Address string
	// ContainerdPath is the daemon's binary; "" looks it up in PATH.
	ContainerdPath string
	// PodCIDR is the IPv4 network of this node's pods. The first address is the bridge's.
	PodCIDR netip.Prefix
	// ClusterCIDR holds the pod networks of all nodes, this one's too: what pods send there keeps their address.
	// Zero is PodCIDR.
	ClusterCIDR netip.Prefix
	// CNIBinDirs hold the plugins bridge and host-local; nil: /usr/lib/cni, /opt/cni/bin.
	CNIBinDirs []string
	// MTU of the pods' links in bytes; 0: the kernel's default.
	MTU int
	// Snapshotter is "overlayfs" or "native"; "" tries overlayfs and falls back to native.
	Snapshotter string
	// Logger; nil discards.
	Logger *slog.Logger
}

// names are what the host sees; all derive from the cluster's name.
type names struct {
	namespace string // containerd's
	cgroup    string // parent, absolute within each hierarchy
	bridge    string // ≤ 15 characters, IFNAMSIZ
	table     string // nft
	run       string // folder for sockets, fifos and namespaces: gone after a reboot, as they are
	network   string // CNI's
}

func namesOf(cluster string) names {
	h := sha256.Sum256([]byte(cluster))
	return names{
		namespace: "pintle-" + cluster,
		cgroup:    "/pintle-" + cluster,
		bridge:    "pt" + hex.EncodeToString(h[:])[:10],
		table:     "pintle-" + cluster + "-nat",
		run:       filepath.Join(runRoot, cluster),
		network:   "pintle-" + cluster,
	}
}

const runRoot = "/run/pintle"

var (
	dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,46}[a-z0-9])?$`)
	safeID   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$`)
)

func (c *Config) complete() error {
	if !dnsLabel.MatchString(c.Name) {
		return fmt.Errorf("containerd: Name %q must be a DNS label of at most 48 characters", c.Name)
	}
	if c.DataDir == "" {
		return errors.New("containerd: DataDir is required")
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return fmt.Errorf("containerd: DataDir: %w", err)
	}
	c.DataDir = dir
	if !c.PodCIDR.IsValid() || !c.PodCIDR.Addr().Is4() || c.PodCIDR.Bits() > 29 {
		return fmt.Errorf("containerd: PodCIDR %v must be an IPv4 network of /29 or larger", c.PodCIDR)
	}
	c.PodCIDR = c.PodCIDR.Masked()
	if !c.ClusterCIDR.IsValid() {
		c.ClusterCIDR = c.PodCIDR
	}
	if c.ClusterCIDR = c.ClusterCIDR.Masked(); !c.ClusterCIDR.Contains(c.PodCIDR.Addr()) || c.ClusterCIDR.Bits() > c.PodCIDR.Bits() {
		return fmt.Errorf("containerd: PodCIDR %v must lie in ClusterCIDR %v", c.PodCIDR, c.ClusterCIDR)
	}
	switch c.Snapshotter {
	case "", "overlayfs", "native":
	default:
		return fmt.Errorf("containerd: Snapshotter %q is neither overlayfs nor native", c.Snapshotter)
	}
	if c.CNIBinDirs == nil {
		c.CNIBinDirs = []string{"/usr/lib/cni", "/opt/cni/bin"}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// plugin finds a CNI plugin, so that New can say what is missing.
func (c *Config) plugin(name string) error {
	for _, d := range c.CNIBinDirs {
		if _, err := os.Stat(filepath.Join(d, name)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("containerd: CNI plugin %q is in none of %v (Debian: containernetworking-plugins)", name, c.CNIBinDirs)
}

// containerdID makes an id that containerd takes (at most 76 characters) of one of ours.
func containerdID(id string) string {
	if len(id) <= 76 {
		return id
	}
	h := sha256.Sum256([]byte(id))
	return id[:40] + "-" + hex.EncodeToString(h[:])[:32]
}
