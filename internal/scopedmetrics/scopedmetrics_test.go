package scopedmetrics

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func counter(name string) prometheus.Collector {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name})
}

func count(t *testing.T, r *prometheus.Registry) int {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return len(families)
}

func TestMetricsAreRegisteredFromOpenToClose(t *testing.T) {
	registry := prometheus.NewRegistry()
	scope := New(registry)
	if err := scope.Registerer().Register(counter("early")); err != nil || count(t, registry) != 0 {
		t.Fatalf("before Open: %v, %d families", err, count(t, registry))
	}
	if err := scope.Open(); err != nil {
		t.Fatal(err)
	}
	if err := scope.Register(counter("late")); err != nil || count(t, registry) != 2 {
		t.Fatalf("while open: %v, %d families", err, count(t, registry))
	}
	scope.Close()
	if n := count(t, registry); n != 0 {
		t.Errorf("after Close %d families are registered", n)
	}
}

func TestOpenRegistersAllOrNothing(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(counter("taken"))
	scope := New(registry)
	for _, name := range []string{"free", "taken"} {
		if err := scope.Register(counter(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := scope.Open(); err == nil || count(t, registry) != 1 {
		t.Errorf("got %v, %d families", err, count(t, registry))
	}
}

func TestWithoutARegistryNothingIsRegistered(t *testing.T) {
	scope := New(nil)
	if scope.Registerer() != nil {
		t.Error("there is a registerer")
	}
	if err := scope.Open(); err != nil {
		t.Error(err)
	}
	scope.Close()
}
