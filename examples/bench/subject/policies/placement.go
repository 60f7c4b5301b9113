package main

import (
	"context"
	"fmt"

	"github.com/pintle/pintle/policies"
	"github.com/pintle/pintle/policies/abi"
)

const gpus = "nvidia.com/gpu"

// cluster is nodes of a GPU cluster, half of them used.
func cluster(nodes int) *abi.NodeTable {
	table := abi.NewNodeTable()
	for i := range nodes {
		name := fmt.Sprintf("node-%05d", i)
		have := []abi.Quantity{{Name: "cpu", Milli: 64_000}, {Name: "memory", Milli: 512 << 30 * 1000}, {Name: "pods", Milli: 110_000}}
		used := []abi.Quantity{{Name: "cpu", Milli: int64(i%64) * 1000}, {Name: "memory", Milli: int64(i%400) << 30 * 1000}}
		if i%4 != 0 {
			have = append(have, abi.Quantity{Name: gpus, Milli: 8000})
			used = append(used, abi.Quantity{Name: gpus, Milli: int64(i%9) * 1000})
		}
		table.Set(&abi.Node{Name: name, Allocatable: have, Requested: used, Pods: uint32(i % 30), Labels: abi.Pairs(map[string]string{
			"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
			"topology.kubernetes.io/region": "eu-1", "topology.kubernetes.io/zone": fmt.Sprint("eu-1", string(rune('a'+i%3))),
			"node.kubernetes.io/instance-type": fmt.Sprint("gpu-", i%5), "nvidia.com/gpu.product": []string{"H100", "A100", "L40S"}[i%3]})})
	}
	return table
}

// nativePlace is the GPU bin-packing policy in Go, over the same records.
func nativePlace(p *abi.Placement) {
	var want int64
	for _, q := range p.Pod.Requests {
		if q.Name == gpus {
			want = q.Milli
		}
	}
	p.Reset()
	if want > 0 {
		p.Reasons = []string{"too few free " + gpus}
	}
	records, verdicts, scores := p.Nodes.Records(), p.Verdicts, p.Scores
	for i, row := range p.Rows {
		n := &records[row]
		have, used := n.GPUAllocatable, n.GPURequested+want
		switch {
		case want <= 0 && have == 0:
			scores[i] = 100
		case want <= 0:
		case used > have:
			verdicts[i] = 1
		default:
			scores[i] = int32(used * 100 / have)
		}
	}
}

// placement places a pod natively, through the Host, and bare. Between calls one node changes, as after a bind.
func placement(ctx context.Context, h *policies.Host, r results, language string, wasm []byte, nodes int) error {
	name := "binpack-" + language
	if _, err := h.Load(ctx, name, wasm); err != nil {
		return err
	}
	if err := h.Set(ctx, abi.Policy{Name: name, Kind: abi.Scheduling, Module: name}); err != nil {
		return err
	}
	table := cluster(nodes)
	pod := &abi.Pod{UID: "u", Namespace: "research", Name: "train", Requests: []abi.Quantity{{Name: "cpu", Milli: 8000}, {Name: gpus, Milli: 2000}}}
	p := &abi.Placement{Pod: pod, Nodes: table, Rows: table.AppendRows(nil)}
	want := &abi.Placement{Pod: pod, Nodes: table, Rows: p.Rows}
	step := 0
	bind := func() {
		step++
		table.SetRequested(fmt.Sprintf("node-%05d", step*7%nodes), []abi.Quantity{{Name: "cpu", Milli: 1000}, {Name: gpus, Milli: int64(step%8) * 1000}}, 3)
	}
	native := func() error { bind(); nativePlace(want); return nil }
	hosted := func() error { bind(); _, err := h.Place(ctx, name, p); return err }
	b, err := newBare(ctx, wasm, "", table)
	if err != nil {
		return err
	}
	defer b.close(ctx)
	bare := func() error { bind(); return b.place(ctx, p) }
	for _, how := range []func() error{hosted, bare} { // they decide alike
		if err := how(); err != nil {
			return err
		}
		nativePlace(want)
		for i := range p.Rows {
			if (p.Verdicts[i] == 0) != (want.Verdicts[i] == 0) || p.Scores[i] != want.Scores[i] {
				return fmt.Errorf("row %d: verdict %d, score %d; natively %d and %d", i, p.Verdicts[i], p.Scores[i], want.Verdicts[i], want.Scores[i])
			}
		}
	}
	ours, theirs, err := inTurns(hosted, bare)
	if err != nil {
		return err
	}
	again, inGo, err := inTurns(hosted, native)
	if err != nil {
		return err
	}
	key := fmt.Sprintf("place/%s/%d", language, nodes)
	r.add(key, ours)
	r.add(key+"/bare", theirs)
	r.add(key+"/again", again)
	r.add(key+"/native", inGo)
	return nil
}
