package topology

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestFragmentationByHand(t *testing.T) {
	classes := []PodClass{
		{Frequency: 0.5, CPUMilli: 1000, GPUMilli: 500, GPUs: 1},
		{Frequency: 0.25, CPUMilli: 4000, GPUMilli: Whole, GPUs: 2},
		{Frequency: 0.25, CPUMilli: 1000, GPUMilli: Whole, GPUs: 1, Models: []string{"A100"}},
	}
	for _, c := range []struct {
		name string
		node NodeFree
		want float64
	}{
		{"all free, and everything fits", NodeFree{CPUMilli: 8000, Model: "A100", GPUMilli: []int{1000, 1000}}, 0},
		{"another model", NodeFree{CPUMilli: 8000, Model: "T4", GPUMilli: []int{1000, 1000}}, 0.25 * 2000},
		{"one GPU in part: two whole ones don't fit, and for the rest the part is lost where it is too small", NodeFree{CPUMilli: 8000, Model: "A100", GPUMilli: []int{1000, 400}}, 0.5*400 + 0.25*1400 + 0.25*400},
		{"no CPU: all that is idle is stranded", NodeFree{CPUMilli: 500, Model: "A100", GPUMilli: []int{1000, 300}}, 1300},
		{"nothing idle", NodeFree{CPUMilli: 8000, Model: "A100", GPUMilli: []int{0, 0}}, 0},
	} {
		if got := Fragmentation(&c.node, classes); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, not %v", c.name, got, c.want)
		}
	}
}

func TestFragmentationIsNeverMoreThanWhatIsIdle(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	for range 2000 {
		n := NodeFree{CPUMilli: r.Int64N(64000), Memory: r.Int64N(1 << 38)}
		idle := 0
		for range r.IntN(9) {
			free := r.IntN(Whole + 1)
			idle += free
			n.GPUMilli = append(n.GPUMilli, free)
		}
		var classes []PodClass
		count := 1 + r.IntN(6)
		for range count {
			c := PodClass{Frequency: 1 / float64(count), CPUMilli: r.Int64N(32000), Memory: r.Int64N(1 << 37), GPUMilli: 1 + r.IntN(Whole), GPUs: 1}
			if r.IntN(3) == 0 {
				c.GPUMilli, c.GPUs = Whole, 1+r.IntN(8)
			}
			classes = append(classes, c)
		}
		if f := Fragmentation(&n, classes); f < 0 || f > float64(idle)+1e-6 {
			t.Fatalf("%+v is fragmented by %v of %d idle", n, f, idle)
		}
	}
}

func TestSharesAddUp(t *testing.T) {
	free := Share{Milli: Whole, Memory: 80}
	taken := Share{Milli: 300, Memory: 30}
	if !taken.Fits(free) || !(Share{700, 50}).Fits(free.Minus(taken)) || (Share{701, 50}).Fits(free.Minus(taken)) || (Share{700, 51}).Fits(free.Minus(taken)) {
		t.Error("what is left of a GPU is not what was left")
	}
	if free.Minus(taken).Plus(taken) != free {
		t.Error("a share that is given back doesn't make whole")
	}
	for share, ok := range map[Share]bool{{}: false, {Milli: 1}: true, {Milli: 1000}: true, {Milli: 1500}: false, {Milli: 2000}: true, {Milli: 5, Memory: -1}: false} {
		if err := share.Check(); (err == nil) != ok {
			t.Errorf("%+v: %v", share, err)
		}
	}
}

func ExampleFragmentation() {
	// One GPU is free in half; half of the pods want a whole one.
	node := NodeFree{CPUMilli: 8000, GPUMilli: []int{500}}
	classes := []PodClass{{Frequency: 0.5, GPUMilli: 500, GPUs: 1}, {Frequency: 0.5, GPUMilli: Whole, GPUs: 1}}
	fmt.Println(Fragmentation(&node, classes))
	// Output: 250
}
