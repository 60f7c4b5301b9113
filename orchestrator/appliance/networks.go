package appliance

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/pintle/pintle/orchestrator"
)

// networks are the address ranges of one cluster on this machine, and the name that its things have there.
type networks struct {
	Host     string       `json:"host,omitempty"` // "": the cluster's name, as in folders from before there were others
	Pods     netip.Prefix `json:"pods"`
	Services netip.Prefix `json:"services"`
}

// chooseNetworks fills what the config leaves open. A choice is kept in the data folder, because pods
// that run hold addresses from it.
func chooseNetworks(cfg Config) (Config, error) {
	file := filepath.Join(cfg.DataDir, "networks.json")
	var kept networks
	data, err := os.ReadFile(file)
	switch {
	case err == nil:
		if err := json.Unmarshal(data, &kept); err != nil {
			return cfg, fmt.Errorf("appliance: read %s: %w", file, err)
		}
	case errors.Is(err, fs.ErrNotExist):
		if kept, err = freeNetworks(cfg.networkName(), taken()); err != nil {
			return cfg, err
		}
		services, err := orchestrator.KeptServiceCIDR(cfg.DataDir)
		if err != nil {
			return cfg, err
		}
		if services.IsValid() { // a cluster was restored here
			kept.Services = services
		}
		if cfg.Join != nil {
			kept.Services = netip.Prefix{} // the cluster's
			kept.Host = hostName(cfg.Name, cfg.Node)
		}
	default:
		return cfg, fmt.Errorf("appliance: %w", err)
	}
	if cfg.PodCIDR.IsValid() {
		kept.Pods = cfg.PodCIDR.Masked()
	}
	if cfg.ServiceCIDR.IsValid() {
		kept.Services = cfg.ServiceCIDR.Masked()
	}
	if data, err = json.Marshal(kept); err != nil {
		return cfg, fmt.Errorf("appliance: %w", err)
	}
	if err := os.MkdirAll(cfg.DataDir, 0o750); err != nil {
		return cfg, fmt.Errorf("appliance: make the data folder: %w", err)
	}
	if err := os.WriteFile(file, data, 0o640); err != nil {
		return cfg, fmt.Errorf("appliance: %w", err)
	}
	cfg.PodCIDR, cfg.ServiceCIDR = kept.Pods, kept.Services
	if cfg.host = kept.Host; cfg.host == "" {
		cfg.host = cfg.Name
	}
	return cfg, nil
}

// hostName is what the things of a node that joined are called on its machine: nodes of one cluster may share a
// kernel, in namespaces of their own, and cgroups are every namespace's. The first node's are called by the
// cluster's name alone.
func hostName(cluster, node string) string {
	const longest = 48 // what engine and proxy take
	name := cluster + "-node-" + node
	if len(name) <= longest && len(validation.IsDNS1123Label(name)) == 0 {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	hash := hex.EncodeToString(sum[:6])
	return strings.TrimRight(cluster[:min(len(cluster), longest-len(hash)-6)], "-") + "-node-" + hash
}

// networkName is what the choice of networks follows from. Nodes that join choose by their own names too: each has
// a pod network of its own.
func (c Config) networkName() string {
	if c.Join == nil {
		return c.Name
	}
	return c.Name + "/" + c.Node
}

// clusterPods holds the pod networks of all nodes that are chosen here.
func clusterPods(own netip.Prefix) netip.Prefix {
	if all := netip.MustParsePrefix("10.128.0.0/10"); all.Contains(own.Addr()) && own.Bits() >= all.Bits() {
		return all
	}
	return own
}

// freeNetworks picks a /24 for pods in 10.128.0.0/10 and a /20 for Services in 10.192.0.0/10, by name,
// and the next ones while they overlap something.
func freeNetworks(name string, taken []netip.Prefix) (networks, error) {
	hash := fnv.New32a()
	hash.Write([]byte(name))
	n := hash.Sum32()
	for range 1000 {
		chosen := networks{
			Pods:     netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 128 | byte(n>>8)&63, byte(n), 0}), 24),
			Services: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 192 | byte(n>>8)&63, byte(n) & 0xf0, 0}), 20),
		}
		if !overlaps(chosen.Pods, taken) && !overlaps(chosen.Services, taken) {
			return chosen, nil
		}
		n += 0x1011 // both ranges move
	}
	return networks{}, errors.New("appliance: no free network was found in 10.128.0.0/9: set Config.PodCIDR and Config.ServiceCIDR")
}

func overlaps(p netip.Prefix, others []netip.Prefix) bool {
	for _, other := range others {
		if p.Overlaps(other) {
			return true
		}
	}
	return false
}

// taken are the networks of the machine's interfaces.
func taken() (out []netip.Prefix) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil // then nothing is known to be taken
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			out = append(out, p.Masked())
		}
	}
	return out
}

// published is what Ingresses' status says: where the listener is, or this machine's first address
// that others can reach.
func published(l net.Listener) []netip.Addr {
	host, _, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return nil
	}
	// ":443" names no address: the port is not open yet.
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
		return []netip.Addr{ip.Unmap()}
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return []netip.Addr{p.Addr()}
		}
	}
	return nil
}
