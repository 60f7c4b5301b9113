package topology

import (
	"math"
	"slices"
)

// What the value of a node is made of. They were found on one production trace, and little depends on them: the temper
// of the waste's softest choice, how many rounds its prices take, what a GPU stranded without CPU costs.
const (
	temper       = 8.0 // thousandths of a GPU
	step         = 0.3
	rounds       = 400
	wasteWeight  = 100.0
	strandWeight = 0.75
	cpuSlack     = 0.87
	rare         = 1e-4 // of requests: sizes that no hole waits for
)

// Prices say what leftovers of GPUs are worth to a workload: how well a hole packs depends on the mix of shares that
// people ask for, which fragmentation alone doesn't see. They are made of a mix once and don't change, so that any
// number of goroutines may use them.
type Prices struct {
	unit   int       // thousandths; every share of the mix is a multiple
	waste  []float64 // by free/unit: thousandths that are expected to stay unused
	lambda []price   // what each size costs; a start for the next mix's
	groups []demand
	cpus   []int64 // that classes ask for, rising: ranks
	memory []int64
	cpuPer float64 // CPU milli that go with a thousandth of a GPU; 0: none
}

type price struct {
	milli  int
	lambda float64
}

// demand is all classes that ask the same of GPUs.
type demand struct {
	milli, gpus int
	models      []string
	frequency   float64
	// runs is the frequency of those that run with so much CPU and memory, by ranks; in a row for each CPU rank.
	cpu, memory []uint16 // of a rank of all classes', the rank among these
	runs        []float64
	width       int
}

