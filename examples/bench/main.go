// Command bench measures Pintle and its peers on this machine and prints the tables of the README.
//
//	go run . [-only=NAME[,NAME]] [-json=FILE]
//
// NAME is a table ("main", "store", "cluster", "policies", "gpu", "scheduler"), or a table and a part of a row's name ("main/DNS"). With -json the rows are
// written as a JSON array too. A peer that can't run here is a row that says why. What is measured runs
// in processes of its own, built from subject/; load goes to loopback and fresh network namespaces
// only, and nothing stays on the host.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// measurement is one thing that is measured; it yields one row or several.
type measurement struct {
	table string
	rows  []string // the names of its rows, for -only
	run   func(ctx context.Context, w *workshop) ([]Row, error)
}

// measurements are all of them, in the order of the tables.
func measurements() []measurement {
	return append([]measurement{
		startMeasurement(), memoryMeasurement(), servicesMeasurement(),
		dnsMeasurement(), ingressMeasurement(), podsMeasurement(), binaryMeasurement(),
		callsMeasurement("store", 1), stateMeasurement(), callsMeasurement("cluster", 3), failoverMeasurement(),
		policiesMeasurement(1), policiesMeasurement(2), foreignMeasurement(), gpuMeasurement(),
	}, slices.Concat(schedulerMeasurements(), workloadMeasurements())...)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "tables, or table/part of a row's name, separated by commas; all by default")
	jsonFile := flags.String("json", "", "write the rows to this file as JSON")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	wanted, err := parseOnly(*only)
	if err != nil {
		return err
	}
	w, err := newWorkshop()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	var rows []Row
	for _, m := range measurements() {
		if !wanted.any(m.table, m.rows) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s/%s\n", m.table, strings.Join(m.rows, ", "))
		got, measureErr := m.run(ctx, w)
		if measureErr != nil {
			got = failed(m, measureErr)
		}
		for _, r := range got {
			r.Table = m.table
			if wanted.row(m.table, r.Row) {
				rows = append(rows, r.judged())
			}
		}
		if ctx.Err() != nil {
			break // told to end: print what there is
		}
	}
	printTables(os.Stdout, rows)
	if *jsonFile != "" {
		err = writeJSON(*jsonFile, rows)
	}
	if ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	return err
}

// selection is what -only chose; empty is everything.
type selection []string

func parseOnly(text string) (selection, error) {
	var s selection
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		found := false
		for _, m := range measurements() {
			found = found || selection{name}.any(m.table, m.rows)
		}
		if !found {
			return nil, fmt.Errorf("-only=%s: no such table or row", name)
		}
		s = append(s, name)
	}
	return s, nil
}

func (s selection) row(table, row string) bool {
	for _, name := range s {
		t, part, _ := strings.Cut(name, "/")
		if t == table && strings.Contains(strings.ToLower(row), strings.ToLower(part)) {
			return true
		}
	}
	return len(s) == 0
}

func (s selection) any(table string, rows []string) bool {
	for _, r := range rows {
		if s.row(table, r) {
			return true
		}
	}
	return false
}
