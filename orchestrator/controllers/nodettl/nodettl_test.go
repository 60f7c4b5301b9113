package nodettl

import "testing"

func TestDecideGoesUpAndDownAtDifferentSizes(t *testing.T) {
	at := 0
	for _, step := range []struct{ nodes, seconds int }{
		{0, 0}, {100, 0}, {101, 15}, {95, 15}, {89, 0}, {501, 30}, {460, 30}, {449, 15}, {5000, 300}, {1799, 60}, {1, 0},
	} {
		at = decide(at, step.nodes)
		if got := bounds()[at].seconds; got != step.seconds {
			t.Errorf("%d nodes: %d s, want %d", step.nodes, got, step.seconds)
		}
	}
}
