//go:build !linux

package main

import (
	"context"
	"errors"
)

// servicesMeasurement needs nftables.
func servicesMeasurement() measurement {
	return measurement{table: "main", rows: []string{"10,000 Services x 3 endpoints into nftables", "one more Service on 10,000"},
		run: func(context.Context, *workshop) ([]Row, error) { return nil, errors.New("needs Linux") }}
}
