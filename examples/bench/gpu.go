package main

import (
	"context"
	"fmt"
)

// gpuMeasurement measures the choice of GPUs: a pure decision, in a process of its own.
func gpuMeasurement() measurement {
	names := []string{"choice by links", "decision at 1,213 nodes", "pricing"}
	return measurement{table: "gpu", rows: names, run: func(ctx context.Context, w *workshop) ([]Row, error) {
		program, err := w.build(ctx, ".", "./subject/gpu")
		if err != nil {
			return nil, err
		}
		results, err := policyResults(ctx, 1, program)
		if err != nil {
			return nil, err
		}
		return gpuRows(results), nil
	}}
}

// gpuRows are the rows of what was measured. What go-gpuallocator needs is known from elsewhere: it can't be had here.
func gpuRows(results map[string]float64) []Row {
	const peer = "go-gpuallocator, a known figure"
	known := map[[2]int]float64{{8, 2}: 95, {16, 2}: 1.7e6, {16, 4}: 5.1e6}
	var rows []Row
	for _, of := range [][2]int{{8, 2}, {8, 4}, {16, 2}, {16, 4}, {16, 8}} {
		r := Row{Row: fmt.Sprintf("choice by links, %d of %d GPUs", of[1], of[0]), Unit: "µs", Pintle: value(results, fmt.Sprintf("choose/%d/%d", of[0], of[1])), below: 50}
		if v, ok := known[of]; ok {
			r.Peer, r.PeerName = number(v), peer
		}
		rows = append(rows, r)
	}
	rows = append(rows, Row{Row: "choice by links, any number of 16 GPUs", Unit: "µs", Pintle: value(results, "choose/16/any"), below: 50, Note: "the slowest number on the hardest of four machines"})
	for _, mix := range []string{"given", "learned"} {
		rows = append(rows,
			Row{Row: "decision at 1,213 nodes, 6,212 GPUs, mix " + mix + ", p50", Unit: "µs", Pintle: value(results, "decide/"+mix+"/p50")},
			Row{Row: "decision at 1,213 nodes, 6,212 GPUs, mix " + mix + ", p99", Unit: "µs", Pintle: value(results, "decide/"+mix+"/p99"), below: 1000})
	}
	return append(rows,
		Row{Row: "pricing of a mix, off the decisions' path", Unit: "ms", Pintle: value(results, "price/ms")},
		Row{Row: "pricing of a mix without a common unit", Unit: "ms", Pintle: value(results, "price/odd/ms")})
}
