package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pintle/pintle/policies/sdk/sdktest"
)

// kubeScheduler is what kube-scheduler 1.37 binds per second with API server and etcd on 2 cores, 5,000 nodes and 10,000 pods: a
// known figure, not run here.
const kubeScheduler = 252

// schedulerLimit is how long one cell may take.
const schedulerLimit = 3 * time.Minute

// schedulerMeasurements measure decisions alone, and the whole way of pods through API, scheduler and store, each in a process
// of its own with 2 cores.
func schedulerMeasurements() (all []measurement) {
	type cell struct {
		row  string
		args []string
		rows func(values map[string]float64) []Row
	}
	rate := func(row string, target float64) func(map[string]float64) []Row {
		return func(v map[string]float64) []Row {
			p50, p99 := Row{Row: row + " p50", Unit: "µs", Pintle: value(v, "p50")}, Row{Row: row + " p99", Unit: "µs", Pintle: value(v, "p99")}
			if strings.HasSuffix(row, " on 5000 nodes") && !strings.Contains(row, "preemption") {
				p99.below = 1000
			}
			return []Row{reached(Row{Row: row, Unit: "1/s", Pintle: value(v, "rate")}, target), p50, p99}
		}
	}
	var cells []cell
	for _, nodes := range []int{1_000, 5_000, 15_000, 50_000} {
		for _, shape := range []string{"equal", "different"} {
			target := 0.0
			if nodes == 5_000 {
				target = map[string]float64{"equal": 100_000, "different": 5_000}[shape]
			}
			row := fmt.Sprintf("decisions: %s pods on %d nodes", shape, nodes)
			cells = append(cells, cell{row, []string{"decide", fmt.Sprint(nodes), shape}, rate(row, target)})
		}
	}
	for _, shape := range []string{"affinity", "spread", "preemption", "native policy", "WASM policy"} {
		row := fmt.Sprintf("decisions: %s on 5000 nodes", shape)
		arg := map[string]string{"native policy": "native", "WASM policy": "wasm:"}[shape]
		if arg == "" {
			arg = shape
		}
		cells = append(cells, cell{row, []string{"decide", "5000", arg}, rate(row, 0)})
	}
	for _, at := range []struct{ nodes, tasks int }{{1_000, 1_000}, {1_000, 100_000}, {100_000, 1_000}, {100_000, 100_000}, {100_000, 1_000_000}} {
		row := fmt.Sprintf("swarmkit's shape: %d tasks on %d nodes", at.tasks, at.nodes)
		cells = append(cells, cell{row, []string{"decide", fmt.Sprint(at.nodes), fmt.Sprint("services-", at.tasks)}, func(v map[string]float64) []Row {
			ms := value(v, "seconds")
			if ms != nil {
				ms = number(*ms * 1000)
			}
			return []Row{{Row: row, Unit: "ms", Pintle: ms, PeerName: "swarmkit", Note: "swarmkit can't be built here: ours alone"}}
		}})
	}
	cells = append(cells,
		cell{"gangs of 64 pods on 5000 nodes", []string{"gangs", "5000", "200"}, func(v map[string]float64) []Row {
			return []Row{{Row: "gangs of 64 pods on 5000 nodes", Unit: "pods/s", Pintle: value(v, "rate"), Note: "200 groups that wait, each placed whole; nothing is stored"},
				{Row: "gangs of 64 pods on 5000 nodes: the first is bound", Unit: "ms", Pintle: value(v, "first")}}
		}},
		cell{"end to end: 10000 equal pods on 5000 nodes", []string{"endtoend", "5000", "10000"}, func(v map[string]float64) []Row {
			row := Row{Row: "end to end: 10000 equal pods on 5000 nodes", Unit: "1/s", Pintle: value(v, "bound"), Peer: number(kubeScheduler),
				PeerName: "kube-scheduler 1.37", ratioAbove: 10, Note: "kube-scheduler: known figure, not run here"}
			return []Row{row, {Row: "end to end: pods created", Unit: "1/s", Pintle: value(v, "created")}}
		}},
		cell{"memory of the decider", []string{"memory", "5000", "150000"}, func(v map[string]float64) []Row {
			return []Row{{Row: "memory of the decider per node", Unit: "B", Pintle: value(v, "node")}, {Row: "memory of the decider per pod", Unit: "B", Pintle: value(v, "pod")}}
		}},
		cell{"take-over with 150000 pods on 5000 nodes", []string{"takeover", "5000", "150000"}, func(v map[string]float64) []Row {
			note := "the scheduler's own part: a member that becomes the leader has the objects in memory already"
			return []Row{{Row: "take-over with 150000 pods on 5000 nodes: ready", Unit: "ms", Pintle: value(v, "ready"), Note: note},
				{Row: "take-over with 150000 pods on 5000 nodes: first binding", Unit: "ms", Pintle: value(v, "bound"), Note: note}}
		}})
	for _, c := range cells {
		all = append(all, measurement{table: "scheduler", rows: []string{c.row}, run: func(ctx context.Context, w *workshop) ([]Row, error) {
			program, err := w.build(ctx, ".", "./subject/scheduling")
			if err != nil {
				return nil, err
			}
			args := append([]string(nil), c.args...)
			if args[2] == "wasm:" {
				wasm, err := sdktest.Build(ctx, "gpu-binpack", "c")
				if err != nil {
					return nil, err
				}
				dir, err := w.folder("binpack")
				if err != nil {
					return nil, err
				}
				file := filepath.Join(dir, "gpu-binpack.wasm")
				if err := os.WriteFile(file, wasm, 0o644); err != nil {
					return nil, err
				}
				args[2] += file
			}
			ctx, cancel := context.WithTimeout(ctx, schedulerLimit)
			defer cancel()
			values, err := policyResults(ctx, 2, program, args...)
			if err != nil {
				return nil, err
			}
			return c.rows(values), nil
		}})
	}
	return all
}

// reached judges a row by a bound from below; 0 is none.
func reached(r Row, bound float64) Row {
	if bound > 0 && r.Pintle != nil {
		met := *r.Pintle >= bound
		r.Target, r.Met = fmt.Sprintf(">= %s %s", plain(bound), r.Unit), &met
	}
	return r
}
