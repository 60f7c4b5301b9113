package userspace

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/services"
	"github.com/pintle/pintle/netproxy/standby"
)

// Config of a Proxy; the zero value is usable.
type Config struct {
	// Address is where listeners are opened; the default is 127.0.0.1.
	Address netip.Addr
	// Dial reaches endpoints; nil is a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Standby holds what comes for Services that are scaled to zero; nil: nothing is held.
	Standby *standby.Desk
	Logger  *slog.Logger
}

// Mapping is one stand-in.
type Mapping struct {
	Service  services.Key
	PortName string
	Protocol corev1.Protocol
	// Address is the Service's, with the address 0.0.0.0 for a node port.
	Address netip.AddrPort
	// StandIn is where it can be reached on this host.
	StandIn netip.AddrPort
}

// Proxy holds the listeners. See New.
type Proxy struct {
	cfg  Config
	log  *slog.Logger
	ctx  context.Context // ends with Close, for what was accepted
	stop context.CancelCauseFunc
	wg   sync.WaitGroup

	mu    sync.Mutex // guards ports and closed
	ports map[portKey]*port
	done  bool
}

type portKey struct {
	front netip.AddrPort
	proto corev1.Protocol
}

// port is one listener and what it sends to.
type port struct {
	p        *Proxy
	mapping  Mapping
	close    func() error
	silent   bool       // its socket is closed for want of endpoints; guarded by p.mu, as close
	mu       sync.Mutex // guards what follows
	eps      []netip.AddrPort
	affinity time.Duration
	last     map[netip.Addr]sticky
}

type sticky struct {
	to    netip.AddrPort
	until time.Time
}

// errClosed is the cause of what Close ends.
var errClosed = errors.New("user-space proxy closed") //nolint:gochecknoglobals // a sentinel

// New returns a Proxy without listeners. Close ends it.
func New(cfg Config) *Proxy {
	if !cfg.Address.IsValid() {
		cfg.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{cfg: cfg, log: cfg.Logger, ports: map[portKey]*port{}}
	p.ctx, p.stop = context.WithCancelCause(context.Background())
	return p
}

// Apply opens, changes and closes listeners. Once it returns no new connection goes to an
// endpoint that the changes removed. A port that can't be opened is an error; the others are open.
func (p *Proxy) Apply(_ context.Context, changes []services.Change) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return net.ErrClosed
	}
	var errs error
	for _, ch := range changes {
		if ch.New != nil {
			for i := range ch.New.Ports {
				if sp := &ch.New.Ports[i]; sp.Protocol == corev1.ProtocolSCTP {
					p.log.Warn("user space carries no SCTP; this port has no stand-in", "service", ch.New.Key.String(), "port", sp.Port)
				}
			}
		}
		was, is := fronts(ch.Old), fronts(ch.New)
		for k := range was {
			if _, keep := is[k]; !keep {
				if pt := p.ports[k]; pt != nil {
					pt.close()
					delete(p.ports, k)
				}
			}
		}
		for k, want := range is {
			pt := p.ports[k]
			if pt == nil {
				pt = &port{p: p, mapping: want.mapping, last: map[netip.Addr]sticky{}}
				pt.set(want.eps, want.affinity)
				if err := pt.open(k); err != nil {
					errs = errors.Join(errs, err)
					continue
				}
				p.ports[k] = pt
			}
			pt.set(want.eps, want.affinity)
			if err := pt.hush(k, len(want.eps) == 0 && !(want.held && p.cfg.Standby != nil && k.proto == corev1.ProtocolTCP)); err != nil {
				errs = errors.Join(errs, err)
			}
		}
	}
	return errs
}

// hush closes the socket of a port without endpoints, so that the kernel refuses what comes, TCP and
// UDP, and opens it again under the same stand-in where that is still free.
func (pt *port) hush(k portKey, silent bool) error {
	if silent == pt.silent {
		return nil
	}
	pt.silent = silent
	if silent {
		pt.close()
		return nil
	}
	open := pt.openTCP
	if k.proto == corev1.ProtocolUDP {
		open = pt.openUDP
	}
	if err := open(pt.mapping.StandIn); err == nil {
		return nil
	}
	err := pt.open(k)
	pt.silent = err != nil // tried again with the next change
	return err
}

