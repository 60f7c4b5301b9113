package main

import (
	"context"
	"fmt"
	"os"
)

// binaryMeasurement is the size of the quickstart, the whole product in one program, static and stripped.
func binaryMeasurement() measurement {
	const name = "bytes of the stripped binary (examples/quickstart)"
	return measurement{table: "main", rows: []string{name}, run: func(ctx context.Context, w *workshop) ([]Row, error) {
		program, err := w.build(ctx, "../..", "./examples/quickstart")
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(program)
		if err != nil {
			return nil, fmt.Errorf("size: %w", err)
		}
		return []Row{{Row: name, Unit: "bytes", Pintle: number(float64(info.Size()))}}, nil
	}}
}
