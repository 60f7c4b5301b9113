package netproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/pintle/pintle/netproxy/dns"
	"github.com/pintle/pintle/netproxy/ingress"
	"github.com/pintle/pintle/netproxy/nft"
	"github.com/pintle/pintle/netproxy/services"
	"github.com/pintle/pintle/netproxy/standby"
	"github.com/pintle/pintle/netproxy/userspace"
)

// Proxy serves one node. See the package comment.
type Proxy struct {
	cfg    Config
	log    *slog.Logger
	mode   Mode
	reason string
	ready  chan struct{}
	user   *userspace.Proxy // nil in nft mode
	desk   *standby.Desk
	met    *metrics

	mu    sync.Mutex // guards table
	table *services.Table

	dirty, ingressDirty chan struct{}

	stateMu    sync.Mutex // guards what follows
	programmed map[netip.Addr]int
	left       map[netip.Addr]time.Time // when addresses left programmed; the latest only
	changed    chan struct{}            // closed and replaced when programmed changes
	ing        *ingress.Controller
	rules      *nft.Proxy // nil while there are none
	dnsAt      netip.AddrPort
	httpAt     []net.Addr
	httpsAt    []net.Addr
}

// dataPlane is what Services are programmed into.
type dataPlane interface {
	Apply(ctx context.Context, changes []services.Change) error
}

// New checks the configuration, chooses the mode and starts nothing.
func New(cfg Config) (*Proxy, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	p := &Proxy{cfg: cfg, log: cfg.Logger, mode: cfg.Mode, reason: "configured", ready: make(chan struct{}), table: services.NewTable(cfg.NodeName),
		dirty: make(chan struct{}, 1), ingressDirty: make(chan struct{}, 1), programmed: map[netip.Addr]int{}, left: map[netip.Addr]time.Time{}, changed: make(chan struct{})}
	if p.mode != Userspace {
		err := nft.Available()
		switch {
		case err == nil && p.mode == Auto:
			p.mode, p.reason = NFT, "nftables can be programmed"
		case err != nil && p.mode == Auto:
			p.mode, p.reason = Userspace, err.Error()
		case err != nil:
			return nil, fmt.Errorf("netproxy: mode nft: %w", err)
		}
	}
	p.desk = standby.New(standby.Config{Client: cfg.Client, NodeName: cfg.NodeName, Logger: cfg.Logger, Used: p.used, Deadline: cfg.HoldFor})
	if p.mode == Userspace {
		p.user = userspace.New(userspace.Config{Address: cfg.UserspaceAddress, Dial: cfg.Dial, Standby: p.desk, Logger: cfg.Logger})
	}
	var err error
	if p.met, err = newMetrics(cfg.Metrics); err != nil {
		return nil, fmt.Errorf("netproxy: register metrics: %w", err)
	}
	return p, nil
}

// Mode says which data plane was chosen and why, in words.
func (p *Proxy) Mode() (Mode, string) { return p.mode, p.reason }

// Ready is closed once the first state is programmed and DNS and ingress serve.
func (p *Proxy) Ready() <-chan struct{} { return p.ready }

// Mapping lists what stands in for Service addresses, port 53 and the ingress's ports in user
// space; nil in nft mode, where nothing needs to.
func (p *Proxy) Mapping() []userspace.Mapping {
	if p.user == nil {
		return nil
	}
	out := p.user.Mapping()
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	if p.dnsAt.IsValid() {
		// The DNS Service has no endpoints: the server itself answers for it.
		out = slices.DeleteFunc(out, func(m userspace.Mapping) bool {
			return m.Address.Addr() == p.cfg.DNSServiceIP && m.Address.Port() == 53
		})
		ip := p.cfg.DNSServiceIP
		if !ip.IsValid() {
			ip = netip.IPv4Unspecified()
		}
		for _, proto := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP} {
			out = append(out, userspace.Mapping{Service: services.Key{Namespace: "kube-system", Name: "kube-dns"}, PortName: "dns", Protocol: proto, Address: netip.AddrPortFrom(ip, 53), StandIn: p.dnsAt})
		}
	}
	add := func(name string, port uint16, list []net.Addr) {
		for _, a := range list {
			if ta, ok := a.(*net.TCPAddr); ok {
				out = append(out, userspace.Mapping{Service: services.Key{Name: "ingress"}, PortName: name, Protocol: corev1.ProtocolTCP, Address: netip.AddrPortFrom(netip.IPv4Unspecified(), port), StandIn: ta.AddrPort()})
			}
		}
	}
	add("http", 80, p.httpAt)
	add("https", 443, p.httpsAt)
	return out
}

