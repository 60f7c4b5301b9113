package topology

import (
	"math/rand/v2"
	"testing"
)

// machines are the links of known machines, and of hard ones.
func machines(t testing.TB) map[string]*Matrix {
	t.Helper()
	build := func(n int, link func(i, j int) Link) *Matrix {
		m, err := NewMatrix(n, link)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	r := rand.New(rand.NewPCG(7, 7))
	random := func(n int, link func() Link) *Matrix {
		return build(n, func(int, int) Link { return link() })
	}
	return map[string]*Matrix{
		"dgx-a100":       build(8, func(i, j int) Link { return Link{PCI: socketed(i, j, 4), NVLinks: 12} }),
		"dgx-h100":       build(8, func(i, j int) Link { return Link{PCI: socketed(i, j, 4), NVLinks: 18} }),
		"dgx-2":          build(16, func(i, j int) Link { return Link{PCI: socketed(i, j, 8), NVLinks: 6} }),
		"dgx-1v":         build(8, cubeMesh),
		"dgx-1v-twice":   build(16, func(i, j int) Link { return twice(i, j) }),
		"pcie-16":        build(16, func(i, j int) Link { return Link{PCI: tree(i, j)} }),
		"pairs-16":       build(16, pairs),
		"same-16":        build(16, func(int, int) Link { return Link{PCI: HostBridge} }),
		"random-16":      random(16, func() Link { return Link{PCI: PCILevel(1 + r.IntN(6)), NVLinks: r.IntN(7)} }),
		"random-pci-16":  random(16, func() Link { return Link{PCI: PCILevel(1 + r.IntN(6))} }),
		"random-flat-16": random(16, func() Link { return Link{PCI: PCILevel(1 + r.IntN(2)), NVLinks: 5 + r.IntN(2)} }),
		"random-bits-16": random(16, func() Link { return Link{NVLinks: r.IntN(2)} }),
	}
}

func socketed(i, j, each int) PCILevel {
	if i/each == j/each {
		return SameNUMA
	}
	return CrossNUMA
}

// cubeMesh is the DGX-1 with V100: a hybrid cube mesh, as nvidia-smi topo -m prints it.
func cubeMesh(i, j int) Link {
	links := [8][8]int{
		{0, 1, 1, 2, 2, 0, 0, 0},
		{1, 0, 2, 1, 0, 2, 0, 0},
		{1, 2, 0, 2, 0, 0, 1, 0},
		{2, 1, 2, 0, 0, 0, 0, 1},
		{2, 0, 0, 0, 0, 1, 1, 2},
		{0, 2, 0, 0, 1, 0, 2, 1},
		{0, 0, 1, 0, 1, 2, 0, 2},
		{0, 0, 0, 1, 2, 1, 2, 0},
	}
	pci := CrossNUMA
	switch {
	case i/2 == j/2:
		pci = SingleSwitch
	case i/4 == j/4:
		pci = HostBridge
	}
	return Link{PCI: pci, NVLinks: links[i][j]}
}

func twice(i, j int) Link {
	if i/8 != j/8 {
		return Link{PCI: CrossNUMA}
	}
	return cubeMesh(i%8, j%8)
}

// tree is a PCIe machine: two sockets, two host bridges each, two switches below each, two GPUs on each.
func tree(i, j int) PCILevel {
	switch {
	case i/2 == j/2:
		return SingleSwitch
	case i/4 == j/4:
		return HostBridge
	case i/8 == j/8:
		return SameNUMA
	}
	return CrossNUMA
}

// pairs are NVLink bridges between neighbours, as on PCIe cards.
func pairs(i, j int) Link {
	l := Link{PCI: tree(i, j)}
	if i/2 == j/2 {
		l.NVLinks = 4
	}
	return l
}

// exhaustive tries every set. Of the best it returns the score, and the best score of what remains.
func exhaustive(m *Matrix, available, required Set, size int) (score, rest int, ok bool) {
	for set := available; ; set = (set - 1) & available { // every subset of available
		if set.Len() == size && set&required == required {
			s, r := m.Score(set), m.Score(available&^set)
			if !ok || s > score || s == score && r > rest {
				score, rest, ok = s, r, true
			}
		}
		if set == 0 {
			return score, rest, ok
		}
	}
}
