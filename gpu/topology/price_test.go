package topology

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// mixes are workloads of several kinds.
func mixes() map[string][]PodClass {
	return map[string][]PodClass{
		"whole": {{Frequency: 1, CPUMilli: 8000, GPUMilli: Whole, GPUs: 1}},
		"halves": {
			{Frequency: 0.5, CPUMilli: 4000, GPUMilli: 500, GPUs: 1},
			{Frequency: 0.5, CPUMilli: 8000, GPUMilli: Whole, GPUs: 1},
		},
		"sixes and fours": {
			{Frequency: 0.4, CPUMilli: 4000, GPUMilli: 600, GPUs: 1},
			{Frequency: 0.4, CPUMilli: 4000, GPUMilli: 400, GPUs: 1},
			{Frequency: 0.1, CPUMilli: 64000, GPUMilli: Whole, GPUs: 8},
			{Frequency: 0.1, CPUMilli: 2000},
		},
		"odd": {
			{Frequency: 0.3, CPUMilli: 4000, GPUMilli: 333, GPUs: 1, Models: []string{"A"}},
			{Frequency: 0.7, CPUMilli: 4000, Memory: 1 << 30, GPUMilli: 217, GPUs: 1},
		},
	}
}

func TestWasteIsWhatNobodyCanUse(t *testing.T) {
	for name, mix := range mixes() {
		p := NewPrices(mix, nil)
		small := Whole
		for _, c := range mix {
			if c.GPUs > 0 {
				small = min(small, c.GPUMilli)
			}
		}
		for free := range Whole + 1 {
			w := p.Waste(free)
			if math.IsNaN(w) || math.IsInf(w, 0) || w > float64(free)+1e-6 {
				t.Fatalf("%s: of %d free, %v are expected to be wasted", name, free, w)
			}
			if free < small && math.Abs(w-float64(free)) > 1e-6 {
				t.Errorf("%s: %d are too little for anybody, and %v of it wasted", name, free, w)
			}
		}
	}
}

func TestAHoleThatPacksIsWorthMore(t *testing.T) {
	p := NewPrices(mixes()["sixes and fours"], nil)
	// 600 and 400 fill a GPU. 500 is good for a 400 alone, and 100 of it are lost.
	if !(p.Waste(600) < p.Waste(500) && p.Waste(400) < p.Waste(500) && p.Waste(1000) < p.Waste(900)) {
		t.Errorf("wasted of 400: %v, 500: %v, 600: %v, 900: %v, 1000: %v", p.Waste(400), p.Waste(500), p.Waste(600), p.Waste(900), p.Waste(1000))
	}
	// What fragmentation doesn't see: 190 is worth less than 200 where shares of 200 are asked for.
	q := NewPrices([]PodClass{{Frequency: 1, GPUMilli: 200, GPUs: 1}}, nil)
	if q.Waste(190) < 100 || q.Waste(200) > 10 {
		t.Errorf("wasted of 190: %v, of 200: %v", q.Waste(190), q.Waste(200))
	}
}

func TestPricedFragmentationIsFragmentation(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var mix []PodClass
		total := 0.0
		for range 1 + r.IntN(30) {
			c := PodClass{Frequency: r.Float64(), CPUMilli: r.Int64N(9) * 4000, Memory: r.Int64N(5) << 33, GPUMilli: 100 * (1 + r.IntN(9)), GPUs: 1}
			switch r.IntN(4) {
			case 0:
				c.GPUMilli, c.GPUs = Whole, 1+r.IntN(8)
			case 1:
				c.Models = []string{string(rune('A' + r.IntN(2)))}
			}
			total += c.Frequency
			mix = append(mix, c)
		}
		p := NewPrices(mix, nil)
		for i := range mix {
			mix[i].Frequency /= total
		}
		for range 20 {
			n := NodeFree{CPUMilli: r.Int64N(64000), Memory: r.Int64N(1 << 36), Model: string(rune('A' + r.IntN(3)))}
			for range r.IntN(9) {
				n.GPUMilli = append(n.GPUMilli, r.IntN(11)*100)
			}
			if got, want := p.Fragmentation(&n), Fragmentation(&n, mix); math.Abs(got-want) > 1e-6 {
				t.Fatalf("%+v: %v, and by the definition %v", n, got, want)
			}
		}
	}
}

func TestValueByHand(t *testing.T) {
	p := NewPrices([]PodClass{{Frequency: 2, CPUMilli: 1000, GPUMilli: Whole, GPUs: 1}}, nil)
	full, idle := NodeFree{CPUMilli: 8000, GPUMilli: []int{0, 0}}, NodeFree{CPUMilli: 8000, GPUMilli: []int{1000, 1000}}
	starved, half := NodeFree{CPUMilli: 870, GPUMilli: []int{1000, 1000}}, NodeFree{CPUMilli: 8000, GPUMilli: []int{500, 1000}}
	if v := p.Value(&full); v != 0 {
		t.Errorf("nothing is left, and %v lost", v)
	}
	if v := p.Value(&idle); v > 1 {
		t.Errorf("two whole GPUs that everybody wants are worth %v less than two", v)
	}
	// All 2000 are fragmented (870 < 1000), and CPU is there for 1000 of them.
	if v := p.Value(&starved); math.Abs(v-(2000+0.75*1000)) > 1 {
		t.Errorf("a node without CPU: %v", v)
	}
	if v := p.Value(&half); v < 100*499 {
		t.Errorf("half a GPU that nobody wants: %v", v)
	}
}

