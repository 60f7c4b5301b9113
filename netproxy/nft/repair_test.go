//go:build linux

package nft

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/pintle/pintle/netproxy/services"
)

func (w *world) nft(script string) {
	w.t.Helper()
	w.node.do(func() error {
		out, err := exec.Command("nft", script).CombinedOutput()
		if err != nil {
			w.t.Fatalf("nft %s: %v %s", script, err, out)
		}
		return nil
	})
}

func TestATableThatSomebodyElseBreaksIsRepaired(t *testing.T) {
	w := newWorld(t, 2, false)
	w.serve(0)
	p := w.proxy("t")
	apply(t, p, nil, svc(nil, 0))
	other := svc(func(s *services.Service) { s.Name, s.ClusterIPs, s.Ports[0].NodePort = "other", nil, 30081 }, 0)
	apply(t, p, nil, other)
	repair := func(want bool, after string) {
		t.Helper()
		got, err := p.Repair(context.Background())
		if err != nil || got != want {
			t.Fatalf("after %s: repaired %v, %v; want %v", after, got, err, want)
		}
		for _, addr := range []string{"10.96.0.5:80", "10.244.0.1:30081"} {
			if got, err := w.pods[1].ask("tcp4", addr); err != nil || got[0] != '0' {
				t.Fatalf("after %s: %s: %q %v", after, addr, got, err)
			}
		}
	}
	repair(false, "nothing")
	c, err := w.pods[1].dial("tcp4", "10.96.0.5:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := ask(c); err != nil {
		t.Fatal(err)
	}
	w.nft("add table ip stranger")
	repair(false, "a stranger's table came")
	for _, script := range []string{"flush map ip pintle-t endpoints", "flush table ip pintle-t", "flush ruleset",
		"add rule ip pintle-t translate drop", "delete table ip pintle-t"} {
		w.nft(script)
		repair(true, script)
		repair(false, "the repair of "+script)
	}
	apply(t, p, other, nil) // changes go on as before
	repair2, err := p.Repair(context.Background())
	if err != nil || repair2 {
		t.Fatalf("after a change: %v %v", repair2, err)
	}
	c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := ask(c); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
}

// A large table that only we change costs one question.
func BenchmarkRepairOfUntouched10000(b *testing.B) {
	needRoot(b)
	n := newNS(b)
	n.do(func() error {
		p, err := New(testConfig("bench"))
		if err != nil {
			return err
		}
		defer p.Close()
		if err := p.Apply(context.Background(), manyServices(10_000)); err != nil {
			return err
		}
		start := time.Now()
		p.gen = 0 // as if somebody else had changed something
		if did, err := p.Repair(context.Background()); did || err != nil {
			b.Errorf("%v %v", did, err)
		}
		full := time.Since(start)
		for b.Loop() {
			if did, err := p.Repair(context.Background()); did || err != nil {
				b.Errorf("%v %v", did, err)
			}
		}
		b.ReportMetric(float64(full.Milliseconds()), "ms/full-check")
		return nil
	})
}
