package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/pintle/pintle/examples/bench/storeload"
)

// The state that is backed up and recovered.
const (
	stateBytes = 1 << 30
	stateValue = 8 << 10
)

// stateMeasurement fills each store with 1 GB, one store after the other, for the disk is shared, and
// takes what it takes in memory and on disk, a backup, and the time from the start of a process after
// kill -9 until it has read the last key linearizably.
func stateMeasurement() measurement {
	const backup, recovery, disk, memory = "backup of 1 GB to a synced file", "recovery after kill -9 with 1 GB",
		"bytes on disk per byte stored", "resident bytes per byte stored"
	type outcome struct {
		backup, recovery time.Duration
		usage            storeload.Result
		err              error
	}
	return measurement{table: "store", rows: []string{backup, recovery, disk, memory}, run: func(ctx context.Context, w *workshop) ([]Row, error) {
		measure := func(name, how string) (o outcome) {
			dir, err := w.folder("state")
			if err != nil {
				return outcome{err: err}
			}
			s, err := startStore(ctx, w, name, how, 1, dir)
			if err != nil {
				return outcome{err: err}
			}
			defer func() { s.end() }()
			fill := storeload.Command{Do: "fill", Total: stateBytes, Size: stateValue}
			if _, o.err = s.ask(ctx, fill); o.err != nil {
				return o
			}
			time.Sleep(time.Second) // what is written behind is written
			if o.usage, o.err = s.ask(ctx, storeload.Command{Do: "usage"}); o.err != nil {
				return o
			}
			b, err := s.ask(ctx, storeload.Command{Do: "backup", File: filepath.Join(w.dir, "backup")})
			if o.backup, o.err = b.Took, err; err != nil {
				return o
			}
			if b.Bytes < stateBytes {
				return outcome{err: fmt.Errorf("%s: the backup has %d bytes", name, b.Bytes)}
			}
			// A little more, so that there is something to replay.
			if _, o.err = s.ask(ctx, storeload.Command{Do: "put", Size: stateValue, Clients: 32, Time: time.Second / 2}); o.err != nil {
				return o
			}
			s.p.kill()
			begin := time.Now()
			again, err := startStore(ctx, w, name, how, 1, dir)
			if err != nil {
				return outcome{err: fmt.Errorf("%s after kill -9: %w", name, err)}
			}
			s = again
			_, o.err = s.ask(ctx, storeload.Command{Do: "last", Total: stateBytes, Size: stateValue})
			o.recovery = time.Since(begin)
			return o
		}
		ours := measure("raftstore", "")
		if ours.err != nil {
			return nil, ours.err
		}
		var rows []Row
		for _, p := range storePeers {
			theirs := measure(p.name, p.how)
			add := func(r Row, of func(outcome) float64) {
				r.Pintle, r.PeerName = number(of(ours)), p.name
				if theirs.err == nil {
					r.Peer = number(of(theirs))
				} else {
					r.PeerName += " can't run here: " + firstLines(theirs.err.Error(), 1)
				}
				rows = append(rows, r)
			}
			add(Row{Row: backup, Unit: "s"}, func(o outcome) float64 { return o.backup.Seconds() })
			add(Row{Row: recovery, Unit: "s", below: 3}, func(o outcome) float64 { return o.recovery.Seconds() })
			add(Row{Row: disk, Unit: "B/B"}, func(o outcome) float64 { return float64(o.usage.Disk) / stateBytes })
			add(Row{Row: memory, Unit: "B/B", Note: fmt.Sprintf("without mapped files %s; peer %s",
				plain(float64(ours.usage.Anon)/stateBytes), plain(float64(theirs.usage.Anon)/stateBytes))},
				func(o outcome) float64 { return float64(o.usage.RSS) / stateBytes })
			if ctx.Err() != nil {
				break
			}
		}
		return rows, nil
	}}
}

const failovers = 3

// failoverMeasurement is the time from the kill of the leader of three to the next acknowledged write
// through another member, the median of three fresh clusters.
func failoverMeasurement() measurement {
	const name = "failover: kill of the leader to the next acknowledged write"
	return measurement{table: "cluster", rows: []string{name}, run: func(ctx context.Context, w *workshop) ([]Row, error) {
		ours, err := failoverOf(ctx, w, "raftstore", "")
		if err != nil {
			return nil, err
		}
		var rows []Row
		for _, p := range storePeers {
			row := Row{Row: name, Unit: "ms", Pintle: number(milliseconds(ours)), PeerName: p.name}
			if theirs, err := failoverOf(ctx, w, p.name, p.how); err != nil {
				row.PeerName += " can't run here: " + firstLines(err.Error(), 1)
			} else {
				row.Peer = number(milliseconds(theirs))
			}
			rows = append(rows, row)
		}
		return rows, nil
	}}
}

func failoverOf(ctx context.Context, w *workshop, name, how string) (time.Duration, error) {
	var took []time.Duration
	for range failovers {
		dir, err := w.folder("failover")
		if err != nil {
			return 0, err
		}
		s, err := startStore(ctx, w, name, how, 3, dir)
		if err != nil {
			return 0, err
		}
		r, err := s.ask(ctx, storeload.Command{Do: "failover"})
		s.p.kill()
		s.end()
		if err != nil {
			return 0, err
		}
		took = append(took, r.Took)
	}
	if len(took) == 0 {
		return 0, errors.New("not measured")
	}
	return median(took), nil
}
