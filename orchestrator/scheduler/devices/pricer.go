package devices

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/gpu/topology"
)

// Pricer learns what pods ask for from those that come, and prices leftovers for that mix. Any number of goroutines may use
// it. Learning is cheap; pricing takes milliseconds, and is done by whoever calls Reprice: Run, off the decisions' path.
type Pricer struct {
	latest atomic.Pointer[Priced]
	due    chan struct{} // has one when a pricing is due

	pricing sync.Mutex // held through a pricing

	mu          sync.Mutex // guards the rest
	mix         *topology.Mix
	priced      int // pods seen when last priced
	seen, older map[types.UID]struct{}
}

// Priced is prices and how many came before them.
type Priced struct {
	*topology.Prices
	Generation uint64
	Key        string // the generation in words
}

// When prices are due again: at first soon, then with each so many more.
const (
	firstPricing = 20
	rememberUIDs = 1 << 14
)

// NewPricer makes one that has seen nothing: its prices are nil.
func NewPricer() *Pricer {
	p := &Pricer{due: make(chan struct{}, 1), mix: topology.NewMix(0), seen: map[types.UID]struct{}{}}
	p.latest.Store(&Priced{})
	return p
}

// Observe counts a pod once, however often it is told of, as long as it isn't long ago.
func (p *Pricer) Observe(uid types.UID, c topology.PodClass) {
	if c.GPUs == 0 { // only its CPU matters, and not to the last one
		c = topology.PodClass{CPUMilli: (c.CPUMilli + 99) / 100 * 100}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.seen[uid]; ok {
		return
	}
	_, old := p.older[uid]
	if p.seen[uid] = struct{}{}; len(p.seen) >= rememberUIDs {
		p.seen, p.older = map[types.UID]struct{}{}, p.seen
	}
	if old {
		return
	}
	p.mix.Add(c)
	if p.dueLocked() {
		select {
		case p.due <- struct{}{}:
		default:
		}
	}
}

func (p *Pricer) dueLocked() bool {
	seen := p.mix.Seen()
	return seen >= firstPricing && (seen >= p.priced+p.priced/4 || seen >= p.priced+2000)
}

// Due says whether enough pods came for new prices.
func (p *Pricer) Due() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dueLocked()
}

// Reprice makes new prices of the mix as it is.
func (p *Pricer) Reprice() {
	p.pricing.Lock()
	defer p.pricing.Unlock()
	p.mu.Lock()
	classes := p.mix.Classes()
	p.priced = p.mix.Seen()
	p.mu.Unlock()
	before := p.latest.Load()
	next := before.Generation + 1
	p.latest.Store(&Priced{topology.NewPrices(classes, before.Prices), next, strconv.FormatUint(next, 10)})
}

// Latest are the newest prices; their Prices are nil while too little was seen.
func (p *Pricer) Latest() *Priced { return p.latest.Load() }

// Run prices whenever it is due, until ctx ends.
func (p *Pricer) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.due:
			if p.Due() {
				p.Reprice()
			}
		}
	}
}
