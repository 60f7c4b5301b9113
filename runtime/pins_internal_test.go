package runtime

import (
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/runtime/cpus"
)

// A pod whose sandbox was lost starts anew: its init container has the CPUs that its main container had, and leaves them to it.
func TestAPodThatStartsAnewNeedsNoMoreCPUs(t *testing.T) {
	machine := &cpus.Machine{Memory: map[int]int64{0: 8 << 30}}
	for id := range 8 {
		machine.CPUs = append(machine.CPUs, cpus.CPU{ID: id})
	}
	p, err := newPins(machine, 1, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.load(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	main := []corev1.Container{{Name: "main"}}
	for range 2 {
		if _, err := p.give("pod", "first", 4, 0, true, nil, main); err != nil {
			t.Fatal("init container:", err)
		}
		if _, err := p.give("pod", "main", 4, 0, false, nil, nil); err != nil {
			t.Fatal("main container:", err)
		}
	}
	if _, err := p.give("other", "main", 4, 0, false, nil, nil); err == nil {
		t.Error("CPUs of one pod were given to another")
	}
}
