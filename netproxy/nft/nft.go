//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pintle/pintle/netproxy/services"
)

// Proxy owns one table. See the package comment.
type Proxy struct {
	cfg Config
	log *slog.Logger
	t   *table

	mu       sync.Mutex // serialises transactions and guards what follows
	conn     *nftables.Conn
	services map[services.Key]*services.Service
	claims   claims
	have     [numSets]map[string]string // what the kernel holds
	chains   map[string]bool            // the chains that it holds, by name, and the direct rules
	masqs    map[string]int             // how many claims want an element of setMasq
	synced   bool                       // false: the next Apply replaces the table
	gen      uint32                     // the ruleset's generation when it was last known to be ours; 0: unknown
	ask      *netlink.Conn              // for questions, apart from the transactions
	track    *nl.Handle                 // conntrack
}

const (
	// socketBuffer holds the largest batch: nf_tables takes a transaction as one message.
	socketBuffer = 256 << 20
	// chunk is the number of elements in one netlink message: its attribute's length has 16 bits.
	chunk = 400
)

// Available returns nil if this process may program nftables here.
func Available() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	// An empty create-and-delete needs the same rights as the real table.
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "pintle.probe"})
	c.DelTable(t)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return nil
}

// New checks the configuration and opens the netlink socket, in the network namespace of the
// calling thread. It programs nothing.
func New(cfg Config) (*Proxy, error) {
	if cfg.Name == "" {
		return nil, errors.New("nft: Config.Name is empty")
	}
	for _, p := range append(append([]netip.Prefix(nil), cfg.ServiceCIDRs...), cfg.PodCIDRs...) {
		if !p.IsValid() || !p.Addr().Is4() {
			return nil, fmt.Errorf("nft: %s is not an IPv4 network", p)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer))
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables socket: %w", err)
	}
	p := &Proxy{cfg: cfg, log: cfg.Logger, t: newTable(cfg.Name), conn: conn, services: map[services.Key]*services.Service{}, claims: newClaims()}
	if p.ask, err = netlink.Dial(unix.NETLINK_NETFILTER, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("open nftables socket: %w", err), conn.CloseLasting())
	}
	if p.track, err = nl.NewHandle(unix.NETLINK_NETFILTER); err != nil {
		return nil, errors.Join(fmt.Errorf("open conntrack socket: %w", err), p.ask.Close(), conn.CloseLasting())
	}
	return p, nil
}

// Apply programs the changes as one transaction: once it has returned nil, no new connection
// goes to an endpoint that they removed. The first call, and one after an error, replaces the
// whole table in one transaction too. After an error nothing has changed, and the next Apply
// (even with no changes) makes up for it.
func (p *Proxy) Apply(_ context.Context, changes []services.Change) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	batch := make([]changed, 0, len(changes))
	at := make(map[services.Key]int, len(changes))
	for _, ch := range changes {
		var key services.Key
		switch {
		case ch.New != nil:
			key = ch.New.Key
		case ch.Old != nil:
			key = ch.Old.Key
		default:
			continue
		}
		i, again := at[key]
		if !again {
			i, at[key] = len(batch), len(batch)
			batch = append(batch, changed{key: key, was: p.cfg.claimsOf(p.services[key])})
		}
		batch[i].is = p.cfg.claimsOf(ch.New)
		if p.services[key] = ch.New; ch.New == nil {
			delete(p.services, key)
		}
	}
	del, add := p.claims.change(batch, func(k services.Key) []claim { return p.cfg.claimsOf(p.services[k]) },
		func(k services.Key, cl *claim) {
			p.log.Warn("two Services claim one address and port; the first keeps it", "service", k.String(), "frontend", cl.String(), "owner", p.claims.owner[cl.key].String())
		})
	if !p.synced {
		return p.replace(changes)
	}
	if len(del) == 0 && len(add) == 0 {
		return nil
	}
	return p.commit(del, add, changes)
}

// replace makes the whole table anew in one transaction.
func (p *Proxy) replace(changes []services.Change) error {
	for i := range p.have {
		p.have[i] = map[string]string{}
	}
	p.chains, p.masqs = map[string]bool{}, map[string]int{}
	p.t.rules = 0
	if err := p.t.create(p.conn, &p.cfg); err != nil {
		return fmt.Errorf("make table: %w", err)
	}
	var add []element
	for k, s := range p.services {
		for _, cl := range p.cfg.claimsOf(s) {
			if p.claims.owner[cl.key] == k {
				add = append(add, cl.elements...)
			}
		}
	}
	return p.commit(nil, add, changes)
}

