package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"runtime"
)

// policiesMeasurement measures policies with as many cores: a subject in a process of its own, and the peers in another.
func policiesMeasurement(cores int) measurement {
	suffix := fmt.Sprintf(", %d cores", cores)
	if cores == 1 {
		suffix = ", 1 core"
	}
	names := []string{"admission", "place", "fuel", "reload", "64 policies", "idle policy"}
	for i := range names {
		names[i] += suffix
	}
	return measurement{table: "policies", rows: names, run: func(ctx context.Context, w *workshop) ([]Row, error) {
		guests, missing := buildGuests(ctx, w)
		program, err := w.build(ctx, ".", "./subject/policies")
		if err != nil {
			return nil, err
		}
		ours, err := policyResults(ctx, cores, program, guests)
		if err != nil {
			return nil, err
		}
		t := &policyTable{ours: ours, missing: missing, suffix: suffix}
		if peers, err := w.build(ctx, "policypeers", "."); err != nil {
			t.noPeers = err
		} else if t.peers, err = policyResults(ctx, cores, peers); err != nil {
			t.noPeers = err
		}
		return t.rows(), nil
	}}
}

// policyResults runs a program that prints values by name.
func policyResults(ctx context.Context, cores int, program string, args ...string) (map[string]float64, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(cmd.Environ(), fmt.Sprint("GOMAXPROCS=", min(cores, runtime.NumCPU())))
	out, err := cmd.Output()
	if err != nil {
		text := ""
		if exit, ok := err.(*exec.ExitError); ok {
			text = ": " + firstLines(string(exit.Stderr), 3)
		}
		return nil, fmt.Errorf("%s: %w%s", program, err, text)
	}
	results := map[string]float64{}
	if err := json.Unmarshal(out, &results); err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	return results, nil
}

// policyTable makes rows of what was measured.
type policyTable struct {
	ours, peers map[string]float64
	missing     map[string]error // by language: why its guests couldn't be built
	noPeers     error
	suffix      string
}

func value(results map[string]float64, name string) *float64 {
	if v, ok := results[name]; ok {
		return &v
	}
	return nil
}

var guestLanguages = []struct{ key, name string }{{"c", "C"}, {"rust", "Rust"}, {"assemblyscript", "AssemblyScript"}, {"go", "standard Go"}}

const bareWazero = "the module alone in wazero, without fuel"

func (t *policyTable) rows() []Row {
	var rows []Row
	add := func(r Row, missing error) {
		r.Row += t.suffix
		if missing != nil {
			r.Note = "not measured: " + missing.Error()
		}
		rows = append(rows, r)
	}
	for _, l := range guestLanguages {
		key, missing := "admission/"+l.key, t.missing[l.key]
		p50, p99 := 10.0, 50.0
		if l.key == "go" {
			p50, p99 = 40, 0
		}
		add(Row{Row: "admission by a label policy, " + l.name + ", p50", Unit: "µs", Pintle: value(t.ours, key+"/p50"), Peer: value(t.ours, key+"/bare/p50"), PeerName: bareWazero, below: p50}, missing)
		add(Row{Row: "admission by a label policy, " + l.name + ", p99", Unit: "µs", Pintle: value(t.ours, key+"/p99"), Peer: value(t.ours, key+"/bare/p99"), PeerName: bareWazero, below: p99}, missing)
	}
	for _, p := range []struct{ key, name string }{{"cel", "cel-go, the object decoded"}, {"opa", "OPA's Rego in Go, the object decoded"}} {
		name := p.name
		if t.noPeers != nil {
			name += " can't run here: " + t.noPeers.Error()
		}
		add(Row{Row: "admission by a label policy, C, beside " + p.key + ", p50", Unit: "µs", Pintle: value(t.ours, "admission/c/p50"), Peer: value(t.peers, p.key+"/p50"), PeerName: name}, t.missing["c"])
	}
	add(Row{Row: "admission by a label policy, C, beside native Go, p50", Unit: "µs", Pintle: value(t.ours, "admission/c/p50"), Peer: value(t.ours, "admission/native/p50"), PeerName: "the same in Go, one call"}, t.missing["c"])
	for _, l := range guestLanguages {
		missing := t.missing[l.key]
		most := 2.0
		if l.key == "go" {
			most = 4
		}
		at := func(nodes int, what string) *float64 {
			return value(t.ours, fmt.Sprintf("place/%s/%d%s", l.key, nodes, what))
		}
		add(Row{Row: "place over 5,000 nodes, " + l.name + ", p50", Unit: "µs", Pintle: at(5000, "/again/p50"), Peer: at(5000, "/native/p50"), PeerName: "native Go over the same records", ratioBelow: most}, missing)
		var ten *float64
		if v := at(5000, "/again/p50"); v != nil {
			ten = number(10 * *v)
		}
		add(Row{Row: "place over 50,000 nodes, " + l.name + ", p50", Unit: "µs", Pintle: at(50000, "/again/p50"), Peer: ten, PeerName: "ten times that for 5,000", ratioBelow: 1.25}, missing)
		add(Row{Row: "fuel: place over 5,000 nodes, " + l.name + ", p50", Unit: "µs", Pintle: at(5000, "/p50"), Peer: at(5000, "/bare/p50"), PeerName: bareWazero, ratioBelow: 1.15}, missing)
	}
	add(Row{Row: "reload of a 3 MB module, added to the p99 of other policies' calls", Unit: "µs", Pintle: value(t.ours, "reload/added"), below: 1000,
		Note: fmt.Sprintf("another process asks through a pipe every 500 µs, timed from when a call was due; p99 without reloads %s µs; the module has %s KiB", shown(value(t.ours, "reload/calm/p99")), shown(value(t.ours, "reload/KiB")))}, t.missing["large"])
	var sum *float64
	if v := value(t.ours, "many/one"); v != nil {
		sum = number(64 * *v)
	}
	add(Row{Row: "64 policies on one write", Unit: "µs", Pintle: value(t.ours, "many/all"), Peer: sum, PeerName: "64 times one", ratioBelow: 1.25}, t.missing["c"])
	add(Row{Row: "idle policy, memory above its own", Unit: "KiB", Pintle: value(t.ours, "idle/KiB"), below: 1024}, t.missing["c"])
	return rows
}
