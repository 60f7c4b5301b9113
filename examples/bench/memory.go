package main

import (
	"context"
	"time"
)

// memoryMeasurement is the resident memory of a control plane that has been idle for ten seconds.
func memoryMeasurement() measurement {
	const name = "idle RSS, control plane"
	return measurement{table: "main", rows: []string{name}, run: func(ctx context.Context, w *workshop) ([]Row, error) {
		program, err := w.build(ctx, ".", "./subject/controlplane")
		if err != nil {
			return nil, err
		}
		dir, err := w.folder("memory")
		if err != nil {
			return nil, err
		}
		p, err := start(program, dir)
		if err != nil {
			return nil, err
		}
		defer p.stop()
		if _, err := p.line(ctx, 30*time.Second); err != nil {
			return nil, err
		}
		mib, err := p.idleRSS(ctx, 10*time.Second)
		if err != nil {
			return nil, err
		}
		return []Row{{Row: name, Unit: "MiB", Pintle: number(mib), Peer: number(498),
			PeerName: "etcd + kube-apiserver + controller-manager + scheduler (known figure, not run here)", below: 64}}, nil
	}}
}
