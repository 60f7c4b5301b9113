package kubescheduler

import (
	"context"
	"fmt"
	"testing"

	"github.com/pintle/pintle/policies/abi"
)

// One pod over 5,000 nodes: as it is, and as the guest's own runtime goes about it, with one cycle over all nodes and
// pod and node encoded for every call that asks. Compare within one run.
func BenchmarkPlace(b *testing.B) {
	a := New(Config{})
	m := newModule(b, a)
	for _, c := range []struct{ name, settings string }{
		{"names", `{}`},           // filter and score look at names
		{"nodes", `{"Zone":"a"}`}, // filter decodes each node
	} {
		for _, own := range []bool{false, true} {
			name := c.name + "/here"
			if own {
				name = c.name + "/as its own runtime"
			}
			b.Run(name, func(b *testing.B) {
				e := policy(b, a, m, c.settings, abi.Limits{Fuel: 1 << 40, HostCalls: 1 << 30, Timeout: 1 << 40})
				p := placement(5000, "pod-3")
				nodes := map[uint32][]byte{}
				for _, row := range p.Rows {
					nodes[row] = encodeNode(nodeOf(p.Nodes, row))
				}
				p.NodeObject = func(row uint32) ([]byte, error) { return nodes[row], nil }
				if own {
					e.single = 1 << 30
					p.NodeObject = func(row uint32) ([]byte, error) { return encodeNode(nodeOf(p.Nodes, row)), nil }
				}
				b.ReportAllocs()
				i, fuel := 0, uint64(0)
				for b.Loop() {
					p.Pod.Name, p.Pod.UID = fmt.Sprintf("pod-%d", i), fmt.Sprint(i)
					i++
					p.Reset()
					spent, err := e.Place(context.Background(), p)
					if err != nil {
						b.Fatal(err)
					}
					fuel = spent.Fuel
				}
				b.ReportMetric(float64(fuel)/5000, "fuel/node")
			})
		}
	}
}
