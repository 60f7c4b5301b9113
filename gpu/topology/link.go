package topology

import "fmt"

// PCILevel is the nearest thing that two GPUs share on the PCI bus, farthest first.
type PCILevel int

// The levels, as nvidia-smi topo -m and NVML tell them.
const (
	UnknownPCI   PCILevel = iota
	CrossNUMA             // SYS: through the link between NUMA nodes
	SameNUMA              // NODE: through several host bridges of a NUMA node
	HostBridge            // PHB: through one host bridge
	MultiSwitch           // PXB: through several PCIe switches
	SingleSwitch          // PIX: through one PCIe switch
	SameBoard             // PSB: on one board
)

// String is nvidia-smi's word for the level.
func (l PCILevel) String() string {
	if l < UnknownPCI || l > SameBoard {
		return fmt.Sprintf("PCILevel(%d)", int(l))
	}
	return [...]string{"N/A", "SYS", "NODE", "PHB", "PXB", "PIX", "PSB"}[l]
}

// Link is how two GPUs of a machine reach each other.
type Link struct {
	PCI     PCILevel
	NVLinks int // straight, or through NVSwitches
}

// Score is go-gpuallocator's: 10 for each step that they are nearer on the bus, and 100 for each NVLink.
// It leaves links through NVSwitches out, so that there all sets are alike; counted, they still are. More than
// 64 NVLinks count as 64, and a level that isn't one as unknown.
func (l Link) Score() int {
	pci := l.PCI
	if pci < UnknownPCI || pci > SameBoard {
		pci = UnknownPCI
	}
	return 10*int(pci) + 100*min(max(0, l.NVLinks), 64)
}

// String is nvidia-smi's word for the link: NV18, or the level on the bus.
func (l Link) String() string {
	if l.NVLinks > 0 {
		return fmt.Sprintf("NV%d", l.NVLinks)
	}
	return l.PCI.String()
}

// MaxGPUs is how many GPUs a Matrix can hold: the most that one machine has.
const MaxGPUs = 16

// Matrix holds the score of every pair of a machine's GPUs. It doesn't change once made, so that any number
// of goroutines may use it.
type Matrix struct {
	n     int
	score [MaxGPUs][MaxGPUs]int64
}

// NewMatrix asks for the link of every pair i < j of n GPUs.
func NewMatrix(n int, link func(i, j int) Link) (*Matrix, error) {
	if n < 0 || n > MaxGPUs {
		return nil, fmt.Errorf("a matrix of %d GPUs: it can hold 0 to %d", n, MaxGPUs)
	}
	m := &Matrix{n: n}
	for i := range n {
		for j := i + 1; j < n; j++ {
			s := int64(link(i, j).Score())
			m.score[i][j], m.score[j][i] = s, s
		}
	}
	return m, nil
}

// Len is the number of GPUs.
func (m *Matrix) Len() int { return m.n }

// Score is the sum of the scores of all pairs in the set.
func (m *Matrix) Score(set Set) int {
	total := int64(0)
	for i := range m.n {
		if !set.Has(i) {
			continue
		}
		for j := i + 1; j < m.n; j++ {
			if set.Has(j) {
				total += m.score[i][j]
			}
		}
	}
	return int(total)
}