// commit sends one transaction.
func (p *Proxy) commit(del, add []element, changes []services.Change) error {
	p.synced = false
	if err := p.queue(del, add); err != nil {
		return err
	}
	if err := p.conn.Flush(); err != nil {
		return fmt.Errorf("commit nftables transaction: %w", err)
	}
	p.synced = true
	p.committed()
	p.forgetUDP(changes)
	return nil
}

// queue turns the difference into messages: deletions, chains, additions.
func (p *Proxy) queue(del, add []element) error {
	want := make(map[string]string, len(add))
	id := func(e *element) string { return string(rune('0'+e.set)) + e.key }
	if len(del) > 0 {
		for i := range add {
			want[id(&add[i])] = add[i].val
		}
	}
	var drop, put [numSets][]nftables.SetElement
	p.count(del, add, &drop, &put)
	for i := range del {
		e := &del[i]
		if e.set == setMasq {
			continue
		}
		have, ok := p.have[e.set][e.key]
		if !ok || have != e.val {
			continue
		}
		if v, keep := want[id(e)]; keep && v == have {
			continue
		}
		delete(p.have[e.set], e.key)
		drop[e.set] = append(drop[e.set], p.element(e))
	}
	for i := range add {
		e := &add[i]
		if e.set == setMasq {
			continue
		}
		if _, ok := p.have[e.set][e.key]; ok {
			continue // unchanged
		}
		if e.need != nil && !p.chains[e.need.name()] {
			p.chains[e.need.name()] = true
			p.t.addChain(p.conn, *e.need)
		}
		p.have[e.set][e.key] = e.val
		put[e.set] = append(put[e.set], p.element(e))
	}
	for s := range drop {
		for list := drop[s]; len(list) > 0; {
			n := min(chunk, len(list))
			if err := p.conn.SetDeleteElements(p.t.sets[s], list[:n]); err != nil {
				return fmt.Errorf("encode elements: %w", err)
			}
			list = list[n:]
		}
	}
	for s := range put {
		for list := put[s]; len(list) > 0; {
			n := min(chunk, len(list))
			if err := p.conn.SetAddElements(p.t.sets[s], list[:n]); err != nil {
				return fmt.Errorf("encode elements: %w", err)
			}
			list = list[n:]
		}
	}
	return nil
}

// count keeps the elements that several Services may want.
func (p *Proxy) count(del, add []element, drop, put *[numSets][]nftables.SetElement) {
	by := map[string]int{}
	for _, e := range del {
		if e.set == setMasq {
			by[e.key]--
		}
	}
	for _, e := range add {
		if e.set == setMasq {
			by[e.key]++
		}
	}
	for key, n := range by {
		if n == 0 {
			continue
		}
		e := element{set: setMasq, key: key}
		was := p.masqs[key]
		p.masqs[key] = was + n
		switch {
		case was == 0 && n > 0:
			p.have[setMasq][key] = ""
			put[setMasq] = append(put[setMasq], p.element(&e))
		case was > 0 && was+n == 0:
			delete(p.have[setMasq], key)
			delete(p.masqs, key)
			drop[setMasq] = append(drop[setMasq], p.element(&e))
		}
	}
}

func (p *Proxy) element(e *element) nftables.SetElement {
	se := nftables.SetElement{Key: []byte(e.key)}
	switch e.set {
	case setServices, setNodePorts:
		se.VerdictData = &expr.Verdict{Kind: unix.NFT_GOTO, Chain: e.val}
	case setEndpoints:
		se.Val = []byte(e.val)
	}
	return se
}

// Teardown removes the table, and with it the connections through it: the kernel translates only
// while a nat chain is registered. Close alone keeps them.
func (p *Proxy) Teardown() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.synced = false
	p.conn.AddTable(p.t.t)
	p.conn.DelTable(p.t.t)
	if err := p.conn.Flush(); err != nil {
		return fmt.Errorf("remove table %s: %w", p.t.t.Name, err)
	}
	return nil
}

// Close closes the socket and leaves the table as it is.
func (p *Proxy) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.track.Close()
	return errors.Join(p.ask.Close(), p.conn.CloseLasting())
}
