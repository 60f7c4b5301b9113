package topology

// The layouts that NVIDIA documents in the MIG user guide, «Supported MIG Profiles», with the placements that
// nvidia-smi mig -lgipp lists there. A node asks its driver; these serve fakes, tests and planning.

func places(size int, starts ...int) []Placement {
	out := make([]Placement, len(starts))
	for i, start := range starts {
		out[i] = Placement{Start: start, Size: size}
	}
	return out
}

// sevenSlices is the division of A100, H100 and H200, whose profiles differ in memory alone: one compute
// slice with a single and a double share of memory, two, three, four and seven.
func sevenSlices(one, onePlus, two, three, four, seven string) Layout {
	return Layout{
		{Name: one, ID: 19, Slices: 1, Placements: places(1, 0, 1, 2, 3, 4, 5, 6)},
		{Name: one + "+me", ID: 20, Slices: 1, Placements: places(1, 0, 1, 2, 3, 4, 5, 6), Only: 1},
		{Name: onePlus, ID: 15, Slices: 1, Placements: places(2, 0, 2, 4, 6)},
		{Name: two, ID: 14, Slices: 2, Placements: places(2, 0, 2, 4)},
		{Name: three, ID: 9, Slices: 3, Placements: places(4, 0, 4)},
		{Name: four, ID: 5, Slices: 4, Placements: places(4, 0)},
		{Name: seven, ID: 0, Slices: 7, Placements: places(8, 0)},
	}
}

// A100With40GB is the layout of the A100 with 40 GB.
func A100With40GB() Layout {
	return sevenSlices("1g.5gb", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb")
}

// A100With80GB is the layout of the A100 with 80 GB.
func A100With80GB() Layout {
	return sevenSlices("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
}

// H100With80GB is the layout of the H100 with 80 GB.
func H100With80GB() Layout { return A100With80GB() }

// H200With141GB is the layout of the H200.
func H200With141GB() Layout {
	return sevenSlices("1g.18gb", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb")
}

// A30 is the layout of the A30: four slices.
func A30() Layout {
	return Layout{
		{Name: "1g.6gb", ID: 14, Slices: 1, Placements: places(1, 0, 1, 2, 3)},
		{Name: "1g.6gb+me", ID: 21, Slices: 1, Placements: places(1, 0, 1, 2, 3), Only: 1},
		{Name: "2g.12gb", ID: 5, Slices: 2, Placements: places(2, 0, 2)},
		{Name: "2g.12gb+me", ID: 6, Slices: 2, Placements: places(2, 0, 2), Only: 1},
		{Name: "4g.24gb", ID: 0, Slices: 4, Placements: places(4, 0)},
	}
}