type front struct {
	mapping  Mapping
	eps      []netip.AddrPort
	affinity time.Duration
	held     bool // what comes while there are no endpoints waits for one
}

func fronts(s *services.Service) map[portKey]front {
	out := map[portKey]front{}
	if s == nil {
		return out
	}
	for i := range s.Ports {
		sp := &s.Ports[i]
		if sp.Protocol != corev1.ProtocolTCP && sp.Protocol != corev1.ProtocolUDP {
			continue
		}
		add := func(a netip.AddrPort, eps []netip.AddrPort) {
			out[portKey{a, sp.Protocol}] = front{Mapping{Service: s.Key, PortName: sp.Name, Protocol: sp.Protocol, Address: a}, eps, s.Affinity, s.ScaleToZero > 0}
		}
		for _, ip := range s.ClusterIPs {
			add(netip.AddrPortFrom(ip, sp.Port), sp.Internal)
		}
		if sp.NodePort != 0 {
			add(netip.AddrPortFrom(netip.IPv4Unspecified(), sp.NodePort), sp.External)
		}
	}
	return out
}

// candidates are the addresses to try: on Linux all of 127/8 is ours without root, so 10.96.1.2:8080
// becomes 127.96.1.2:8080 where that is free; a node port keeps its number; else any port.
func (p *Proxy) candidates(k portKey) []netip.AddrPort {
	any := netip.AddrPortFrom(p.cfg.Address, 0)
	switch {
	case k.front.Addr().IsUnspecified():
		return []netip.AddrPort{netip.AddrPortFrom(p.cfg.Address, k.front.Port()), any}
	case runtime.GOOS == "linux" && p.cfg.Address.IsLoopback():
		b := k.front.Addr().As4()
		b[0] = 127
		return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4(b), k.front.Port()), any}
	}
	return []netip.AddrPort{any}
}

func (pt *port) open(k portKey) (err error) {
	for _, a := range pt.p.candidates(k) {
		if k.proto == corev1.ProtocolTCP {
			err = pt.openTCP(a)
		} else {
			err = pt.openUDP(a)
		}
		if err == nil {
			return nil
		}
	}
	return err
}

func (pt *port) set(eps []netip.AddrPort, affinity time.Duration) {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	pt.eps, pt.affinity = eps, affinity
	for a, s := range pt.last {
		if !slices.Contains(eps, s.to) {
			delete(pt.last, a)
		}
	}
}

// pick chooses an endpoint for a client, not one of those in failed; ok is false when none is left.
func (pt *port) pick(client netip.Addr, failed []netip.AddrPort) (to netip.AddrPort, ok bool) {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	now := time.Now()
	if pt.affinity > 0 && len(failed) == 0 {
		if s, is := pt.last[client]; is && now.Before(s.until) {
			pt.last[client] = sticky{s.to, now.Add(pt.affinity)}
			return s.to, true
		}
	}
	left := pt.eps
	if len(failed) > 0 {
		left = nil
		for _, e := range pt.eps {
			if !slices.Contains(failed, e) {
				left = append(left, e)
			}
		}
	}
	if len(left) == 0 {
		return to, false
	}
	to = left[rand.IntN(len(left))]
	if pt.affinity > 0 {
		if len(pt.last) > 1<<16 {
			clear(pt.last)
		}
		pt.last[client] = sticky{to, now.Add(pt.affinity)}
	}
	return to, true
}

// removed says whether an endpoint is no longer one while others are.
func (pt *port) removed(to netip.AddrPort) bool {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	return len(pt.eps) > 0 && !slices.Contains(pt.eps, to)
}

// Mapping lists the stand-ins, sorted by Service.
func (p *Proxy) Mapping() []Mapping {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Mapping
	for _, pt := range p.ports {
		out = append(out, pt.mapping)
	}
	slices.SortFunc(out, func(a, b Mapping) int {
		return cmp.Or(cmp.Compare(a.Service.String(), b.Service.String()), a.Address.Compare(b.Address), cmp.Compare(a.Protocol, b.Protocol))
	})
	return out
}

// Close ends all listeners and connections and waits for them.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.done = true
	for k, pt := range p.ports {
		pt.close()
		delete(p.ports, k)
	}
	p.mu.Unlock()
	p.stop(errClosed)
	p.wg.Wait()
	return nil
}
