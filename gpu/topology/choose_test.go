package topology

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func checkChoice(t *testing.T, m *Matrix, available, required Set, size int) {
	t.Helper()
	got, ok := m.Choose(available, required, size)
	score, rest, want := exhaustive(m, available&All(m.Len()), required, size)
	if ok != want {
		t.Fatalf("Choose(%v, %v, %d) = %v; trying every set says %v", available.Indexes(), required.Indexes(), size, ok, want)
	}
	if !ok {
		return
	}
	if got.Len() != size || got&^available != 0 || got&required != required {
		t.Fatalf("Choose(%v, %v, %d) = %v, which is no such set", available.Indexes(), required.Indexes(), size, got.Indexes())
	}
	if s := m.Score(got); s != score {
		t.Errorf("Choose(%v, %v, %d) = %v scores %d; the best is %d", available.Indexes(), required.Indexes(), size, got.Indexes(), s, score)
	}
	if r := m.Score(available &^ got); r != rest {
		t.Errorf("Choose(%v, %v, %d) = %v leaves %d; of the best sets one leaves %d", available.Indexes(), required.Indexes(), size, got.Indexes(), r, rest)
	}
}

func TestChooseIsAsGoodAsTryingEverySet(t *testing.T) {
	t.Run("of known machines", func(t *testing.T) {
		for name, m := range machines(t) {
			for size := 0; size <= m.Len()+1; size++ {
				t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) { checkChoice(t, m, All(m.Len()), 0, size) })
			}
		}
	})
	t.Run("of random machines, parts of them taken, some GPUs required", func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		rounds := 20_000
		if testing.Short() {
			rounds = 2_000
		}
		for range rounds {
			n := 1 + r.IntN(9)
			levels, links := 1+r.IntN(6), r.IntN(6)
			m, err := NewMatrix(n, func(int, int) Link {
				return Link{PCI: PCILevel(1 + r.IntN(levels)), NVLinks: r.IntN(links + 1)}
			})
			if err != nil {
				t.Fatal(err)
			}
			available := Set(r.Uint32()) & All(n)
			required := available & Set(r.Uint32()) & Set(r.Uint32())
			checkChoice(t, m, available, required, r.IntN(n+2))
		}
	})
}

func TestTwoOfTheCubeMeshShareTwoLinks(t *testing.T) {
	m := machines(t)["dgx-1v"]
	got, _ := m.Choose(All(8), 0, 2)
	if at := got.Indexes(); cubeMesh(at[0], at[1]).NVLinks != 2 {
		t.Errorf("chose %v, which share %d NVLinks", at, cubeMesh(at[0], at[1]).NVLinks)
	}
}

func TestChooseRefusesWhatIsNotThere(t *testing.T) {
	m := machines(t)["dgx-1v"]
	for _, c := range []struct {
		available, required Set
		size                int
	}{{SetOf(0, 1), 0, 3}, {SetOf(0, 1), SetOf(2), 1}, {All(8), SetOf(0, 1, 2), 2}, {SetOf(8, 9), 0, 1}, {All(8), 0, -1}} {
		if got, ok := m.Choose(c.available, c.required, c.size); ok {
			t.Errorf("Choose(%v, %v, %d) = %v", c.available.Indexes(), c.required.Indexes(), c.size, got.Indexes())
		}
	}
}

func TestTheSameQuestionHasTheSameAnswer(t *testing.T) {
	for name, m := range machines(t) {
		first, _ := m.Choose(All(m.Len()), 0, m.Len()/2)
		for range 10 {
			if again, _ := m.Choose(All(m.Len()), 0, m.Len()/2); again != first {
				t.Errorf("%s: chose %v, then %v", name, first.Indexes(), again.Indexes())
			}
		}
	}
}

func FuzzChooseIsAsGoodAsTryingEverySet(f *testing.F) {
	f.Add(uint64(1), uint8(8), uint32(0xff), uint32(0), uint8(3))
	f.Add(uint64(2), uint8(10), uint32(0x3ff), uint32(5), uint8(4))
	f.Fuzz(func(t *testing.T, seed uint64, n uint8, available, required uint32, size uint8) {
		count := int(n % 11)
		r := rand.New(rand.NewPCG(seed, 1))
		spread := 1 + r.IntN(10)
		m, err := NewMatrix(count, func(int, int) Link { return Link{PCI: PCILevel(r.IntN(7)), NVLinks: r.IntN(spread)} })
		if err != nil {
			t.Fatal(err)
		}
		there := Set(available) & All(count)
		checkChoice(t, m, there, Set(required)&there, int(size%12))
	})
}

func TestScoreIsGoGpuallocators(t *testing.T) {
	for _, c := range []struct {
		link Link
		want int
	}{
		{Link{PCI: CrossNUMA}, 10}, {Link{PCI: SameNUMA}, 20}, {Link{PCI: HostBridge}, 30}, {Link{PCI: MultiSwitch}, 40},
		{Link{PCI: SingleSwitch}, 50}, {Link{PCI: SameBoard}, 60}, {Link{}, 0},
		{Link{PCI: SingleSwitch, NVLinks: 1}, 150}, {Link{PCI: CrossNUMA, NVLinks: 18}, 1810},
		{Link{PCI: 99, NVLinks: 1 << 40}, 6400}, {Link{PCI: -1, NVLinks: -1}, 0},
	} {
		if got := c.link.Score(); got != c.want {
			t.Errorf("%v scores %d, not %d", c.link, got, c.want)
		}
	}
}

func TestAMatrixOfTooManyGPUsIsRefused(t *testing.T) {
	for _, n := range []int{-1, MaxGPUs + 1} {
		if _, err := NewMatrix(n, func(int, int) Link { return Link{} }); err == nil {
			t.Errorf("a matrix of %d", n)
		}
	}
}

// BenchmarkChoose is what a decision costs. The worst of a machine's sizes is what counts.
func BenchmarkChoose(b *testing.B) {
	for name, m := range machines(b) {
		for _, size := range []int{1, 2, 4, 8, 12} {
			if size >= m.Len() {
				continue
			}
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					m.Choose(All(m.Len()), 0, size)
				}
			})
		}
	}
}

func ExampleMatrix_Choose() {
	// Four GPUs: 0 and 1 are joined by NVLinks, as are 2 and 3; GPU 0 is taken.
	m, err := NewMatrix(4, func(i, j int) Link {
		if i/2 == j/2 {
			return Link{PCI: SingleSwitch, NVLinks: 4}
		}
		return Link{PCI: CrossNUMA}
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	set, ok := m.Choose(SetOf(1, 2, 3), 0, 2)
	fmt.Println(set.Indexes(), ok)
	// Output: [2 3] true
}
