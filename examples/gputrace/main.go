// Command gputrace places the pods of a GPU cluster's trace by several policies, through Pintle's scheduler, and says how
// much of the GPUs each of them keeps in use.
//
//	go run ./examples/gputrace -nodes FILE -pods FILE [-seeds 10] [-demand 1.3] [-policy NAME|all] [-times] [-json]
//
// It is the experiment of Weng et al., "Beware of Fragmentation" (USENIX ATC 2023): pods are drawn from the list with
// replacement until the demand is asked for, placed in order and never moved. For every tenth of demand it prints the mean
// and the deviation of the share of GPU that is allocated, and of the share of idle GPU that is fragmented: what a pod
// drawn from the list couldn't use. The lists are those of Alibaba's cluster-trace-gpu-v2023.
//
// With -times pods come and go at the list's own times, on as many of the nodes as make the list's peak the demand; one that
// finds no room waits. It prints how much is in use while pods wait, and how long they wait, without and with consolidation:
// moving pods with parts of GPUs together when one waits for whole GPUs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "gputrace:", err)
		os.Exit(1)
	}
}

// Row is one policy at one demand. Shares are in percent; a demand of 1 is all GPUs.
type Row struct {
	Policy         string  `json:"policy"`
	Demand         float64 `json:"demand"`
	AllocatedMean  float64 `json:"allocated_mean"`
	AllocatedSD    float64 `json:"allocated_sd"`
	FragmentedMean float64 `json:"fragmented_mean"`
	FragmentedSD   float64 `json:"fragmented_sd"`
	Seeds          int     `json:"seeds"`
}

type options struct {
	nodes, pods string
	seeds       int
	demand      float64
	policies    []string
	json        bool
	times       bool
}

func parse(args []string, errOut io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("gputrace", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.StringVar(&o.nodes, "nodes", "", "the list of nodes, CSV: sn, cpu_milli, memory_mib, gpu, model")
	flags.StringVar(&o.pods, "pods", "", "the list of pods, CSV: name, cpu_milli, memory_mib, num_gpu, gpu_milli, gpu_spec")
	flags.IntVar(&o.seeds, "seeds", 10, "how many times to draw, each with another seed")
	flags.Float64Var(&o.demand, "demand", 1.3, "how much to ask for: 1 is as many GPUs as there are")
	policy := flags.String("policy", "all", "which policies, between commas: "+strings.Join(policies(), ", ")+"; or all")
	flags.BoolVar(&o.json, "json", false, "print one JSON array of rows")
	flags.BoolVar(&o.times, "times", false, "let pods come and go at the list's own times (creation_time, deletion_time) on as many nodes as make the peak the demand, without and with consolidation")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	for name := range strings.SplitSeq(*policy, ",") {
		switch name = strings.TrimSpace(name); {
		case name == "all":
			o.policies = policies()
		case !slices.Contains(policies(), name):
			return o, fmt.Errorf("-policy: no policy %q; there are %s, and all", name, strings.Join(policies(), ", "))
		case !slices.Contains(o.policies, name):
			o.policies = append(o.policies, name)
		}
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("%q: everything is a flag; see -help", flags.Arg(0))
	case o.nodes == "" || o.pods == "":
		return o, errors.New("-nodes and -pods are needed: the lists of a trace")
	case o.seeds < 1:
		return o, fmt.Errorf("-seeds: %d, it takes 1 or more", o.seeds)
	case !(o.demand > 0 && o.demand <= 100):
		return o, fmt.Errorf("-demand: %v, it is more than 0 and at most 100; 1.3 means 130 %%", o.demand)
	}
	return o, nil
}

func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	o, err := parse(args, errOut)
	if err != nil {
		return err
	}
	nodes, err := readNodes(o.nodes)
	if err != nil {
		return err
	}
	pods, err := readPods(o.pods, o.times)
	if err != nil {
		return err
	}
	t := newTrace(nodes, pods)
	if o.times {
		return t.runTimes(ctx, &o, out)
	}
	var rows []Row
	for _, policy := range o.policies {
		start := time.Now()
		got, took, err := t.measure(ctx, policy, o.seeds, o.demand)
		if err != nil {
			return err
		}
		rows = append(rows, got...)
		if !o.json {
			fmt.Fprintf(errOut, "%s: %.1f s; a decision p50 %v, p99 %v\n", policy, time.Since(start).Seconds(), percentile(took, 0.5), percentile(took, 0.99))
		}
	}
	if o.json {
		return printJSON(out, rows)
	}
	return printTable(out, rows)
}

func (t *trace) runTimes(ctx context.Context, o *options, out io.Writer) error {
	var rows []TimesRow
	for _, policy := range o.policies {
		got, err := t.measureTimes(ctx, policy, o.seeds, o.demand)
		if err != nil {
			return err
		}
		rows = append(rows, got...)
	}
	if o.json {
		return printJSON(out, rows)
	}
	return printTimes(out, rows)
}

func printJSON(out io.Writer, rows any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(rows)
}

// measure runs all seeds of a policy, on as many cores as there are. The decisions' times are sorted.
func (t *trace) measure(ctx context.Context, policy string, seeds int, demand float64) ([]Row, []time.Duration, error) {
	runs, times := make([][]sample, seeds), make([][]time.Duration, seeds)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, runtime.GOMAXPROCS(0)))
	for seed := range seeds {
		group.Go(func() (err error) {
			runs[seed], times[seed], err = t.fill(ctx, policy, seed, demand)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	var rows []Row
	for step := range runs[0] {
		var allocated, fragmented []float64
		for seed := range seeds {
			allocated, fragmented = append(allocated, runs[seed][step].allocated), append(fragmented, runs[seed][step].fragmented)
		}
		r := Row{Policy: policy, Demand: runs[0][step].demand, Seeds: seeds}
		r.AllocatedMean, r.AllocatedSD = meanAndDeviation(allocated)
		r.FragmentedMean, r.FragmentedSD = meanAndDeviation(fragmented)
		rows = append(rows, r)
	}
	return rows, sorted(slices.Concat(times...)), nil
}

func printTable(out io.Writer, rows []Row) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "policy\tdemand %\tallocated %\t±\tfragmented %\t±\tseeds\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t%.1f\t%.1f\t%d\t\n", r.Policy, 100*r.Demand, r.AllocatedMean, r.AllocatedSD, r.FragmentedMean, r.FragmentedSD, r.Seeds)
	}
	return w.Flush()
}
