package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// Config of a Server. Zone and one listener at least are required.
type Config struct {
	Zone *Zone
	// UDP and TCP are served, and closed when Run ends.
	UDP []*net.UDPConn
	TCP []net.Listener
	// Upstreams get the names outside the cluster's domain. nil: those of /etc/resolv.conf, read
	// anew as it changes, less our own listeners.
	Upstreams []netip.AddrPort
	// ResolvConf is the file to read when Upstreams is nil; "" is /etc/resolv.conf.
	ResolvConf string
	Logger     *slog.Logger
}

// Server answers queries. See New.
type Server struct {
	cfg     Config
	z       *Zone
	log     *slog.Logger
	self    map[netip.AddrPort]bool
	forward chan struct{} // limits queries under way to the upstreams
	ready   chan struct{}
}

// maxForwards bounds the goroutines that wait for upstreams.
const maxForwards = 1024

// New checks the configuration and starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Zone == nil || len(cfg.UDP)+len(cfg.TCP) == 0 {
		return nil, errors.New("dns: Config needs a Zone and a listener")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	s := &Server{cfg: cfg, z: cfg.Zone, log: cfg.Logger, self: map[netip.AddrPort]bool{}, forward: make(chan struct{}, maxForwards), ready: make(chan struct{})}
	for _, c := range cfg.UDP {
		s.self[c.LocalAddr().(*net.UDPAddr).AddrPort()] = true
	}
	return s, nil
}

// Ready is closed once Run serves.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		for _, c := range s.cfg.UDP {
			c.Close()
		}
		for _, l := range s.cfg.TCP {
			l.Close()
		}
		return nil
	})
	for _, c := range s.cfg.UDP {
		for range runtime.GOMAXPROCS(0) {
			g.Go(func() error { return s.serveUDP(ctx, g, c) })
		}
	}
	for _, l := range s.cfg.TCP {
		g.Go(func() error { return s.serveTCP(ctx, g, l) })
	}
	close(s.ready)
	return g.Wait()
}

func (s *Server) serveUDP(ctx context.Context, g *errgroup.Group, c *net.UDPConn) error {
	in, out := make([]byte, 4096), make([]byte, 0, 65536)
	for {
		n, from, err := c.ReadFromUDPAddrPort(in)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("dns listener: %w", err)
			}
			continue // an ICMP error of an earlier answer
		}
		reply, forward := s.answer(in[:n], out[:0], false)
		switch {
		case forward:
			q := append([]byte(nil), in[:n]...)
			s.goForward(ctx, g, q, false, func(b []byte) { c.WriteToUDPAddrPort(b, from) })
		case len(reply) > 0:
			c.WriteToUDPAddrPort(reply, from)
		}
	}
}

func (s *Server) goForward(ctx context.Context, g *errgroup.Group, q []byte, tcp bool, send func([]byte)) {
	select {
	case s.forward <- struct{}{}:
	default:
		send(failure(q, dns.RcodeServerFailure))
		return
	}
	g.Go(func() error {
		defer func() { <-s.forward }()
		if b := s.ask(ctx, q, tcp); b != nil {
			send(b)
		} else {
			send(failure(q, dns.RcodeServerFailure))
		}
		return nil
	})
}

// tcpIdle ends a TCP connection that asks nothing.
const tcpIdle = 10 * time.Second

func (s *Server) serveTCP(ctx context.Context, g *errgroup.Group, l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("dns listener: %w", err)
			}
			select {
			case <-time.After(5 * time.Millisecond):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		g.Go(func() error {
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			s.tcpConn(ctx, c)
			return nil
		})
	}
}

