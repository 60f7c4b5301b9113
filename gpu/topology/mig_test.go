package topology

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func layouts() map[string]Layout {
	return map[string]Layout{"A100-40": A100With40GB(), "A100-80": A100With80GB(), "H100-80": H100With80GB(), "H200": H200With141GB(), "A30": A30()}
}

// most is how many instances of a profile fit on an empty GPU, as nvidia-smi mig -lgip says for each.
var most = map[string]map[int]int{
	"A100-40": {19: 7, 20: 1, 15: 4, 14: 3, 9: 2, 5: 1, 0: 1},
	"A30":     {14: 4, 21: 1, 5: 2, 6: 1, 0: 1},
}

func TestAnEmptyGPUHoldsAsManyInstancesAsDocumented(t *testing.T) {
	for name, l := range layouts() {
		want := most[name]
		if want == nil {
			want = most["A100-40"]
		}
		for _, p := range l {
			var there []Instance
			for {
				at, err := l.Place(there, p.Name)
				if err != nil {
					break
				}
				there = append(there, Instance{p.ID, at})
			}
			if len(there) != want[p.ID] {
				t.Errorf("%s: %d of %s, not %d", name, len(there), p.Name, want[p.ID])
			}
		}
	}
}

func TestPlaceNeverOverlaps(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for name, l := range layouts() {
		for range 500 {
			var there []Instance
			for range 12 {
				p := l[r.IntN(len(l))]
				at, err := l.Place(there, p.Name)
				if err != nil {
					if len(l.Free(there, p)) > 0 {
						t.Fatalf("%s: %v, though %v are free for %s", name, err, l.Free(there, p), p.Name)
					}
					continue
				}
				for _, o := range there {
					if o.Placement.Overlaps(at) {
						t.Fatalf("%s: %s at %v beside %v", name, p.Name, at, there)
					}
				}
				there = append(there, Instance{p.ID, at})
				if len(there) > 2 && r.IntN(3) == 0 {
					at := r.IntN(len(there))
					there = append(there[:at:at], there[at+1:]...)
				}
			}
		}
	}
}

// What a placement leaves must be as much as any other placement of the same profile leaves.
func TestPlaceLeavesMostOptions(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for name, l := range layouts() {
		for range 500 {
			var there []Instance
			for range r.IntN(5) {
				p := l[r.IntN(len(l))]
				if free := l.Free(there, p); len(free) > 0 {
					there = append(there, Instance{p.ID, free[r.IntN(len(free))]})
				}
			}
			p := l[r.IntN(len(l))]
			at, err := l.Place(there, p.Name)
			if err != nil {
				continue
			}
			chosen := l.options(append(there[:len(there):len(there)], Instance{p.ID, at}))
			for _, other := range l.Free(there, p) {
				if left := l.options(append(there[:len(there):len(there)], Instance{p.ID, other})); left > chosen {
					t.Errorf("%s: %s beside %v at %v leaves %d, at %v %d", name, p.Name, there, at, chosen, other, left)
				}
			}
		}
	}
}

func TestASmallInstanceKeepsTheBigOnesPossible(t *testing.T) {
	l := H100With80GB()
	at, err := l.Place(nil, "1g.10gb")
	if err != nil {
		t.Fatal(err)
	}
	there := []Instance{{19, at}}
	for _, name := range []string{"4g.40gb", "2g.20gb"} {
		next, err := l.Place(there, name)
		if err != nil {
			t.Fatalf("after a 1g.10gb at %v: %v", at, err)
		}
		p, _ := l.Profile(name)
		there = append(there, Instance{p.ID, next})
	}
}

func TestProfilesAreNamedAsNVIDIADoes(t *testing.T) {
	for _, c := range []struct {
		slices          int
		memoryMB, total uint64
		want            string
	}{
		{1, 4864, 40960, "1g.5gb"}, {3, 19968, 40960, "3g.20gb"}, {7, 40192, 40960, "7g.40gb"},
		{1, 9728, 81920, "1g.10gb"}, {1, 19968, 81920, "1g.20gb"}, {4, 40192, 81920, "4g.40gb"},
		{1, 5952, 24576, "1g.6gb"}, {1, 16384, 143771, "1g.18gb"}, {3, 71424, 143771, "3g.71gb"},
	} {
		if got := ProfileName(c.slices, c.memoryMB, c.total<<20, ""); got != c.want {
			t.Errorf("%d slices with %d of %d MB are %s, not %s", c.slices, c.memoryMB, c.total, got, c.want)
		}
	}
}

func ExampleLayout_Place() {
	gpu := A100With40GB()
	var there []Instance
	for _, name := range []string{"1g.5gb", "3g.20gb", "4g.20gb"} {
		at, err := gpu.Place(there, name)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(name, "at", at)
		p, _ := gpu.Profile(name)
		there = append(there, Instance{p.ID, at})
	}
	// Output:
	// 1g.5gb at 6:1
	// 3g.20gb at 0:4
	// place MIG 4g.20gb: no room beside the 2 instances that are there
}
