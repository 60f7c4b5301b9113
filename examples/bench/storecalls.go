package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pintle/pintle/examples/bench/storeload"
)

const (
	callsWarm = 500 * time.Millisecond
	callsTime = 3 * time.Second
	watchers  = 1000
)

// callsMeasurement is what single calls cost, on one node or on three in one process: puts, linearizable
// reads, and deliveries to watchers. Every cell goes over all subjects before the next begins.
func callsMeasurement(table string, members int) measurement {
	type cell struct {
		name    string
		command storeload.Command
		columns []column
	}
	var cells []cell
	for _, size := range []int{256, 2048} {
		for _, clients := range []int{1, 32, 256} {
			cells = append(cells, cell{fmt.Sprintf("puts of %d B, %s", size, clientsText(clients)),
				storeload.Command{Do: "put", Size: size, Clients: clients, Warm: callsWarm, Time: callsTime},
				[]column{{suffix: "", unit: "1/s", of: ratePerSecond, ratioAbove: putTarget(clients)},
					{suffix: ", p99", unit: "ms", of: p99, ratioBelow: atMostPeers}}})
		}
	}
	for _, clients := range []int{1, 256} {
		cells = append(cells, cell{"linearizable reads, " + clientsText(clients),
			storeload.Command{Do: "get", Clients: clients, Warm: callsWarm, Time: callsTime},
			[]column{{suffix: "", unit: "1/s", of: ratePerSecond}, {suffix: ", p99", unit: "ms", of: p99}}})
	}
	cells = append(cells, cell{fmt.Sprintf("put to delivery, %d watchers of one prefix", watchers),
		storeload.Command{Do: "watch", Size: 256, Clients: watchers, Time: callsTime},
		[]column{{suffix: ", p99", unit: "ms", of: p99}}})
	var names []string
	for _, c := range cells {
		names = append(names, c.name)
	}
	return measurement{table: table, rows: names, run: func(ctx context.Context, w *workshop) ([]Row, error) {
		ours, peers, stop, err := startStores(ctx, w, members)
		defer stop()
		if err != nil {
			return nil, err
		}
		var rows []Row
		for _, c := range cells {
			if ctx.Err() != nil {
				break
			}
			rows = append(rows, rowsOf(ctx, c.name, ours, peers, c.command, spread, c.columns...)...)
		}
		return rows, nil
	}}
}

func clientsText(n int) string {
	if n == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", n)
}

// putTarget is how many times a peer's throughput it should be at least.
func putTarget(clients int) func(peer string) float64 {
	return func(peer string) float64 {
		switch {
		case clients == 1 && peer == inProcess:
			return 1
		case clients == 256 && peer == inProcess:
			return 2
		case clients == 256:
			return 4
		}
		return 0
	}
}
