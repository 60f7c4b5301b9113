package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// foreignMeasurement measures unmodified modules of other ABIs through their adapters, by the adapters' own benchmarks:
// they build the guests and know how a bare call of one looks.
func foreignMeasurement() measurement {
	kubewarden, kubescheduler := "foreign: Kubewarden", "foreign: kube-scheduler"
	return measurement{table: "policies", rows: []string{kubewarden, kubescheduler}, run: func(ctx context.Context, _ *workshop) ([]Row, error) {
		admit, err := benchmarks(ctx, "BenchmarkAdmit", "./policies/compat/kubewarden")
		if err != nil {
			return nil, err
		}
		place, err := benchmarks(ctx, "BenchmarkPlace", "./policies/compat/kubescheduler")
		if err != nil {
			return nil, err
		}
		var rows []Row
		for _, cores := range []string{"1", "2"} {
			suffix := ", " + cores + " cores"
			if cores == "1" {
				suffix = ", 1 core"
			}
			for _, language := range []string{"C", "Go"} {
				at := func(what string) *float64 { return value(admit, language+"/"+what+"/"+cores) }
				rows = append(rows, Row{Row: kubewarden + " waPC guest in " + language + ", a call" + suffix, Unit: "µs", Pintle: at("adapter"), Peer: at("bare"),
					PeerName: "the module's bare call in wazero, without fuel", ratioBelow: 1.2})
			}
			for _, guest := range []struct {
				key, name string
				known     float64 // ms
			}{{"names", "asks for names", 194}, {"nodes", "decodes every node", 559}} {
				at := func(what string) *float64 { return inMilliseconds(value(place, guest.key+"/"+what+"/"+cores)) }
				row := kubescheduler + " guest that " + guest.name + ", 5,000 nodes"
				rows = append(rows, Row{Row: row + suffix, Unit: "ms", Pintle: at("here"), Peer: number(guest.known), PeerName: "its own runtime (known figure, not run here)", ratioBelow: 0.2},
					Row{Row: row + ", beside a call a node" + suffix, Unit: "ms", Pintle: at("here"), Peer: at("as_its_own_runtime"), PeerName: "the same guest, called for every node with its object encoded, as its own runtime does"})
			}
		}
		return rows, nil
	}}
}

func inMilliseconds(us *float64) *float64 {
	if us == nil {
		return nil
	}
	return number(*us / 1000)
}

var benchmarkLine = regexp.MustCompile(`^Benchmark[^/]+/(\S+?)(?:-(\d+))?\s+\d+\s+([\d.]+) ns/op`)

// benchmarks runs a benchmark of the library's own on one and on two cores, three times, and returns its medians in
// microseconds by "NAME/CORES".
func benchmarks(ctx context.Context, name, pkg string) (map[string]float64, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-C", "../..", "-run", "^$", "-bench", "^"+name+"$", "-benchtime", "300ms", "-count", "3", "-cpu", "1,2", pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", pkg, err, firstLines(string(out), 3))
	}
	runs := map[string][]float64{}
	for line := range strings.Lines(string(out)) {
		if m := benchmarkLine.FindStringSubmatch(line); m != nil {
			cores := m[2]
			if cores == "" {
				cores = "1"
			}
			ns, err := strconv.ParseFloat(m[3], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %q: %w", pkg, line, err)
			}
			runs[m[1]+"/"+cores] = append(runs[m[1]+"/"+cores], ns/1000)
		}
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("%s printed no result: %s", pkg, firstLines(string(out), 3))
	}
	medians := map[string]float64{}
	for key, values := range runs {
		slices.Sort(values)
		medians[key] = values[len(values)/2]
	}
	return medians, nil
}