// Teardown removes what a proxy of this configuration leaves on the host when KeepRules is set or
// its process was killed. Run must have ended. Idempotent.
func (p *Proxy) Teardown() error {
	if p.mode != NFT {
		return nil
	}
	n, err := nft.New(p.nftConfig())
	if err != nil {
		return err
	}
	defer n.Close()
	return errors.Join(n.Teardown(), p.dropHost(), holdAddresses(addressLabel(p.cfg.Name+"/"+p.cfg.NodeName), nil))
}

func (p *Proxy) nftConfig() nft.Config {
	return nft.Config{Name: p.cfg.Name, ServiceCIDRs: p.cfg.ServiceCIDRs, PodCIDRs: p.cfg.PodCIDRs, DNSServiceIP: p.cfg.DNSServiceIP, Logger: p.log}
}

// Run works until ctx ends. It can run once.
func (p *Proxy) Run(ctx context.Context) (err error) {
	g, ctx := errgroup.WithContext(klog.NewContext(ctx, logr.FromSlogHandler(p.log.Handler())))
	// Whatever fails below, what was started ends before Run returns.
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		cancel(err)
		if werr := g.Wait(); err == nil {
			err = werr
		}
	}()
	plane := dataPlane(p.user)
	if p.mode == NFT {
		n, err := nft.New(p.nftConfig())
		if err != nil {
			return err
		}
		defer func() {
			if !p.cfg.KeepRules {
				err = errors.Join(err, n.Teardown(), p.dropHost())
			}
			n.Close()
		}()
		if err := p.raiseHost(); err != nil {
			return err
		}
		plane = n
		p.stateMu.Lock()
		p.rules = n
		p.stateMu.Unlock()
		if at := p.holdAt(); at.IsValid() {
			held := newHeldPlane(n, at, p.desk, &p.cfg)
			defer held.holder.Close()
			plane = held
		}
	} else {
		defer p.user.Close()
	}
	zone := dns.NewZone(p.cfg.ClusterDomain)
	var serving []<-chan struct{}
	if srv, err := p.openDNS(zone); err != nil {
		return err
	} else if srv != nil {
		g.Go(func() error { return srv.Run(ctx) })
		serving = append(serving, srv.Ready())
	}
	ing, err := p.openIngress()
	if err != nil {
		return err
	}
	if ing != nil {
		g.Go(func() error { return ing.Run(ctx) })
		serving = append(serving, ing.Ready())
	}
	p.stateMu.Lock()
	p.ing = ing
	p.stateMu.Unlock()

	f := informers.NewSharedInformerFactory(p.cfg.Client, 0)
	synced, err := p.watch(f, ing != nil)
	if err != nil {
		return err
	}
	f.StartWithContext(ctx)
	defer f.Shutdown()
	defer cancel(nil)
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil
	}
	if ing != nil {
		g.Go(func() error { p.ingressLoop(ctx, f, ing); return nil })
	}
	for _, ch := range serving {
		select {
		case <-ch:
		case <-ctx.Done():
			return nil
		}
	}
	var held *announcements
	if p.mode == NFT {
		label := addressLabel(p.cfg.Name + "/" + p.cfg.NodeName)
		held = &announcements{log: p.log, by: map[services.Key][]netip.Addr{}, hold: func(want []netip.Addr) error { return holdAddresses(label, want) }}
		defer func() {
			if !p.cfg.KeepRules {
				err = errors.Join(err, held.hold(nil))
			}
		}()
	}
	g.Go(func() error { return p.desk.Run(ctx) })
	p.serviceLoop(ctx, plane, zone, ing, held)
	return nil
}

