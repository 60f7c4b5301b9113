package gpu

import "testing"

func TestAnInitContainerCountsOnlyForWhatItTakesBeyondTheOthers(t *testing.T) {
	for _, c := range []struct {
		name  string
		claim Claim
		want  taking // of the GPU
	}{
		{"no init container", Claim{Grants: []Grant{{Container: "a", GPU: "g"}, {Container: "b", GPU: "g"}}}, taking{units: 2}},
		{"one that is alike", Claim{Init: []string{"i"}, Grants: []Grant{{Container: "i", GPU: "g"}, {Container: "a", GPU: "g"}}}, taking{units: 1}},
		{"one with more", Claim{Init: []string{"i"}, Grants: []Grant{{Container: "i", GPU: "g"}, {Container: "i", GPU: "g"}, {Container: "a", GPU: "g"}}}, taking{units: 2}},
		{"two, one after the other", Claim{Init: []string{"i", "j"}, Grants: []Grant{{Container: "i", GPU: "g"}, {Container: "j", GPU: "g"}}}, taking{units: 1}},
		{"parts: the others take more", Claim{Init: []string{"i"}, Grants: []Grant{{Container: "i", GPU: "g", Share: 500, Memory: 5}, {Container: "a", GPU: "g", Share: 300, Memory: 3}, {Container: "b", GPU: "g", Share: 300, Memory: 3}}}, taking{share: 600, memory: 6}},
		{"parts: it takes more", Claim{Init: []string{"i"}, Grants: []Grant{{Container: "i", GPU: "g", Share: 500, Memory: 5}, {Container: "a", GPU: "g", Share: 300, Memory: 3}}}, taking{share: 500, memory: 5}},
		{"beside a sidecar", Claim{Init: []string{"i"}, Sidecars: []string{"s"}, Grants: []Grant{{Container: "i", GPU: "g", Share: 500}, {Container: "s", GPU: "g", Share: 100}, {Container: "a", GPU: "g", Share: 200}}}, taking{share: 600}},
	} {
		got := taking{}
		for _, g := range c.claim.counted() {
			got = got.plus(g)
		}
		if got != c.want {
			t.Errorf("%s: it takes %+v, not %+v", c.name, got, c.want)
		}
	}
}
