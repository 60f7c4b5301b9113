package gpu

import "fmt"

// SharingMode is how a GPU is given to pods. A MIG instance is always given whole.
type SharingMode string

// The modes. The names are those that NVIDIA's device plugin writes to labels.
const (
	Whole      SharingMode = "none"
	TimeSlices SharingMode = "time-slicing" // pods take turns; nothing keeps their memory apart
	MPS        SharingMode = "mps"          // pods run side by side under a control daemon, each with a share
	Fractions  SharingMode = "fractional"   // each pod has a share and an amount of memory
)

// Sharing divides each whole GPU of the machine.
type Sharing struct {
	Mode SharingMode // "": Whole
	// Replicas is how many pods share a GPU, with TimeSlices and MPS; nvidia.com/gpu counts them.
	Replicas int
}

func (s *Sharing) check() error {
	if s.Mode == "" {
		s.Mode = Whole
	}
	switch s.Mode {
	case Whole, Fractions:
		if s.Replicas > 1 {
			return fmt.Errorf("gpu.Sharing: %d replicas with the mode %q: replicas are for %q and %q", s.Replicas, s.Mode, TimeSlices, MPS)
		}
		s.Replicas = 1
	case TimeSlices, MPS:
		if s.Replicas < 2 {
			return fmt.Errorf("gpu.Sharing: the mode %q needs 2 replicas or more, not %d", s.Mode, s.Replicas)
		}
		if s.Mode == MPS && s.Replicas > 48 {
			return fmt.Errorf("gpu.Sharing: MPS serves at most 48 clients of a GPU, not %d", s.Replicas)
		}
	default:
		return fmt.Errorf("gpu.Sharing: no such mode %q; there are %q, %q, %q and %q", s.Mode, Whole, TimeSlices, MPS, Fractions)
	}
	return nil
}

func (s Sharing) shares() int { return max(1, s.Replicas) }
