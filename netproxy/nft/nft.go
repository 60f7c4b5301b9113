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
	have     [numSets]map[string]string // what the kernel holds
	chains   map[string]bool
	synced   bool // false: the next Apply replaces the table
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
	return &Proxy{cfg: cfg, log: cfg.Logger, t: newTable(cfg.Name), conn: conn, services: map[services.Key]*services.Service{}}, nil
}

// Apply programs the changes as one transaction: once it has returned nil, no new connection
// goes to an endpoint that they removed. The first call, and one after an error, replaces the
// whole table in one transaction too. After an error nothing has changed, and the next Apply
// (even with no changes) makes up for it.
func (p *Proxy) Apply(_ context.Context, changes []services.Change) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ch := range changes {
		if ch.New != nil {
			p.services[ch.New.Key] = ch.New
		} else if ch.Old != nil {
			delete(p.services, ch.Old.Key)
		}
	}
	var del, add []element
	if !p.synced {
		for i := range p.have {
			p.have[i] = map[string]string{}
		}
		p.chains = map[string]bool{}
		if err := p.t.create(p.conn, &p.cfg); err != nil {
			return fmt.Errorf("make table: %w", err)
		}
		for _, s := range p.services {
			add = p.cfg.elements(add, s)
		}
	} else {
		for _, ch := range changes {
			del = p.cfg.elements(del, ch.Old)
			add = p.cfg.elements(add, ch.New)
		}
		if len(del) == 0 && len(add) == 0 {
			return nil
		}
	}
	p.synced = false
	if err := p.queue(del, add); err != nil {
		return err
	}
	if err := p.conn.Flush(); err != nil {
		return fmt.Errorf("commit nftables transaction: %w", err)
	}
	p.synced = true
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
	for i := range del {
		e := &del[i]
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
		if have, ok := p.have[e.set][e.key]; ok {
			if have != e.val {
				p.log.Warn("two Services claim one address and port; the first keeps it", "frontend", e.describe())
			}
			continue
		}
		if e.need != nil && !p.chains[e.val] {
			p.chains[e.val] = true
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

func (p *Proxy) element(e *element) nftables.SetElement {
	se := nftables.SetElement{Key: []byte(e.key)}
	switch e.set {
	case setServices, setRejects:
		se.VerdictData = &expr.Verdict{Kind: unix.NFT_GOTO, Chain: e.val}
		if e.val == verdictDrop {
			se.VerdictData = &expr.Verdict{Kind: expr.VerdictDrop}
		}
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
	return p.conn.CloseLasting()
}
