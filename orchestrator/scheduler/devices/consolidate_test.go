package devices

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/gpu/topology"
)

func TestConsolidationByHand(t *testing.T) {
	host := func(name, model string, cpu int64, free ...int) Host {
		return Host{Name: name, Free: topology.NodeFree{CPUMilli: cpu, Memory: 1 << 40, Model: model, GPUMilli: free}}
	}
	with := func(h Host, tenants ...Tenant) Host {
		h.Tenants = tenants
		return h
	}
	tenant := func(uid string, gpu, milli int, movable bool) Tenant {
		return Tenant{UID: types.UID(uid), GPU: gpu, Milli: milli, CPUMilli: 1000, Movable: movable}
	}
	for _, c := range []struct {
		name  string
		hosts []Host
		most  int
		want  []Move
	}{
		{"to the hole that fits best", []Host{
			with(host("a", "M", 8000, 700), tenant("p", 0, 300, true)),
			with(host("b", "M", 8000, 500), tenant("q", 0, 500, false)),
			with(host("c", "M", 8000, 310), tenant("r", 0, 690, false)),
		}, 5, []Move{{"p", "a", "c", 0}}},
		{"not onto an idle GPU", []Host{with(host("a", "M", 8000, 700), tenant("p", 0, 300, true)), host("b", "M", 8000, 1000)}, 5, nil},
		{"not to another model", []Host{with(host("a", "M", 8000, 700), tenant("p", 0, 300, true)), with(host("b", "N", 8000, 500), tenant("q", 0, 500, false))}, 5, nil},
		{"not where CPU is short", []Host{with(host("a", "M", 8000, 700), tenant("p", 0, 300, true)), with(host("b", "M", 900, 500), tenant("q", 0, 500, false))}, 5, nil},
		{"on the same node CPU doesn't matter", []Host{with(host("a", "M", 0, 700, 500), tenant("p", 0, 300, true), tenant("q", 1, 500, false))}, 5, []Move{{"p", "a", "a", 1}}},
		{"all of a GPU's tenants or none", []Host{
			with(host("a", "M", 8000, 400), tenant("p", 0, 300, true), tenant("q", 0, 300, true)),
			with(host("b", "M", 8000, 300), tenant("r", 0, 700, false)),
		}, 5, nil},
		{"who isn't movable stays", []Host{with(host("a", "M", 8000, 700), tenant("p", 0, 300, false)), with(host("b", "M", 8000, 500), tenant("q", 0, 500, false))}, 5, nil},
		{"no more than is allowed", []Host{
			with(host("a", "M", 8000, 600), tenant("p", 0, 200, true), tenant("q", 0, 200, true)),
			with(host("b", "M", 8000, 500), tenant("r", 0, 500, false)),
		}, 1, nil},
	} {
		if got := Consolidate(c.hosts, c.most); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, not %v", c.name, got, c.want)
		}
	}
}

func TestConsolidationFreesGPUsAndOverfillsNone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	moved := 0
	for range 300 {
		var hosts []Host
		for i := range 2 + r.IntN(8) {
			h := Host{Name: fmt.Sprint("n", i), Free: topology.NodeFree{CPUMilli: r.Int64N(8000), Memory: r.Int64N(8000), Model: fmt.Sprint(r.IntN(2))}}
			for g := range 1 + r.IntN(4) {
				free := topology.Whole
				for free > 0 && r.IntN(3) > 0 {
					milli := min(free, 10*(1+r.IntN(99)))
					free -= milli
					h.Tenants = append(h.Tenants, Tenant{UID: types.UID(fmt.Sprint(i, "/", g, "/", free)), GPU: g, Milli: milli, CPUMilli: r.Int64N(3000), Memory: r.Int64N(3000), Movable: r.IntN(4) > 0})
				}
				h.Free.GPUMilli = append(h.Free.GPUMilli, free)
			}
			hosts = append(hosts, h)
		}
		idleBefore := wholeFree(hosts)
		most := r.IntN(12)
		moves := Consolidate(hosts, most)
		if len(moves) > most {
			t.Fatalf("%d moves, where %d are allowed", len(moves), most)
		}
		for _, m := range moves {
			apply(t, hosts, m)
		}
		moved += len(moves)
		if after := wholeFree(hosts); len(moves) > 0 && after <= idleBefore {
			t.Fatalf("%d moves leave %d GPUs idle, where %d were", len(moves), after, idleBefore)
		}
	}
	if moved < 100 {
		t.Errorf("%d moves in all: that shows little", moved)
	}
}

func wholeFree(hosts []Host) (n int) {
	for _, h := range hosts {
		for _, free := range h.Free.GPUMilli {
			if free == topology.Whole {
				n++
			}
		}
	}
	return n
}

// apply does one move, and fails where it doesn't fit at that moment.
func apply(t *testing.T, hosts []Host, m Move) {
	t.Helper()
	at := func(name string) *Host {
		return &hosts[slices.IndexFunc(hosts, func(h Host) bool { return h.Name == name })]
	}
	from, to := at(m.From), at(m.To)
	k := slices.IndexFunc(from.Tenants, func(x Tenant) bool { return x.UID == m.UID })
	if k < 0 || !from.Tenants[k].Movable {
		t.Fatalf("%v moves who isn't there, or may not", m)
	}
	x := from.Tenants[k]
	from.Tenants = slices.Delete(slices.Clone(from.Tenants), k, k+1)
	from.Free.GPUMilli[x.GPU] += x.Milli
	from.Free.CPUMilli += x.CPUMilli
	from.Free.Memory += x.Memory
	x.GPU = m.GPU
	to.Tenants = append(slices.Clone(to.Tenants), x)
	to.Free.GPUMilli[x.GPU] -= x.Milli
	to.Free.CPUMilli -= x.CPUMilli
	to.Free.Memory -= x.Memory
	if to.Free.GPUMilli[x.GPU] < 0 || to.Free.CPUMilli < 0 || to.Free.Memory < 0 || from.Free.Model != to.Free.Model {
		t.Fatalf("%v doesn't fit: %+v", m, to.Free)
	}
}