func (s *Server) tcpConn(ctx context.Context, c net.Conn) {
	in, out := make([]byte, 65535+2), make([]byte, 0, 65537)
	for {
		c.SetDeadline(time.Now().Add(tcpIdle))
		if _, err := io.ReadFull(c, in[:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(in))
		if _, err := io.ReadFull(c, in[:n]); err != nil {
			return
		}
		reply, forward := s.answer(in[:n], out[:2], true)
		if forward {
			r := s.ask(ctx, append([]byte(nil), in[:n]...), true)
			if r == nil {
				r = failure(in[:n], dns.RcodeServerFailure)
			}
			reply = append(out[:2], r...)
		}
		if len(reply) <= 2 {
			return
		}
		binary.BigEndian.PutUint16(reply, uint16(len(reply)-2))
		if _, err := c.Write(reply); err != nil {
			return
		}
	}
}

// failure makes a bare answer with a code.
func failure(q []byte, rcode int) []byte {
	if len(q) < 12 {
		return nil
	}
	b := append([]byte(nil), q[:12]...)
	b[2] = b[2]&0x79 | 0x80
	b[3] = 0x80 | byte(rcode)
	end := 12
	if binary.BigEndian.Uint16(q[4:]) == 1 {
		if n := nameEnd(q); n > 0 && n+4 <= len(q) {
			end = n + 4
		}
	}
	b = append(b[:12], q[12:end]...)
	if end == 12 {
		b[4], b[5] = 0, 0
	}
	clear(b[6:12])
	return b
}

// nameEnd returns the offset after the question's name, or 0 when it is malformed.
func nameEnd(q []byte) int {
	i := 12
	for i < len(q) {
		l := int(q[i])
		if l == 0 {
			return i + 1
		}
		if l > 63 || i-12 > 255 {
			return 0
		}
		i += 1 + l
	}
	return 0
}

// answer appends the reply to out, or says that the query is for the upstreams. out may hold a
// prefix of two bytes for TCP. It allocates nothing for names of the table.
func (s *Server) answer(q, out []byte, tcp bool) (reply []byte, forward bool) {
	if len(q) < 12 || q[2]&0x80 != 0 { // an answer is never answered
		return nil, false
	}
	if q[2]&0x78 != 0 {
		return append(out, failure(q, dns.RcodeNotImplemented)...), false
	}
	end := nameEnd(q)
	if binary.BigEndian.Uint16(q[4:]) != 1 || end == 0 || end+4 > len(q) || end-12 > 255 {
		return append(out, failure(q, dns.RcodeFormatError)...), false
	}
	qtype, class := binary.BigEndian.Uint16(q[end:]), binary.BigEndian.Uint16(q[end+2:])
	var lower [256]byte
	name := lower[:end-12]
	for i, b := range q[12:end] {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		name[i] = b
	}
	limit, edns := 512, false
	if binary.BigEndian.Uint16(q[10:]) > 0 && len(q) >= end+4+11 && q[end+4] == 0 && binary.BigEndian.Uint16(q[end+5:]) == dns.TypeOPT {
		edns = true
		limit = min(max(int(binary.BigEndian.Uint16(q[end+7:])), 512), 4096)
	}
	if tcp {
		limit = 65535
	}
	if class != dns.ClassINET && class != dns.ClassANY {
		return append(out, failure(q, dns.RcodeRefused)...), false
	}
	z := s.z
	z.mu.RLock()
	ans := z.records[rrKey{string(name), qtype}]
	if ans == nil && qtype != dns.TypeCNAME {
		ans = z.records[rrKey{string(name), dns.TypeCNAME}]
	}
	exists := ans != nil || z.names[string(name)] > 0
	z.mu.RUnlock()
	start := len(out)
	if ans == nil {
		var inZone bool
		ans, exists, inZone = s.slow(name, qtype, exists)
		if !inZone {
			return nil, true
		}
	}
	if !z.synced.Load() {
		return append(out, failure(q, dns.RcodeServerFailure)...), false
	}
	if ans != nil && ans.alias != "" && (qtype == dns.TypeA || qtype == dns.TypeAAAA) {
		return nil, true // stub resolvers want what is behind it, too: see chase
	}
	out = append(out, q[:end+4]...)
	h := out[start:]
	h[2] = h[2]&0x01 | 0x84 // response, authoritative
	h[3] = 0x80             // recursion available
	clear(h[6:12])
	switch {
	case ans != nil:
		if len(h)+len(ans.body)+11 > limit && ans.extra == 0 || len(h)+len(ans.body)+11 > limit && !tcp {
			h[2] |= 0x02 // truncated: ask again over TCP
			break
		}
		binary.BigEndian.PutUint16(h[6:], ans.answers)
		binary.BigEndian.PutUint16(h[10:], ans.extra)
		out = append(out, ans.body...)
	default:
		if !exists {
			h[3] |= dns.RcodeNameError
		}
		if len(z.denial) > 0 {
			binary.BigEndian.PutUint16(h[8:], 1)
			out = append(out, z.denial...)
		}
	}
	if edns {
		h = out[start:]
		binary.BigEndian.PutUint16(h[10:], binary.BigEndian.Uint16(h[10:])+1)
		out = append(out, 0, 0, byte(dns.TypeOPT), 4096>>8, 0, 0, 0, 0, 0, 0, 0)
	}
	return out, false
}

// slow answers names that are computed: pods' addresses and reverse names; and says whether the
// name is ours at all.
func (s *Server) slow(wireName []byte, qtype uint16, exists bool) (ans *answer, found, inZone bool) {
	z := s.z
	name, _, err := dns.UnpackDomainName(wireName, 0)
	if err != nil {
		return nil, false, true
	}
	z.mu.RLock()
	targets := z.ptrs[string(wireName)]
	z.mu.RUnlock()
	if len(targets) > 0 {
		if qtype != dns.TypePTR {
			return nil, true, true
		}
		var list []dns.RR
		for _, t := range targets {
			list = append(list, &dns.PTR{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}, Ptr: t})
		}
		return pack(name, qtype, list, nil), true, true
	}
	if name != z.domain && !strings.HasSuffix(name, "."+z.domain) {
		return nil, false, false
	}
	if name == z.domain {
		if qtype == dns.TypeSOA {
			return pack(name, qtype, []dns.RR{dns.Copy(z.soa)}, nil), true, true
		}
		return nil, true, true
	}
	if ip, ok := z.podAddr(name); ok {
		if qtype == dns.TypeA {
			return pack(name, qtype, []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: ip.AsSlice()}}, nil), true, true
		}
		return nil, true, true
	}
	return nil, exists, true
}

