package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
)

// network attaches sandboxes with the CNI plugins bridge and host-local. Masquerading and host
// ports are ours (nat_linux.go): the plugins would need iptables for them.
type network struct {
	cfg    Config
	names  names
	cni    *libcni.CNIConfig
	list   *libcni.NetworkConfigList
	ipam   string
	gwAddr netip.Prefix
}

func newNetwork(cfg Config, n names) (*network, error) {
	w := &network{cfg: cfg, names: n, ipam: filepath.Join(cfg.DataDir, "cni", "ipam")}
	w.gwAddr = netip.PrefixFrom(cfg.PodCIDR.Addr().Next(), cfg.PodCIDR.Bits())
	bridge := map[string]any{
		"type": "bridge", "bridge": n.bridge,
		"isGateway": true, "isDefaultGateway": true, "ipMasq": false, "hairpinMode": true,
		"ipam": map[string]any{
			"type": "host-local", "dataDir": w.ipam,
			"ranges": [][]map[string]string{{{"subnet": cfg.PodCIDR.String(), "gateway": w.gwAddr.Addr().String()}}},
		},
	}
	if cfg.MTU > 0 {
		bridge["mtu"] = cfg.MTU
	}
	conf, err := json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0", "name": n.network, "plugins": []any{bridge},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("CNI configuration: %w", err)
	}
	dir := filepath.Join(cfg.DataDir, "cni")
	if err := os.MkdirAll(w.ipam, 0o755); err != nil {
		return nil, fmt.Errorf("CNI folder: %w", err)
	}
	if err := writeFile(filepath.Join(dir, "pintle.conflist"), conf); err != nil {
		return nil, err
	}
	w.list, err = libcni.ConfListFromBytes(conf)
	if err != nil {
		return nil, fmt.Errorf("CNI configuration: %w", err)
	}
	// Without an exec of ours libcni makes one at its first call, which races when fifty pods come at
	// once, and passes the plugins' stderr on to the host's.
	exec := &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: io.Discard}}
	w.cni = libcni.NewCNIConfigWithCacheDir(cfg.CNIBinDirs, filepath.Join(dir, "cache"), exec)
	return w, nil
}

// ensureBridge makes the bridge before the first pods come: fifty plugins at once would race for it.
func (w *network) ensureBridge() error {
	link, err := netlink.LinkByName(w.names.bridge)
	if err != nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = w.names.bridge
		attrs.MTU = w.cfg.MTU
		link = &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(link); err != nil {
			return fmt.Errorf("create bridge %s: %w", w.names.bridge, err)
		}
		if link, err = netlink.LinkByName(w.names.bridge); err != nil {
			return fmt.Errorf("find bridge %s: %w", w.names.bridge, err)
		}
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{
		IP: w.gwAddr.Addr().AsSlice(), Mask: net.CIDRMask(w.gwAddr.Bits(), 32),
	}}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("set address of bridge %s: %w", w.names.bridge, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set bridge %s up: %w", w.names.bridge, err)
	}
	return nil
}

func (w *network) removeBridge() error {
	link, err := netlink.LinkByName(w.names.bridge)
	if err != nil {
		return nil
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("remove bridge %s: %w", w.names.bridge, err)
	}
	return nil
}

func (w *network) conf(id, netns string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: containerdID(id), NetNS: netns, IfName: "eth0"}
}

func (w *network) add(ctx context.Context, id, netns string) ([]netip.Addr, error) {
	res, err := w.cni.AddNetworkList(ctx, w.list, w.conf(id, netns))
	if err != nil {
		return nil, fmt.Errorf("CNI add: %w", err)
	}
	r, err := types100.NewResultFromResult(res)
	if err != nil {
		return nil, fmt.Errorf("CNI result: %w", err)
	}
	var ips []netip.Addr
	for _, ip := range r.IPs {
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			ips = append(ips, a.Unmap())
		}
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("CNI add: the plugins gave no address")
	}
	return ips, nil
}

// del is safe to call after a partial add, and when the namespace is gone.
func (w *network) del(ctx context.Context, id, netns string) error {
	if !isNamespace(netns) {
		netns = "" // the plugins then only release the address
	}
	if err := w.cni.DelNetworkList(ctx, w.list, w.conf(id, netns)); err != nil {
		return fmt.Errorf("CNI del: %w", err)
	}
	return nil
}
