// Command scheduling is what the table scheduler measures, in a process of its own.
//
//	scheduling decide NODES SHAPE     pure decisions: SHAPE is equal, different, affinity, spread, preemption, native,
//	                                  wasm:FILE or services-TASKS
//	scheduling memory NODES PODS      the decider's memory
//	scheduling endtoend NODES PODS    from created over TLS to bound and durable
//	scheduling gangs NODES GANGS      groups of 64 pods, each placed whole
//	scheduling takeover NODES PODS    a new leader's scheduler
//
// It prints a JSON object: values by name.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
)

// results are values by name.
type results map[string]float64

func main() {
	r := results{}
	if err := run(context.Background(), os.Args[1:], r); err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string, r results) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: scheduling decide|memory|endtoend|gangs|takeover NODES SHAPE|PODS|GANGS")
	}
	nodes, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	if args[0] == "decide" {
		return decide(ctx, nodes, args[2], r)
	}
	pods, err := strconv.Atoi(args[2])
	if err != nil {
		return fmt.Errorf("pods: %w", err)
	}
	switch args[0] {
	case "memory":
		return memory(ctx, nodes, pods, r)
	case "endtoend":
		return endToEnd(ctx, nodes, pods, r)
	case "gangs":
		return gangs(ctx, nodes, pods, r)
	case "takeover":
		return takeOver(ctx, nodes, pods, r)
	}
	return fmt.Errorf("%s: no such measurement", args[0])
}
