package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/orchestrator/scheduler/devices"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

// policies are those that there are, the published ones first.
func policies() []string {
	return []string{"random", "dotproduct", "clustering", "packing", "bestfit", "fgd", "pricing", "pricing-learned"}
}

// trace is what an experiment draws from.
type trace struct {
	nodes  []*corev1.Node
	pods   []pod
	specs  []corev1.PodSpec
	mix    []topology.PodClass // what the list of pods is made of
	prices *topology.Prices    // of that mix
	total  int                 // thousandths of GPUs
}

func newTrace(nodes []node, pods []pod) *trace {
	t := &trace{pods: pods, mix: mixOf(pods)}
	for _, n := range nodes {
		t.nodes = append(t.nodes, kubeNode(n))
		t.total += n.gpus * topology.Whole
	}
	for _, p := range pods {
		t.specs = append(t.specs, kubeSpec(p))
	}
	t.prices = topology.NewPrices(t.mix, nil)
	return t
}

// cluster is a scheduler's Decider with the trace's nodes.
type cluster struct {
	*scheduler.Decider
	pricer *devices.Pricer // nil: nothing is learned
}

func (t *trace) cluster(policy string, seed uint64) (*cluster, error) {
	c := &cluster{}
	o := plugins.GPUOptions{Strict: true}
	var prefer []framework.Plugin
	switch policy {
	case "random":
		draw := rand.New(rand.NewPCG(seed, 2))
		o.Policy, o.Unrated = devices.Random{Rand: draw}, true
		prefer = append(prefer, anyNode{draw})
	case "dotproduct":
		o.Policy = devices.DotProduct{}
	case "clustering":
		o.Policy = devices.Clustering{}
	case "packing":
		o.Policy = devices.Packing{}
	case "bestfit":
		o.Policy = devices.BestFit{}
	case "fgd":
		o.Policy = devices.FGD{Prices: t.prices}
	case "pricing":
		o.Prices = t.prices
	case "pricing-learned":
		c.pricer = devices.NewPricer()
		o.Pricer = c.pricer
	default:
		return nil, fmt.Errorf("no policy %q; there are %v, and all", policy, policies())
	}
	c.Decider = scheduler.NewDecider(scheduler.Profile{
		Plugins: append([]framework.Plugin{plugins.NodeAffinity{}, plugins.NodeResourcesFit{Ignore: devices.Counts}, plugins.NewGPU(o)}, prefer...),
		Weights: map[string]int64{"NodeResourcesFit": 0}, // only the policy prefers
	})
	for _, n := range t.nodes {
		c.SetNode(n)
	}
	return c, nil
}

// anyNode prefers nodes at random, anew for each pod.
type anyNode struct{ draw *rand.Rand }

func (anyNode) Name() string { return "AnyNode" }

func (a anyNode) Prepare(*framework.Pod, *framework.State) framework.Prepared {
	return framework.Prepared{Score: func(*framework.Node) int64 { return a.draw.Int64N(1 << 40) }, Weight: 1}
}

// place decides about a pod, and records it where it went; "": nowhere. took is the decision alone.
func (c *cluster) place(ctx context.Context, p *corev1.Pod) (node string, took time.Duration, err error) {
	if c.pricer != nil && c.pricer.Due() {
		c.pricer.Reprice() // a scheduler does it beside its decisions; here every run is to be the same
	}
	pod := framework.NewPod(p)
	start := time.Now()
	to, err := c.Decide(ctx, pod)
	took = time.Since(start)
	if fit := (*scheduler.FitError)(nil); errors.As(err, &fit) {
		return "", took, nil
	}
	if err != nil {
		return "", took, err
	}
	c.Assume(pod, to)
	return to.Node, took, nil
}

// sample is what one run was like when so much had been asked for, in percent.
type sample struct{ demand, allocated, fragmented float64 }

// fill is the paper's experiment: pods drawn from the list with replacement, placed in order, until the demand is asked for.
func (t *trace) fill(ctx context.Context, policy string, seed int, demand float64) (samples []sample, took []time.Duration, err error) {
	c, err := t.cluster(policy, uint64(seed))
	if err != nil {
		return nil, nil, err
	}
	draw := rand.New(rand.NewPCG(uint64(seed), 1))
	asked, allocated := 0, 0
	steps := stepsTo(demand)
	for number := 0; len(samples) < len(steps); number++ {
		i := draw.IntN(len(t.pods))
		size := t.pods[i].gpus * t.pods[i].gpuMilli
		asked += size
		node, d, err := c.place(ctx, kubePod(t.specs[i], number))
		if err != nil {
			return nil, nil, err
		}
		took = append(took, d)
		if node != "" {
			allocated += size
		}
		for len(samples) < len(steps) && float64(asked) >= steps[len(samples)]*float64(t.total)-1e-6 {
			samples = append(samples, sample{steps[len(samples)], 100 * float64(allocated) / float64(t.total), t.fragmented(c)})
		}
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
	}
	return samples, took, nil
}

// stepsTo are the steps of a tenth up to the demand, and the demand itself.
func stepsTo(demand float64) []float64 {
	var out []float64
	for i := 1; float64(i)/10 < demand-1e-9; i++ {
		out = append(out, float64(i)/10)
	}
	return append(out, math.Round(demand*1e6)/1e6)
}

// fragmented is which part of the idle GPU the list's pods can't use on average, in percent.
func (t *trace) fragmented(c *cluster) float64 {
	lost, idle := 0.0, 0.0
	for _, n := range c.State().Nodes() {
		l := n.Ledger("GPU").(*plugins.GPULedger)
		v, _, _ := l.View(&devices.Request{}, n.Allocatable.MilliCPU-n.Requested.MilliCPU, n.Allocatable.Memory-n.Requested.Memory)
		lost += topology.Fragmentation(&v.NodeFree, t.mix)
		for _, free := range v.GPUMilli {
			idle += float64(free)
		}
	}
	if idle == 0 {
		return 0
	}
	return 100 * lost / idle
}

// meanAndDeviation is of a sample: the deviation of a single one is 0.
func meanAndDeviation(v []float64) (mean, deviation float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		deviation += (x - mean) * (x - mean)
	}
	if len(v) > 1 {
		deviation = math.Sqrt(deviation / float64(len(v)-1))
	}
	return mean, deviation
}

func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

func sorted(d []time.Duration) []time.Duration {
	slices.Sort(d)
	return d
}
