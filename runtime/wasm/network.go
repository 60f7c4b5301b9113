package wasm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"github.com/pintle/pintle/runtime"
)

// addressLocked chooses a sandbox's address: by the hash of folder and sandbox, so that engines side by
// side seldom meet, then the next that no sandbox of ours has.
func (e *Engine) addressLocked(id string) (netip.Addr, error) {
	bits := 32 - e.addresses.Bits()
	base := binary.BigEndian.Uint32(e.addresses.Addr().AsSlice())
	if bits == 0 {
		return e.addresses.Addr(), nil
	}
	used := map[netip.Addr]bool{}
	for _, s := range e.sandboxes {
		for _, ip := range s.IPs {
			used[ip] = true
		}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(e.dir + "\x00" + id))
	size := uint32(1) << bits
	for i := range size {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], base+(h.Sum32()+i)%size)
		ip := netip.AddrFrom4(b)
		if b[3] != 0 && b[3] != 255 && !used[ip] {
			return ip, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address left in %s", e.addresses)
}

// listenPort is the port that a container serves on: its annotation, its declared ports, its
// environment's PINTLE_LISTEN or PORT, in this order. 0 is none.
func listenPort(spec *runtime.ContainerSpec, env []string) (uint16, error) {
	parse := func(source, value string) (uint16, error) {
		n, err := strconv.ParseUint(value[strings.LastIndex(value, ":")+1:], 10, 16)
		if err != nil || n == 0 {
			return 0, fmt.Errorf("%s %q is no TCP port", source, value)
		}
		return uint16(n), nil
	}
	if v := spec.Annotations[ListenAnnotation]; v != "" {
		return parse("annotation "+ListenAnnotation, v)
	}
	if len(spec.Ports) > 0 {
		return spec.Ports[0], nil
	}
	for _, key := range []string{"PINTLE_LISTEN", "PORT"} {
		for i := len(env) - 1; i >= 0; i-- {
			if v, ok := strings.CutPrefix(env[i], key+"="); ok && v != "" {
				return parse("variable "+key, v)
			}
		}
	}
	return 0, nil
}

// listen opens the pod's port. The sandbox's entry is removed by unlisten.
func (e *Engine) listen(ctx context.Context, sandboxID string, port uint16) (net.Listener, error) {
	e.mu.Lock()
	s := e.sandboxes[sandboxID]
	if s == nil {
		e.mu.Unlock()
		return nil, fmt.Errorf("sandbox %s: %w", sandboxID, runtime.ErrNotFound)
	}
	address := netip.AddrPortFrom(netip.IPv4Unspecified(), port)
	if !s.hostNetwork {
		address = netip.AddrPortFrom(s.IPs[0], port)
		if e.addresses.IsSingleIP() {
			address = netip.AddrPortFrom(s.IPs[0], 0)
		}
	}
	if _, taken := s.listeners[port]; taken {
		e.mu.Unlock()
		return nil, fmt.Errorf("listen on port %d: another container of the pod has it", port)
	}
	s.listeners[port] = netip.AddrPort{} // reserved
	e.mu.Unlock()

	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", address.String())
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		delete(s.listeners, port)
		return nil, fmt.Errorf("listen on the pod's port %d: %w", port, err)
	}
	real := l.Addr().(*net.TCPAddr).AddrPort()
	if s.hostNetwork {
		real = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), real.Port())
	}
	s.listeners[port] = real
	return l, nil
}

func (e *Engine) unlisten(sandboxID string, port uint16) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.sandboxes[sandboxID]; s != nil {
		delete(s.listeners, port)
	}
}

// Dial implements runtime.Engine. A port that no running guest serves refuses the connection.
func (e *Engine) Dial(ctx context.Context, sandboxID string, port uint16) (net.Conn, error) {
	e.mu.Lock()
	s := e.sandboxes[sandboxID]
	var to netip.AddrPort
	if s != nil {
		to = s.listeners[port]
	}
	e.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("dial sandbox %s: %w", sandboxID, runtime.ErrNotFound)
	}
	if !to.IsValid() {
		return nil, fmt.Errorf("dial port %d of sandbox %s: %w", port, sandboxID, syscall.ECONNREFUSED)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return nil, fmt.Errorf("dial port %d of sandbox %s: %w", port, sandboxID, errors.Unwrap(err))
	}
	return c, nil
}
