package topology

import "errors"

// Whole is a whole GPU in thousandths, the unit of shares.
const Whole = 1000

// Share is a part of a GPU: thousandths of its time and bytes of its memory.
type Share struct {
	Milli  int
	Memory int64
}

// Plus adds two shares.
func (s Share) Plus(o Share) Share { return Share{s.Milli + o.Milli, s.Memory + o.Memory} }

// Minus takes a share away.
func (s Share) Minus(o Share) Share { return Share{s.Milli - o.Milli, s.Memory - o.Memory} }

// Fits says whether the share can be had of what is free.
func (s Share) Fits(free Share) bool { return s.Milli <= free.Milli && s.Memory <= free.Memory }

// Check refuses shares that no GPU can give: a part of a GPU, or whole ones.
func (s Share) Check() error {
	switch {
	case s.Milli < 1 || s.Memory < 0:
		return errors.New("a share of a GPU must be positive")
	case s.Milli > Whole && s.Milli%Whole != 0:
		return errors.New("a share of more than one GPU must be of whole ones")
	}
	return nil
}
