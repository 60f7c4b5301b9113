package topology

import (
	"fmt"
	"math"
)

// Placement is the range of memory slices that a GPU instance takes.
type Placement struct{ Start, Size int }

func (p Placement) mask() uint32 { return (1<<p.Size - 1) << p.Start }

// String is how nvidia-smi writes it: start:size.
func (p Placement) String() string { return fmt.Sprintf("%d:%d", p.Start, p.Size) }

// Overlaps says whether two placements share a slice.
func (p Placement) Overlaps(o Placement) bool { return p.mask()&o.mask() != 0 }

// Profile is a kind of GPU instance and where it may go on an empty GPU. The placements carry all rules of
// the GPU: 3g takes four of eight memory slices, 4g can only start at 0, and so on.
type Profile struct {
	Name       string // 1g.10gb
	ID         int    // as the driver numbers it
	Slices     int    // of compute
	Placements []Placement
	// Only is the most instances of the profile, where it is fewer than its placements allow, as of those
	// with the one media engine (+me); 0: no such limit.
	Only int
}

// Instance is a GPU instance that exists, or is promised.
type Instance struct {
	ProfileID int
	Placement Placement
}

// Layout is the kinds of instances that a GPU can be divided into.
type Layout []Profile

func (l Layout) find(name string) (*Profile, bool) {
	for i := range l {
		if l[i].Name == name {
			return &l[i], true
		}
	}
	return nil, false
}

// Profile finds a profile by name.
func (l Layout) Profile(name string) (Profile, bool) {
	p, ok := l.find(name)
	if !ok {
		return Profile{}, false
	}
	return *p, true
}

// Free lists where an instance of the profile can go beside those that are there.
func (l Layout) Free(there []Instance, p Profile) []Placement {
	taken, same := occupied(there, p.ID)
	if p.Only > 0 && same >= p.Only {
		return nil
	}
	var out []Placement
	for _, at := range p.Placements {
		if taken&at.mask() == 0 {
			out = append(out, at)
		}
	}
	return out
}

func occupied(there []Instance, id int) (taken uint32, same int) {
	for _, i := range there {
		taken |= i.Placement.mask()
		if i.ProfileID == id {
			same++
		}
	}
	return taken, same
}

// Place chooses where an instance of the named profile goes beside those that are there: where it leaves
// most options. It returns an error where there is no room, or no such profile.
func (l Layout) Place(there []Instance, name string) (Placement, error) {
	p, ok := l.find(name)
	if !ok {
		return Placement{}, fmt.Errorf("place MIG %s: this GPU has no such profile", name)
	}
	best, value := Placement{}, -1
	for _, at := range l.Free(there, *p) {
		if v := l.options(append(there[:len(there):len(there)], Instance{ProfileID: p.ID, Placement: at})); v > value || v == value && at.Start > best.Start {
			best, value = at, v
		}
	}
	if value < 0 {
		return Placement{}, fmt.Errorf("place MIG %s: no room beside the %d instances that are there", name, len(there))
	}
	return best, nil
}

// options measures what can still be made of a GPU: each profile counts for every place that is left to it,
// in slices, because a place for a big instance is worth more, and is sooner lost, than one for a small.
func (l Layout) options(there []Instance) int {
	total := 0
	for _, p := range l {
		total += p.Slices * p.Slices * len(l.Free(there, p))
	}
	return total
}

// ProfileName is the name of a profile by NVIDIA's rule: compute slices, and memory as eighths of the GPU's,
// rounded to GB.
func ProfileName(slices int, memoryMB, totalBytes uint64, suffix string) string {
	const eighths = 8
	totalMB := float64(totalBytes) / (1 << 20)
	if totalMB == 0 {
		return fmt.Sprintf("%dg.%dgb%s", slices, (memoryMB+1023)/1024, suffix)
	}
	share := math.Ceil(float64(memoryMB)/totalMB*eighths) / eighths
	wholeGB := math.Ceil(totalMB / 1024)
	return fmt.Sprintf("%dg.%dgb%s", slices, int(math.Round(share*wholeGB)), suffix)
}
