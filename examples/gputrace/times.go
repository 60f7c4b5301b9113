package main

import (
	"container/heap"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"

	"github.com/pintle/pintle/gpu/topology"
	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/orchestrator/scheduler/devices"
	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

// TimesRow is one policy on the list with its own times.
type TimesRow struct {
	Policy       string  `json:"policy"`
	Demand       float64 `json:"demand"` // asked for at the peak
	Consolidated bool    `json:"consolidated"`
	// Allocated is the share of GPU in use while pods wait, in percent of time and GPUs; Waited how long a pod with GPUs waited
	// on average, in hours; Moved how many pods were moved.
	AllocatedMean float64 `json:"allocated_mean"`
	AllocatedSD   float64 `json:"allocated_sd"`
	WaitedMean    float64 `json:"waited_hours_mean"`
	WaitedSD      float64 `json:"waited_hours_sd"`
	MovedMean     float64 `json:"moved_mean"`
	Seeds         int     `json:"seeds"`
}

// lasting is one run: what TimesRow has the means of.
type lasting struct{ allocated, waited, moved float64 }

// peak is the most GPU that the list asks for at a time, in thousandths.
func peak(pods []pod) int {
	type event struct {
		at   int64
		size int
	}
	var events []event
	for _, p := range pods {
		size := p.gpus * p.gpuMilli
		events = append(events, event{p.created, size})
		if p.deleted > p.created {
			events = append(events, event{p.deleted, -size})
		}
	}
	slices.SortStableFunc(events, func(a, b event) int {
		if a.at != b.at {
			return int(max(-1, min(1, a.at-b.at)))
		}
		return a.size - b.size // those that go make room first
	})
	most, now := 0, 0
	for _, e := range events {
		now += e.size
		most = max(most, now)
	}
	return most
}

// ends are the running pods, the first to end on top.
type ends []ending

type ending struct {
	at     int64
	number int
}

func (e ends) Len() int { return len(e) }
func (e ends) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].number < e[j].number
}
func (e ends) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)   { *e = append(*e, x.(ending)) }
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// moves is how many pods consolidation may move each time that a pod waits for whole GPUs.
const moves = 4

// timed is a run of the list on a part of the nodes.
type timed struct {
	*trace
	*cluster
	running map[int]*framework.Pod
	on      map[int]string
	moved   int
}

// last runs the list with its own times on so many of the nodes, drawn by the seed, that its peak is the demand. A pod that
// doesn't fit waits until one goes, and then runs as long as it would have.
func (t *trace) last(ctx context.Context, policy string, seed int, demand float64, consolidate bool) (lasting, error) {
	part := *t
	part.nodes, part.total = nil, 0
	draw := rand.New(rand.NewPCG(uint64(seed), 3))
	need := float64(peak(t.pods)) / demand
	for _, i := range draw.Perm(len(t.nodes)) {
		if gpus := t.nodes[i].Status.Capacity[topology.GPUResource]; float64(part.total) < need {
			part.nodes, part.total = append(part.nodes, t.nodes[i]), part.total+int(gpus.Value())*topology.Whole
		}
	}
	c, err := part.cluster(policy, uint64(seed))
	if err != nil {
		return lasting{}, err
	}
	r := &timed{trace: &part, cluster: c, running: map[int]*framework.Pod{}, on: map[int]string{}}
	order := make([]int, len(t.pods))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(max(-1, min(1, t.pods[a].created-t.pods[b].created))) })
	var end ends
	var waiting []int
	allocated, now := 0, int64(0)
	var inUse, pressed, waited, asking float64
	for next := 0; next < len(order) || len(end) > 0; {
		at := int64(0)
		departs := len(end) > 0 && (next >= len(order) || end[0].at <= t.pods[order[next]].created)
		if departs {
			at = end[0].at
		} else if next < len(order) {
			at = t.pods[order[next]].created
		}
		if passed := float64(at - now); len(waiting) > 0 {
			inUse, pressed = inUse+passed*float64(allocated), pressed+passed
		}
		now = at
		if departs {
			gone := heap.Pop(&end).(ending).number
			c.Forget(r.running[gone].UID)
			delete(r.running, gone)
			delete(r.on, gone)
			allocated -= t.pods[gone].gpus * t.pods[gone].gpuMilli
		} else {
			waiting = append(waiting, order[next])
			next++
		}
		refused := map[[3]int]bool{} // those like one that found no room find none either
		var still []int
		for _, i := range waiting {
			p := &t.pods[i]
			like := [3]int{p.gpus, p.gpuMilli, int(p.cpuMilli)}
			placed := false
			if !refused[like] || len(p.models) > 0 {
				if placed, err = r.start(ctx, i, consolidate); err != nil {
					return lasting{}, err
				}
			}
			if !placed {
				refused[like] = true
				still = append(still, i)
				continue
			}
			allocated += p.gpus * p.gpuMilli
			if p.gpus > 0 {
				waited, asking = waited+float64(now-p.created)/3600, asking+1
			}
			if p.deleted > p.created {
				heap.Push(&end, ending{now + p.deleted - p.created, i})
			}
		}
		waiting = still
		if ctx.Err() != nil {
			return lasting{}, context.Cause(ctx)
		}
	}
	out := lasting{moved: float64(r.moved), allocated: 100}
	if pressed > 0 {
		out.allocated = 100 * inUse / pressed / float64(part.total)
	}
	if asking > 0 {
		out.waited = waited / asking
	}
	return out, nil
}