// NewPrices prices the leftovers of a mix: GPU classes and classes that ask for none, with frequencies of any sum. It
// takes milliseconds; start may be the prices of a mix that was alike, and saves most of it. Of a mix without GPUs
// there are none: nil.
func NewPrices(mix []PodClass, start *Prices) *Prices {
	p := &Prices{unit: Whole}
	sizes, cpu, gpu := map[int]float64{}, 0.0, 0.0
	total := 0.0
	for i := range mix {
		c := &mix[i]
		if c.Frequency <= 0 {
			continue
		}
		cpu += c.Frequency * float64(c.CPUMilli)
		if c.GPUs < 1 || c.GPUMilli < 1 || c.GPUMilli > Whole {
			continue
		}
		gpu += c.Frequency * float64(c.GPUs*c.GPUMilli)
		total += c.Frequency
		sizes[c.GPUMilli] += c.Frequency
	}
	if total == 0 {
		return nil
	}
	for m, f := range sizes {
		if f < rare*total {
			delete(sizes, m)
		} else {
			p.unit = gcd(p.unit, m)
		}
	}
	p.cpuPer = cpu / gpu
	p.price(sizes, total, start)
	p.group(mix, total)
	return p
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// price finds the waste of every leftover. A GPU with r free ends with r unused, or a tenant of size m comes first,
// with the mix's odds p_m, softened by the temper and by what is lost then:
//
//	L[r] = -τ·ln(e^(-r/τ) + Σ p_m·e^(-(L[r-m]+λ_m)/τ))
//
// λ keeps it honest: without, every hole counts on the rare tenant that would fill it. A unit of flow from a free GPU
// says how often the recursion uses each size; λ rises where that is more than the mix has.
func (p *Prices) price(sizes map[int]float64, total float64, start *Prices) {
	f := &flow{unit: p.unit, states: Whole/p.unit + 1}
	milli := make([]int, 0, len(sizes))
	for m := range sizes {
		milli = append(milli, m)
	}
	slices.Sort(milli)
	for _, m := range milli {
		f.steps, f.odds = append(f.steps, m/p.unit), append(f.odds, sizes[m]/total)
	}
	lambda := make([]float64, len(milli))
	if start != nil {
		for _, l := range start.lambda {
			if i, ok := slices.BinarySearch(milli, l.milli); ok {
				lambda[i] = l.lambda
			}
		}
	}
	f.settle(lambda)
	if p.waste = f.wastes(lambda); p.waste == nil { // a mix that no prices balance: each hole by what comes
		clear(lambda)
		p.waste = f.wastes(lambda)
	}
	for i, m := range milli {
		p.lambda = append(p.lambda, price{m, lambda[i]})
	}
}

// flow is the recursion, over what is free in units.
type flow struct {
	unit, states int
	steps        []int     // the sizes, rising
	odds         []float64 // of each
	z            []float64 // e^(-L/τ)
	part         []float64 // of z, by state and size
}

// weigh computes z and its parts.
func (f *flow) weigh(lambda []float64) {
	k := len(f.steps)
	if f.z == nil {
		f.z, f.part = make([]float64, f.states), make([]float64, f.states*k)
	}
	enter := make([]float64, k)
	for i := range enter {
		enter[i] = f.odds[i] * math.Exp(-lambda[i]/temper)
	}
	for r := range f.states {
		sum := math.Exp(-float64(r*f.unit) / temper)
		for i, s := range f.steps {
			if s > r {
				break
			}
			w := enter[i] * f.z[r-s]
			f.part[r*k+i] = w
			sum += w
		}
		f.z[r] = sum
	}
}

// settle finds the λ by which sizes are used as often as they come.
func (f *flow) settle(lambda []float64) {
	k := len(f.steps)
	through, use := make([]float64, f.states), make([]float64, k)
	for range rounds {
		f.weigh(lambda)
		clear(through)
		clear(use)
		through[f.states-1] = 1
		used := 0.0
		for r := f.states - 1; r > 0; r-- {
			if through[r] == 0 {
				continue
			}
			for i, s := range f.steps {
				if s > r {
					break
				}
				w := through[r] * f.part[r*k+i] / f.z[r]
				through[r-s] += w
				use[i] += w
				used += w
			}
		}
		if !(used > 0) || math.IsInf(used, 0) {
			return
		}
		for i := range lambda {
			l := lambda[i] + step*temper*math.Log(max(use[i]/used, 1e-12)/f.odds[i])
			lambda[i] = max(-Whole, min(l, Whole))
		}
	}
}

// wastes is L, or nil where it isn't all numbers.
func (f *flow) wastes(lambda []float64) []float64 {
	f.weigh(lambda)
	out := make([]float64, f.states)
	for r := range f.states {
		out[r] = -temper * math.Log(f.z[r])
		if math.IsNaN(out[r]) || math.IsInf(out[r], 0) {
			return nil
		}
	}
	return out
}

// Waste is how much of a GPU with so much free is expected to stay unused, in thousandths.
func (p *Prices) Waste(free int) float64 {
	free = max(0, min(free, Whole))
	return p.waste[free/p.unit] + float64(free%p.unit)
}

// group prepares Fragmentation: classes that ask the same of GPUs differ in CPU and memory alone, and how many of them
// run is looked up.
func (p *Prices) group(mix []PodClass, total float64) {
	members := map[int][]*PodClass{}
	for i := range mix {
		c := &mix[i]
		if c.Frequency <= 0 || c.GPUs < 1 || c.GPUMilli < 1 || c.GPUMilli > Whole {
			continue
		}
		p.cpus, p.memory = append(p.cpus, c.CPUMilli), append(p.memory, c.Memory)
		at := slices.IndexFunc(p.groups, func(g demand) bool {
			return g.milli == c.GPUMilli && g.gpus == c.GPUs && slices.Equal(g.models, c.Models)
		})
		if at < 0 {
			at = len(p.groups)
			p.groups = append(p.groups, demand{milli: c.GPUMilli, gpus: c.GPUs, models: c.Models})
		}
		members[at] = append(members[at], c)
	}
	slices.Sort(p.cpus)
	slices.Sort(p.memory)
	p.cpus, p.memory = slices.Compact(p.cpus), slices.Compact(p.memory)
	for i := range p.groups {
		p.groups[i].fill(members[i], total, p.cpus, p.memory)
	}
}

func (g *demand) fill(classes []*PodClass, total float64, cpus, memory []int64) {
	var c, m []int64
	for _, x := range classes {
		c, m = append(c, x.CPUMilli), append(m, x.Memory)
		g.frequency += x.Frequency / total
	}
	slices.Sort(c)
	slices.Sort(m)
	c, m = slices.Compact(c), slices.Compact(m)
	g.cpu, g.memory = ranks(cpus, c), ranks(memory, m)
	g.width = len(m) + 1
	g.runs = make([]float64, (len(c)+1)*g.width)
	for i := range len(c) + 1 {
		for j := range len(m) + 1 {
			for _, x := range classes {
				if i > 0 && j > 0 && x.CPUMilli <= c[i-1] && x.Memory <= m[j-1] {
					g.runs[i*g.width+j] += x.Frequency / total
				}
			}
		}
	}
}

// ranks says of each number of values of all, how many of own are among them. Both are in order.
func ranks(all, own []int64) []uint16 {
	out := make([]uint16, len(all)+1)
	at := 0
	for i, v := range all {
		if at < len(own) && own[at] == v {
			at++
		}
		out[i+1] = uint16(at)
	}
	return out
}

// rank is how many of the values, which are in order, are at most v.
func rank(values []int64, v int64) int {
	low, high := 0, len(values)
	for low < high {
		if mid := (low + high) / 2; values[mid] <= v {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// Fragmentation is the node's, for the GPU classes of the mix.
func (p *Prices) Fragmentation(n *NodeFree) float64 {
	idle := 0
	for _, free := range n.GPUMilli {
		idle += free
	}
	if idle == 0 {
		return 0
	}
	cpu, memory := rank(p.cpus, n.CPUMilli), rank(p.memory, n.Memory)
	total, milli, fit, lost := 0.0, 0, 0, 0
	for i := range p.groups {
		g := &p.groups[i]
		if g.milli != milli {
			milli, fit, lost = g.milli, 0, 0
			for _, free := range n.GPUMilli {
				if free >= milli {
					fit++
				} else {
					lost += free
				}
			}
		}
		total += g.frequency * float64(idle)
		if fit >= g.gpus && (len(g.models) == 0 || slices.Contains(g.models, n.Model)) {
			total -= g.runs[int(g.cpu[cpu])*g.width+int(g.memory[memory])] * float64(idle-lost)
		}
	}
	return total
}

// Value is what is lost of a node, in thousandths of a GPU: what is expected to stay unused of its GPUs, by the price
// of each one's leftover, by fragmentation, and stranded without CPU. Smaller is better.
func (p *Prices) Value(n *NodeFree) float64 {
	v, idle := p.Fragmentation(n), 0
	for _, free := range n.GPUMilli {
		idle += free
		v += wasteWeight * p.Waste(free)
	}
	if p.cpuPer > 0 {
		v += strandWeight * max(0, float64(idle)-float64(n.CPUMilli)/(cpuSlack*p.cpuPer))
	}
	return v
}