// watch feeds the table from informers and returns their handlers' syncs.
func (p *Proxy) watch(f informers.SharedInformerFactory, withIngress bool) ([]cache.InformerSynced, error) {
	signal := func(ch chan struct{}) {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
	var synced []cache.InformerSynced
	add := func(inf cache.SharedIndexInformer, dirty chan struct{}, set, del func(any)) error {
		change := func(apply func(any)) func(any) {
			return func(obj any) {
				if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
					obj = d.Obj
				}
				p.mu.Lock()
				apply(obj)
				p.mu.Unlock()
				signal(dirty)
			}
		}
		if err := inf.SetTransform(trim); err != nil {
			return err
		}
		reg, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: change(set), UpdateFunc: func(_, o any) { change(set)(o) }, DeleteFunc: change(del)})
		if err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		synced = append(synced, reg.HasSynced)
		return nil
	}
	nothing := func(any) {}
	err := errors.Join(
		add(f.Core().V1().Services().Informer(), p.dirty,
			func(o any) { p.table.SetService(o.(*corev1.Service)) },
			func(o any) {
				s := o.(*corev1.Service)
				p.table.DeleteService(services.Key{Namespace: s.Namespace, Name: s.Name})
			}),
		add(f.Discovery().V1().EndpointSlices().Informer(), p.dirty,
			func(o any) { p.table.SetSlice(o.(*discoveryv1.EndpointSlice)) },
			func(o any) {
				s := o.(*discoveryv1.EndpointSlice)
				p.table.DeleteSlice(services.Key{Namespace: s.Namespace, Name: s.Name})
			}))
	if withIngress {
		err = errors.Join(err,
			add(f.Networking().V1().Ingresses().Informer(), p.ingressDirty, nothing, nothing),
			add(f.Networking().V1().IngressClasses().Informer(), p.ingressDirty, nothing, nothing),
			add(f.Core().V1().Secrets().Informer(), p.ingressDirty, nothing, nothing))
	}
	return synced, err
}

// trim drops what is not needed before an informer keeps it: other Secrets' data above all.
func trim(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Secret:
		cp := &corev1.Secret{ObjectMeta: o.ObjectMeta, Type: o.Type}
		if crt, ok := o.Data[corev1.TLSCertKey]; ok {
			cp.Data = map[string][]byte{corev1.TLSCertKey: crt, corev1.TLSPrivateKeyKey: o.Data[corev1.TLSPrivateKeyKey]}
		}
		cp.ManagedFields = nil
		return cp, nil
	}
	return obj, nil
}

// retry is how long a failed transaction waits before the next try.
const retry = 500 * time.Millisecond

// repairInterval is how often the rules on the host are looked at, for what somebody else did to them.
const repairInterval = time.Second

// repairer is a data plane that others on the host can break.
type repairer interface {
	Repair(ctx context.Context) (repaired bool, err error)
}

