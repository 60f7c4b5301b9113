package netproxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// raiseHost puts the DNS Service's address on the loopback interface, so that pods and host reach
// our server under it without translation; and routes Service addresses somewhere on a host that
// has no default route, because the kernel looks for a route before it translates.
func (p *Proxy) raiseHost() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback interface: %w", err)
	}
	if p.cfg.DNSServiceIP.IsValid() {
		if err := netlink.AddrReplace(lo, dnsAddr(p.cfg.DNSServiceIP)); err != nil {
			return fmt.Errorf("add DNS address %s: %w", p.cfg.DNSServiceIP, err)
		}
	}
	for _, c := range p.cfg.ServiceCIDRs {
		probe := c.Masked().Addr().Next()
		if _, err := netlink.RouteGet(probe.AsSlice()); err == nil {
			continue
		}
		if err := netlink.RouteReplace(serviceRoute(lo, c)); err != nil {
			return fmt.Errorf("route Service network %s: %w", c, err)
		}
	}
	return nil
}

// routeProtocol marks our routes, so that only they are removed.
const routeProtocol = 0x50

func serviceRoute(lo netlink.Link, c netip.Prefix) *netlink.Route {
	return &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: &net.IPNet{IP: c.Masked().Addr().AsSlice(), Mask: net.CIDRMask(c.Bits(), 32)}, Protocol: routeProtocol, Scope: netlink.SCOPE_LINK}
}

func dnsAddr(ip netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(32, 32)}}
}

// dropHost undoes raiseHost. What isn't there is no error.
func (p *Proxy) dropHost() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback interface: %w", err)
	}
	var errs error
	if p.cfg.DNSServiceIP.IsValid() {
		if err := netlink.AddrDel(lo, dnsAddr(p.cfg.DNSServiceIP)); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = errors.Join(errs, fmt.Errorf("remove DNS address: %w", err))
		}
	}
	for _, c := range p.cfg.ServiceCIDRs {
		if err := netlink.RouteDel(serviceRoute(lo, c)); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = errors.Join(errs, fmt.Errorf("remove Service route: %w", err))
		}
	}
	return errs
}
