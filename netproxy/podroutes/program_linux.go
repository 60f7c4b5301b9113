package podroutes

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// protocol marks our routes among others' (rtnetlink(7)); it is in the range that is for everybody.
	protocol   = netlink.RouteProtocol(0x70)
	tunnelPort = 8472
	// overhead is what VXLAN adds to a packet: outer Ethernet, IP, UDP and VXLAN headers, in bytes.
	overhead = 50
)

// machineNetworks are the IPv4 networks of this machine's links.
func machineNetworks() (out []netip.Prefix, err error) {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("podroutes: list addresses: %w", err)
	}
	for _, a := range addresses {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok {
			ones, _ := a.Mask.Size()
			out = append(out, netip.PrefixFrom(ip, ones).Masked())
		}
	}
	return out, nil
}

// program makes the routes what they should be, and touches no others.
func program(cfg Config, peers []peer) error {
	var tunnel netlink.Link
	var errs []error
	wanted := map[netip.Prefix]bool{}
	for _, p := range peers {
		wanted[p.pods] = true
	}
	if err := noteMade(cfg, wanted); err != nil {
		return err
	}
	for _, p := range peers {
		if !p.near && tunnel == nil {
			var err error
			if tunnel, err = ensureTunnel(cfg); err != nil {
				return err
			}
		}
	}
	if tunnel == nil {
		if err := removeTunnel(cfg); err != nil {
			errs = append(errs, err)
		}
	}
	for _, p := range peers {
		route := &netlink.Route{Dst: ipNet(p.pods), Protocol: protocol, Scope: netlink.SCOPE_UNIVERSE}
		if p.near {
			route.Gw = p.at.AsSlice()
		} else {
			route.Gw, route.LinkIndex, route.Flags = tunnelAddress(p.pods).AsSlice(), tunnel.Attrs().Index, int(netlink.FLAG_ONLINK)
			if err := neighbour(cfg, tunnel, p); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if err := netlink.RouteReplace(route); err != nil {
			errs = append(errs, fmt.Errorf("podroutes: route to the pods of node %s (%s via %s): %w", p.node, p.pods, p.at, err))
		}
	}
	return errors.Join(append(errs, removeRoutes(cfg, wanted))...)
}

// removeRoutes removes those of the recorded routes that are not wanted, and records what is left. Routes of
// another appliance on this machine carry the same mark, and stand in its own record.
func removeRoutes(cfg Config, wanted map[netip.Prefix]bool) error {
	made, err := readMade(cfg)
	if err != nil {
		return err
	}
	var errs []error
	for p := range made {
		if wanted[p] {
			continue
		}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: ipNet(p), Protocol: protocol}, netlink.RT_FILTER_DST|netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			errs = append(errs, fmt.Errorf("podroutes: list routes: %w", err))
			continue
		}
		for i := range routes {
			if err := netlink.RouteDel(&routes[i]); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("podroutes: remove route %s: %w", p, err))
			}
		}
	}
	return errors.Join(append(errs, writeMade(cfg, wanted))...)
}

func ensureTunnel(cfg Config) (netlink.Link, error) {
	name := linkName(cfg.Name)
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr, attrs.MTU = name, hardwareAddress(cfg.Name, cfg.Node), tunnelMTU()
		err = netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs, VxlanId: tunnelID(cfg.Name), Port: tunnelPort, Learning: false})
		if err == nil || errors.Is(err, os.ErrExist) {
			link, err = netlink.LinkByName(name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("podroutes: VXLAN link %s: %w", name, err)
	}
	self := netip.PrefixFrom(tunnelAddress(cfg.PodCIDR), 32)
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(self)}); err != nil {
		return nil, fmt.Errorf("podroutes: address of %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("podroutes: start %s: %w", name, err)
	}
	return link, nil
}

// tunnelMTU leaves room for the outer headers on the narrowest of the machine's links that is up.
func tunnelMTU() int {
	narrowest := 1500
	if links, err := netlink.LinkList(); err == nil {
		for _, l := range links {
			a := l.Attrs()
			if a.Flags&net.FlagUp != 0 && a.Flags&net.FlagLoopback == 0 && a.MTU >= 1280 {
				narrowest = min(narrowest, a.MTU)
			}
		}
	}
	return narrowest - overhead
}

// neighbour says where the far end of the tunnel is: its inner address, its hardware address, its machine.
func neighbour(cfg Config, tunnel netlink.Link, p peer) error {
	mac := hardwareAddress(cfg.Name, p.node)
	inner := &netlink.Neigh{LinkIndex: tunnel.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		IP: tunnelAddress(p.pods).AsSlice(), HardwareAddr: mac}
	outer := &netlink.Neigh{LinkIndex: tunnel.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
		IP: p.at.AsSlice(), HardwareAddr: mac}
	for _, n := range []*netlink.Neigh{inner, outer} {
		if err := netlink.NeighSet(n); err != nil {
			return fmt.Errorf("podroutes: the tunnel to node %s at %s: %w", p.node, p.at, err)
		}
	}
	return nil
}

func removeTunnel(cfg Config) error {
	link, err := netlink.LinkByName(linkName(cfg.Name))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("podroutes: remove %s: %w", linkName(cfg.Name), err)
	}
	return nil
}

func teardown(cfg Config) error { return errors.Join(removeRoutes(cfg, nil), removeTunnel(cfg)) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}
