package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

const starts = 5

// startMeasurement is New to Ready of the orchestrator with a TLS port, the median of five starts on
// fresh folders, and of the second start on each of them.
func startMeasurement() measurement {
	const fresh, existing = "New to Ready, fresh data folder", "New to Ready, existing data folder"
	return measurement{table: "main", rows: []string{fresh, existing}, run: func(ctx context.Context, w *workshop) ([]Row, error) {
		program, err := w.build(ctx, ".", "./subject/controlplane")
		if err != nil {
			return nil, err
		}
		var took [2][]time.Duration
		for range starts {
			dir, err := w.folder("start")
			if err != nil {
				return nil, err
			}
			for i := range took {
				d, err := startOnce(ctx, program, dir)
				if err != nil {
					return nil, err
				}
				took[i] = append(took[i], d)
			}
		}
		return []Row{
			{Row: fresh, Unit: "ms", Pintle: number(milliseconds(median(took[0]))), below: 1000},
			{Row: existing, Unit: "ms", Pintle: number(milliseconds(median(took[1]))), below: 300},
		}, nil
	}}
}

func startOnce(ctx context.Context, program, dir string) (time.Duration, error) {
	p, err := start(program, dir)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	line, err := p.line(ctx, 30*time.Second)
	if err != nil {
		return 0, err
	}
	us, err := strconv.Atoi(line)
	if err != nil {
		return 0, fmt.Errorf("controlplane printed %q: %w", line, err)
	}
	return time.Duration(us) * time.Microsecond, nil
}
