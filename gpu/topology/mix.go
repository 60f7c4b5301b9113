package topology

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxClasses bounds what a Mix remembers; the rarest are forgotten first.
const maxClasses = 1024

// Mix estimates what a workload asks for, by the classes of the pods that came lately: each counts, and counts half
// after half as many others as the Mix was made for. It isn't safe for concurrent use.
type Mix struct {
	growth  float64 // what a pod weighs more than the one before it: then the old needn't be touched
	weight  float64 // of the next pod
	total   float64
	seen    int
	classes map[string]*PodClass
}

// NewMix makes an empty one, in which a pod counts half once halfLife more have come; 0: 10,000.
func NewMix(halfLife int) *Mix {
	if halfLife <= 0 {
		halfLife = 10_000
	}
	return &Mix{growth: math.Exp2(1 / float64(halfLife)), weight: 1, classes: map[string]*PodClass{}}
}

// Seen is how many pods came.
func (m *Mix) Seen() int { return m.seen }

// Add counts a pod of the class, whose Frequency doesn't matter. The class is copied, its Models are not.
func (m *Mix) Add(c PodClass) {
	key := c.key()
	known := m.classes[key]
	if known == nil {
		if len(m.classes) >= maxClasses {
			m.forget()
		}
		c.Frequency = 0
		known = &c
		m.classes[key] = known
	}
	known.Frequency += m.weight
	m.total += m.weight
	m.weight *= m.growth
	m.seen++
	if m.weight > 1e100 {
		for _, c := range m.classes {
			c.Frequency /= m.weight
		}
		m.total /= m.weight
		m.weight = 1
	}
}

// forget drops the rarer half.
func (m *Mix) forget() {
	keys := make([]string, 0, len(m.classes))
	for key := range m.classes {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(m.classes[a].Frequency, m.classes[b].Frequency), strings.Compare(a, b))
	})
	for _, key := range keys[:len(keys)/2] {
		m.total -= m.classes[key].Frequency
		delete(m.classes, key)
	}
}

// Classes are the classes seen, with frequencies that sum to 1, in an order that depends on them alone.
func (m *Mix) Classes() []PodClass {
	keys := make([]string, 0, len(m.classes))
	for key := range m.classes {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	out := make([]PodClass, 0, len(keys))
	for _, key := range keys {
		c := *m.classes[key]
		c.Frequency /= m.total
		out = append(out, c)
	}
	return out
}

func (c *PodClass) key() string {
	b := make([]byte, 0, 48)
	for _, v := range []int64{int64(c.GPUMilli), int64(c.GPUs), c.CPUMilli, c.Memory} {
		b = append(strconv.AppendInt(b, v, 10), '/')
	}
	for _, model := range c.Models {
		b = append(append(b, model...), '/')
	}
	return string(b)
}