// upstreamTimeout is how long one upstream gets.
const upstreamTimeout = 2 * time.Second

// ask answers what answer didn't: it follows one of our aliases, or puts the query to the upstreams.
func (s *Server) ask(ctx context.Context, q []byte, tcp bool) []byte {
	if alias, owner := s.aliasOf(q); alias != "" {
		return s.chase(ctx, q, owner, alias, tcp)
	}
	return s.askUpstreams(ctx, q, tcp)
}

// aliasOf returns where an address query's name leads if it is an ExternalName Service's.
func (s *Server) aliasOf(q []byte) (alias, owner string) {
	end := nameEnd(q)
	if end == 0 || end+4 > len(q) {
		return "", ""
	}
	if t := binary.BigEndian.Uint16(q[end:]); t != dns.TypeA && t != dns.TypeAAAA {
		return "", ""
	}
	name := strings.ToLower(string(q[12:end])) // lengths are below 'A'
	s.z.mu.RLock()
	defer s.z.mu.RUnlock()
	if ans := s.z.records[rrKey{name, dns.TypeCNAME}]; ans != nil {
		owner, _, _ = dns.UnpackDomainName(q[12:end], 0)
		return ans.alias, owner
	}
	return "", ""
}

// chase answers with the alias and what is behind it. Where that can't be had, the alias alone is the
// answer: a resolver that follows it itself may know more.
func (s *Server) chase(ctx context.Context, q []byte, owner, alias string, tcp bool) []byte {
	var query dns.Msg
	if query.Unpack(q) != nil || len(query.Question) != 1 {
		return failure(q, dns.RcodeFormatError)
	}
	reply := new(dns.Msg).SetReply(&query)
	reply.Compress, reply.Authoritative, reply.RecursionAvailable = true, true, true
	reply.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: ttl}, Target: alias}}
	size := dns.MinMsgSize
	if o := query.IsEdns0(); o != nil {
		size = min(max(int(o.UDPSize()), size), 4096)
		reply.SetEdns0(4096, false)
	}
	seen := map[string]bool{strings.ToLower(owner): true}
	for name := alias; !seen[strings.ToLower(name)] && len(seen) < maxAliases; {
		seen[strings.ToLower(name)] = true
		ask := new(dns.Msg).SetQuestion(name, query.Question[0].Qtype)
		b, err := ask.Pack()
		if err != nil {
			break
		}
		got, forward := s.answer(b, nil, true)
		if forward {
			if next, _ := s.aliasOf(b); next != "" { // another of ours
				reply.Answer = append(reply.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: ttl}, Target: next})
				name = next
				continue
			}
			got = s.askUpstreams(ctx, b, true)
			if got == nil {
				got = s.askUpstreams(ctx, b, false)
			}
		}
		var behind dns.Msg
		if got != nil && behind.Unpack(got) == nil {
			reply.Answer = append(reply.Answer, behind.Answer...)
			if reply.Rcode = behind.Rcode; behind.Rcode != dns.RcodeSuccess {
				reply.Ns = behind.Ns
			}
		}
		break
	}
	if !tcp {
		reply.Truncate(size)
	}
	b, err := reply.Pack()
	if err != nil {
		return failure(q, dns.RcodeServerFailure)
	}
	return b
}

