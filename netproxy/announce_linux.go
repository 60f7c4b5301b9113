package netproxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// holdAddresses makes the loopback interface have the addresses of this label that are wanted. The kernel answers ARP for
// them on every interface (unless arp_ignore is set), and Services' rules translate what comes. Those that are new are
// announced, so that who knew another node for them learns of this one.
func holdAddresses(label string, want []netip.Addr) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback interface: %w", err)
	}
	have, err := netlink.AddrList(lo, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	var errs error
	var held []netip.Addr
	for _, a := range have {
		ip, ok := netip.AddrFromSlice(a.IP.To4())
		if !ok || a.Label != label {
			continue
		}
		if slices.Contains(want, ip) {
			held = append(held, ip)
		} else if err := netlink.AddrDel(lo, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = errors.Join(errs, fmt.Errorf("give up address %s: %w", ip, err))
		}
	}
	for _, ip := range want {
		if slices.Contains(held, ip) {
			continue
		}
		a := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(32, 32)}, Label: label}
		if err := netlink.AddrAdd(lo, a); err != nil && !errors.Is(err, unix.EEXIST) { // somebody else's is somebody else's
			errs = errors.Join(errs, fmt.Errorf("take address %s: %w", ip, err))
			continue
		}
		if err := announce(ip); err != nil {
			errs = errors.Join(errs, fmt.Errorf("announce address %s: %w", ip, err))
		}
	}
	return errs
}

// announce tells the networks that the address belongs to where it is (RFC 5227, section 3). Where no interface is on its
// network, others route it here, and nobody needs to be told.
func announce(ip netip.Addr) error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 || len(i.HardwareAddr) != 6 || !onNetwork(i, ip) {
			continue
		}
		for _, frame := range gratuitousARP(ip, i.HardwareAddr) {
			if err := sendARP(i.Index, frame); err != nil {
				return fmt.Errorf("on %s: %w", i.Name, err)
			}
		}
	}
	return nil
}

func onNetwork(i net.Interface, ip netip.Addr) bool {
	addrs, err := i.Addrs()
	return err == nil && slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Bits() < 32 && p.Contains(ip)
	})
}

// gratuitousARP is the announcement as a request and as a reply: some hosts heed the one, some the other.
func gratuitousARP(ip netip.Addr, from net.HardwareAddr) (frames [][]byte) {
	for _, operation := range []uint16{1, 2} {
		target := make([]byte, 6)
		if operation == 2 {
			target = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		}
		f := binary.BigEndian.AppendUint16(nil, 1) // Ethernet
		f = binary.BigEndian.AppendUint16(f, unix.ETH_P_IP)
		f = append(f, 6, 4)
		f = binary.BigEndian.AppendUint16(f, operation)
		f = append(append(f, from...), ip.AsSlice()...)
		frames = append(frames, append(append(f, target...), ip.AsSlice()...))
	}
	return frames
}

func sendARP(index int, frame []byte) error {
	const protocol = unix.ETH_P_ARP<<8&0xff00 | unix.ETH_P_ARP>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Ifindex: index, Protocol: protocol, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	return unix.Sendto(fd, frame, 0, to)
}