// serviceLoop programs changes as they come; those that come meanwhile make the next batch.
func (p *Proxy) serviceLoop(ctx context.Context, plane dataPlane, zone *dns.Zone, ing *ingress.Controller, held *announcements) {
	first := true
	var pending []services.Change
	var tick <-chan time.Time
	fragile, _ := plane.(repairer)
	if fragile != nil {
		ticker := time.NewTicker(repairInterval)
		defer ticker.Stop()
		tick = ticker.C
	}
	var looked time.Time
	var cost time.Duration
	for {
		p.mu.Lock()
		changes := p.table.Flush()
		p.mu.Unlock()
		if len(changes) > 0 || len(pending) > 0 || first {
			start := time.Now()
			zone.Apply(changes)
			p.desk.Mark(changes)
			if ing != nil {
				ing.SetServices(changes)
			}
			pending = append(pending, changes...)
			if err := plane.Apply(ctx, changes); err != nil {
				p.log.Error("could not program services; trying again", "err", err)
				p.met.failed()
				select {
				case <-ctx.Done():
					return
				case <-time.After(retry):
				}
				if p.user == nil { // user space has done what it could; its error is about single ports
					continue
				}
			}
			held.apply(pending)
			p.met.programmed(len(changes), time.Since(start))
			p.account(pending)
			p.desk.Wake(pending)
			pending = nil
			if first {
				first = false
				close(p.ready)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-p.dirty:
		case <-tick:
			// A look after somebody else's change lists the table: at most 2 % of the time goes there.
			if time.Since(looked) < 50*cost {
				continue
			}
			looked = time.Now()
			if repaired, err := fragile.Repair(ctx); err != nil {
				p.log.Warn("could not look after the rules on the host", "err", err)
				p.met.failed()
			} else if repaired {
				p.met.repaired()
			}
			cost = time.Since(looked)
		}
	}
}

func (p *Proxy) ingressLoop(ctx context.Context, f informers.SharedInformerFactory, ing *ingress.Controller) {
	for {
		ingresses, _ := f.Networking().V1().Ingresses().Lister().List(labels.Everything())
		classes, _ := f.Networking().V1().IngressClasses().Lister().List(labels.Everything())
		secrets := map[services.Key]*corev1.Secret{}
		for _, i := range ingresses {
			for _, t := range i.Spec.TLS {
				if s, err := f.Core().V1().Secrets().Lister().Secrets(i.Namespace).Get(t.SecretName); err == nil {
					secrets[services.Key{Namespace: i.Namespace, Name: t.SecretName}] = s
				}
			}
		}
		ing.SetIngresses(ingresses, classes, secrets)
		select {
		case <-ctx.Done():
			return
		case <-p.ingressDirty:
		}
	}
}

func (p *Proxy) openDNS(zone *dns.Zone) (*dns.Server, error) {
	var at []string
	if p.cfg.DNSServiceIP.IsValid() && p.mode == NFT {
		at = append(at, netip.AddrPortFrom(p.cfg.DNSServiceIP, 53).String())
	}
	if p.cfg.DNSAddress != "" {
		at = append(at, p.cfg.DNSAddress)
	} else if p.mode == Userspace {
		at = append(at, "127.0.0.1:0")
	}
	c := dns.Config{Zone: zone, Upstreams: p.cfg.DNSUpstreams, Logger: p.log}
	closeAll := func() {
		for _, u := range c.UDP {
			u.Close()
		}
		for _, t := range c.TCP {
			t.Close()
		}
	}
	for _, a := range at {
		u, t, err := listenBoth(a)
		if err != nil {
			closeAll()
			return nil, fmt.Errorf("listen for DNS: %w", err)
		}
		c.UDP, c.TCP = append(c.UDP, u), append(c.TCP, t)
	}
	if len(at) == 0 {
		return nil, nil
	}
	p.stateMu.Lock()
	p.dnsAt = c.UDP[len(c.UDP)-1].LocalAddr().(*net.UDPAddr).AddrPort()
	p.stateMu.Unlock()
	return dns.New(c)
}

// listenBoth opens UDP and TCP on one port; a port of 0 is tried until both are free.
func listenBoth(addr string) (*net.UDPConn, net.Listener, error) {
	ua, err := net.ResolveUDPAddr("udp4", addr)
	if err != nil {
		return nil, nil, err
	}
	for try := 0; ; try++ {
		u, err := net.ListenUDP("udp4", ua)
		if err != nil {
			return nil, nil, err
		}
		t, err := net.Listen("tcp4", u.LocalAddr().String())
		if err == nil {
			return u, t, nil
		}
		u.Close()
		if ua.Port != 0 || try > 20 {
			return nil, nil, err
		}
	}
}

func (p *Proxy) openIngress() (*ingress.Controller, error) {
	c := &p.cfg.Ingress
	if !c.enabled() {
		return nil, nil
	}
	http, https := append([]net.Listener(nil), c.HTTP...), append([]net.Listener(nil), c.HTTPS...)
	closeAll := func() {
		for _, l := range append(http, https...) {
			l.Close()
		}
	}
	for _, x := range []struct {
		addr string
		to   *[]net.Listener
	}{{c.HTTPAddress, &http}, {c.HTTPSAddress, &https}} {
		if x.addr == "" {
			continue
		}
		l, err := net.Listen("tcp", x.addr)
		if err != nil {
			closeAll()
			return nil, fmt.Errorf("listen for ingress: %w", err)
		}
		*x.to = append(*x.to, l)
	}
	ing, err := ingress.New(ingress.Config{HTTP: http, HTTPS: https, HTTPSPort: c.HTTPSPort, Class: c.Class, Default: c.DefaultCertificate, MaxBody: c.MaxBody,
		Dial: p.cfg.Dial, Client: p.cfg.Client, Addresses: p.cfg.NodeIPs, Name: p.cfg.NodeName, Standby: p.desk, Logger: p.log})
	if err != nil {
		closeAll()
		return nil, err
	}
	p.stateMu.Lock()
	for _, l := range http {
		p.httpAt = append(p.httpAt, l.Addr())
	}
	for _, l := range https {
		p.httpsAt = append(p.httpsAt, l.Addr())
	}
	p.stateMu.Unlock()
	return ing, nil
}