func TestNobodyAsksForGPUs(t *testing.T) {
	if NewPrices(nil, nil) != nil || NewPrices([]PodClass{{Frequency: 1, CPUMilli: 1000}}, nil) != nil {
		t.Error("there are prices of nothing")
	}
}

func TestPricesDependOnTheMixAlone(t *testing.T) {
	for name, mix := range mixes() {
		a, b := NewPrices(mix, nil), NewPrices(mix, nil)
		warm := NewPrices(mix, a)
		for free := range Whole + 1 {
			if a.Waste(free) != b.Waste(free) {
				t.Fatalf("%s: %d is worth %v and %v", name, free, a.Waste(free), b.Waste(free))
			}
			if d := math.Abs(a.Waste(free) - warm.Waste(free)); math.IsNaN(d) {
				t.Fatalf("%s: from a start, %d is worth %v", name, free, warm.Waste(free))
			}
		}
	}
}

func TestMixForgets(t *testing.T) {
	m := NewMix(100)
	a, b := PodClass{GPUMilli: 300, GPUs: 1}, PodClass{GPUMilli: Whole, GPUs: 2, Models: []string{"A"}}
	for range 1000 {
		m.Add(a)
	}
	for range 100 {
		m.Add(b)
	}
	classes := m.Classes()
	if len(classes) != 2 {
		t.Fatalf("%+v", classes)
	}
	for _, c := range classes {
		if math.Abs(c.Frequency-0.5) > 0.01 { // the older count half
			t.Errorf("%+v", c)
		}
	}
	if m.Seen() != 1100 {
		t.Errorf("%d seen", m.Seen())
	}
}

func TestMixIsBoundedAndAddsUp(t *testing.T) {
	m := NewMix(10) // overflows its weights several times
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 20_000 {
		m.Add(PodClass{CPUMilli: int64(r.IntN(5000)), GPUMilli: 1 + r.IntN(999), GPUs: 1})
		if i%4000 != 0 {
			continue
		}
		classes, sum := m.Classes(), 0.0
		for _, c := range classes {
			sum += c.Frequency
		}
		if len(classes) > maxClasses || math.Abs(sum-1) > 1e-6 {
			t.Fatalf("%d classes, of frequencies that sum to %v", len(classes), sum)
		}
	}
}

func TestMatrixOfScores(t *testing.T) {
	for name, m := range machines(t) {
		var scores []int
		for i := range m.Len() {
			for j := i + 1; j < m.Len(); j++ {
				scores = append(scores, m.Score(SetOf(i, j)))
			}
		}
		got, err := MatrixOfScores(m.Len(), scores)
		if err != nil || *got != *m {
			t.Errorf("%s: a matrix of its scores is another one: %v", name, err)
		}
	}
	for _, bad := range []struct {
		n      int
		scores []int
	}{{17, make([]int, 136)}, {-1, nil}, {3, []int{1}}} {
		if _, err := MatrixOfScores(bad.n, bad.scores); err == nil {
			t.Errorf("a matrix of %d GPUs and %d scores", bad.n, len(bad.scores))
		}
	}
}

func ExampleNewPrices() {
	// Everybody asks for 600 or 400 thousandths: holes of those sizes fill, one of 500 wastes 100.
	p := NewPrices([]PodClass{{Frequency: 0.5, GPUMilli: 600, GPUs: 1}, {Frequency: 0.5, GPUMilli: 400, GPUs: 1}}, nil)
	fmt.Println(p.Waste(400) < p.Waste(500), p.Waste(600) < p.Waste(500))
	// Output: true true
}

func BenchmarkValue(b *testing.B) {
	p := NewPrices(mixes()["sixes and fours"], nil)
	n := NodeFree{CPUMilli: 8000, GPUMilli: []int{1000, 0, 400, 0, 600, 0, 0, 200}}
	for b.Loop() {
		p.Value(&n)
	}
}

func TestPricesOfStrangeMixesAreNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var last *Prices
	for range 60 {
		var mix []PodClass
		for range 1 + r.IntN(12) {
			c := PodClass{Frequency: math.Pow(10, -9*r.Float64()), CPUMilli: r.Int64N(9000), GPUMilli: 1 + r.IntN(Whole), GPUs: 1}
			switch r.IntN(5) {
			case 0:
				c.GPUMilli = Whole
			case 1:
				c.GPUMilli = 1 + r.IntN(5)
			case 2:
				c.GPUMilli = 501 + r.IntN(400)
			}
			mix = append(mix, c)
		}
		last = NewPrices(mix, last)
		for free := range Whole + 1 {
			if w := last.Waste(free); math.IsNaN(w) || math.IsInf(w, 0) || w > float64(free)+1e-6 {
				t.Fatalf("%+v: of %d free, %v wasted", mix, free, w)
			}
		}
	}
}