// maxAliases bounds a chain of ExternalName Services.
const maxAliases = 8

// askUpstreams puts the query to the upstreams in turn and returns the first answer, or nil.
func (s *Server) askUpstreams(ctx context.Context, q []byte, tcp bool) []byte {
	for _, up := range s.upstreams() {
		if b, err := exchange(ctx, up, q, tcp); err == nil {
			return b
		} else if ctx.Err() != nil {
			return nil
		} else {
			s.log.Debug("upstream resolver failed", "upstream", up, "err", err)
		}
	}
	return nil
}

func exchange(ctx context.Context, up netip.AddrPort, q []byte, tcp bool) ([]byte, error) {
	network := "udp"
	if tcp {
		network = "tcp"
	}
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, network, up.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	buf := make([]byte, 65535)
	if tcp {
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, buf[:2]); err != nil {
			return nil, err
		}
		n := int(binary.BigEndian.Uint16(buf))
		if _, err := io.ReadFull(c, buf[:n]); err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
	if _, err := c.Write(q); err != nil {
		return nil, err
	}
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if n >= 12 && buf[0] == q[0] && buf[1] == q[1] && buf[2]&0x80 != 0 && sameQuestion(buf[:n], q) {
			return buf[:n], nil
		}
	}
}

// sameQuestion keeps out answers to something else. An error may come without the question.
func sameQuestion(answer, q []byte) bool {
	end := nameEnd(q)
	if binary.BigEndian.Uint16(answer[4:]) == 0 {
		return answer[3]&0xf != 0
	}
	return end > 0 && end+4 <= len(q) && len(answer) >= end+4 && strings.EqualFold(string(answer[12:end]), string(q[12:end])) && string(answer[end:end+4]) == string(q[end:end+4])
}

// upstreams leaves out ourselves: a resolv.conf that names us would loop.
func (s *Server) upstreams() []netip.AddrPort {
	list := s.cfg.Upstreams
	if list == nil {
		b, err := os.ReadFile(s.cfg.ResolvConf)
		if err != nil {
			return nil
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) >= 2 && f[0] == "nameserver" {
				if a, err := netip.ParseAddr(f[1]); err == nil {
					list = append(list, netip.AddrPortFrom(a, 53))
				}
			}
		}
	}
	var out []netip.AddrPort
	for _, a := range list {
		if !s.self[a] {
			out = append(out, a)
		}
	}
	return out
}