// start places a pod; where whole GPUs are short, after moves that free some.
func (r *timed) start(ctx context.Context, i int, consolidate bool) (bool, error) {
	p := kubePod(r.specs[i], i)
	node, _, err := r.place(ctx, p)
	if err != nil {
		return false, err
	}
	if node == "" && consolidate && r.pods[i].gpus > 0 && r.pods[i].gpuMilli == topology.Whole && r.consolidate() {
		if node, _, err = r.place(ctx, p); err != nil {
			return false, err
		}
	}
	if node == "" {
		return false, nil
	}
	r.running[i], r.on[i] = r.State().Pod(p.UID), node
	return true, nil
}

// consolidate does what devices.Consolidate plans, with every pod that has a part of a GPU movable, and says whether
// anything moved.
func (r *timed) consolidate() bool {
	var hosts []devices.Host
	byUID := map[string]int{}
	for i, p := range r.running {
		byUID[string(p.UID)] = i
	}
	for _, n := range r.State().Nodes() {
		l := n.Ledger("GPU").(*plugins.GPULedger)
		v, _, at := l.View(&devices.Request{}, n.Allocatable.MilliCPU-n.Requested.MilliCPU, n.Allocatable.Memory-n.Requested.Memory)
		h := devices.Host{Name: n.Name, Free: v.NodeFree}
		h.Free.GPUMilli = slices.Clone(v.GPUMilli)
		told, _ := topology.ParseNodeGPUs(n.Node.Annotations[topology.NodeAnnotation])
		for _, p := range n.Pods {
			grants, _ := topology.ParseGrants(p.Annotations[topology.PodAnnotation])
			for _, g := range grants {
				position := slices.IndexFunc(at, func(k int) bool { return told.GPUs[k].UUID == g.GPU })
				h.Tenants = append(h.Tenants, devices.Tenant{
					UID: p.UID, GPU: position, Milli: g.Share, CPUMilli: p.Request.MilliCPU, Memory: p.Request.Memory,
					Movable: g.Share < topology.Whole && len(grants) == 1,
				})
			}
		}
		slices.SortFunc(h.Tenants, func(a, b devices.Tenant) int { return byUID[string(a.UID)] - byUID[string(b.UID)] })
		hosts = append(hosts, h)
	}
	plan := devices.Consolidate(hosts, moves)
	for _, m := range plan {
		i := byUID[string(m.UID)]
		n := r.State().Node(m.To)
		told, _ := topology.ParseNodeGPUs(n.Node.Annotations[topology.NodeAnnotation])
		grants, _ := topology.ParseGrants(r.running[i].Annotations[topology.PodAnnotation])
		grants[0].GPU = told.GPUs[m.GPU].UUID
		r.Forget(m.UID)
		r.running[i] = r.Assume(r.running[i], scheduler.Decision{Node: m.To, Annotations: map[string]string{topology.PodAnnotation: topology.FormatGrants(grants)}})
		r.on[i] = m.To
	}
	r.moved += len(plan)
	return len(plan) > 0
}

// measureTimes runs all seeds of a policy with the list's times, without and with consolidation.
func (t *trace) measureTimes(ctx context.Context, policy string, seeds int, demand float64) ([]TimesRow, error) {
	var rows []TimesRow
	for _, consolidate := range []bool{false, true} {
		runs := make([]lasting, seeds)
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(max(1, runtime.GOMAXPROCS(0)))
		for seed := range seeds {
			group.Go(func() (err error) {
				runs[seed], err = t.last(ctx, policy, seed, demand, consolidate)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		var allocated, waited, moved []float64
		for _, r := range runs {
			allocated, waited, moved = append(allocated, r.allocated), append(waited, r.waited), append(moved, r.moved)
		}
		row := TimesRow{Policy: policy, Demand: demand, Consolidated: consolidate, Seeds: seeds}
		row.AllocatedMean, row.AllocatedSD = meanAndDeviation(allocated)
		row.WaitedMean, row.WaitedSD = meanAndDeviation(waited)
		row.MovedMean, _ = meanAndDeviation(moved)
		rows = append(rows, row)
	}
	return rows, nil
}

func printTimes(out io.Writer, rows []TimesRow) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "policy\tpeak %\tconsolidated\tallocated while pods wait %\t±\twaited h\t±\tmoved\tseeds\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%.0f\t%t\t%.2f\t%.2f\t%.1f\t%.1f\t%.0f\t%d\t\n", r.Policy, 100*r.Demand, r.Consolidated, r.AllocatedMean, r.AllocatedSD, r.WaitedMean, r.WaitedSD, r.MovedMean, r.Seeds)
	}
	return w.Flush()
}
