package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/pintle/pintle/examples/bench/storeload"
)

// The peers of the tables store and cluster.
const (
	inProcess = "etcd 3.7 in process"
	overGRPC  = "etcd 3.7 over gRPC"
	installed = "the installed etcd over gRPC"
)

var storePeers = []struct{ name, how string }{{inProcess, "inprocess"}, {overGRPC, "grpc"}, {installed, "installed"}}

// storeSubject is a store in a process of its own; storeload tells what it does. A peer that could not
// start has a failure instead.
type storeSubject struct {
	name    string
	p       *process
	dir     string
	failure error
}

// startStore starts raftstore ("") or a peer, by how it runs, on the folder.
func startStore(ctx context.Context, w *workshop, name, how string, members int, dir string) (*storeSubject, error) {
	module, pkg, args := ".", "./subject/store", []string{}
	if how != "" {
		module, pkg, args = "etcd", ".", []string{how}
	}
	program, err := w.build(ctx, module, pkg)
	if err != nil {
		return nil, err
	}
	p, err := start(program, append(args, strconv.Itoa(members), dir)...)
	if err != nil {
		return nil, err
	}
	line, err := p.line(ctx, 2*time.Minute)
	if err == nil && line != "ready" {
		err = fmt.Errorf("%s said %q", name, line)
	}
	if err != nil {
		p.kill()
		return nil, err
	}
	return &storeSubject{name: name, p: p, dir: dir}, nil
}

// startStores starts raftstore and every peer, each on a fresh folder. stop ends them and removes what
// they kept.
func startStores(ctx context.Context, w *workshop, members int) (ours *storeSubject, peers []*storeSubject, stop func(), err error) {
	var all []*storeSubject
	stop = func() {
		for _, s := range all {
			s.end()
		}
	}
	fresh := func(name, how string) (*storeSubject, error) {
		dir, err := w.folder("store")
		if err != nil {
			return nil, err
		}
		s, err := startStore(ctx, w, name, how, members, dir)
		if err == nil {
			all = append(all, s)
		}
		return s, err
	}
	if ours, err = fresh("raftstore", ""); err != nil {
		return nil, nil, stop, err
	}
	for _, p := range storePeers {
		s, err := fresh(p.name, p.how)
		if err != nil {
			s = &storeSubject{name: p.name, failure: err}
		}
		peers = append(peers, s)
	}
	return ours, peers, stop, nil
}

// end stops the subject and removes its folder.
func (s *storeSubject) end() {
	if s.p != nil {
		s.p.stop()
		_ = os.RemoveAll(s.dir)
	}
}

// ask has the subject do one thing.
func (s *storeSubject) ask(ctx context.Context, c storeload.Command) (r storeload.Result, err error) {
	if s.failure != nil {
		return r, s.failure
	}
	line, err := json.Marshal(c)
	if err != nil {
		return r, err
	}
	if _, err := s.p.stdin.Write(append(line, '\n')); err != nil {
		return r, fmt.Errorf("%s: %w", s.name, err)
	}
	answer, err := s.p.line(ctx, 10*time.Minute)
	if err != nil {
		return r, fmt.Errorf("%s: %w", s.name, err)
	}
	if err := json.Unmarshal([]byte(answer), &r); err != nil {
		return r, fmt.Errorf("%s said %q: %w", s.name, answer, err)
	}
	if r.Error != "" {
		err = fmt.Errorf("%s: %s", s.name, r.Error)
	}
	return r, err
}

// kill ends the process and its children at once.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
}

// column says how a result becomes a number of a row.
type column struct {
	suffix, unit           string
	of                     func(storeload.Result) float64
	below                  float64
	ratioAbove, ratioBelow func(peer string) float64
}

// rowsOf asks raftstore and then each peer, right after one another, and compares them: a row for each
// peer and column.
func rowsOf(ctx context.Context, name string, ours *storeSubject, peers []*storeSubject, c storeload.Command,
	note func(storeload.Result) string, columns ...column) []Row {
	mine, err := ours.ask(ctx, c)
	if err != nil {
		return []Row{{Row: name, Note: "not measured: " + err.Error()}}
	}
	var rows []Row
	for _, p := range peers {
		theirs, err := p.ask(ctx, c)
		for _, col := range columns {
			r := Row{Row: name + col.suffix, Unit: col.unit, Pintle: number(col.of(mine)), PeerName: p.name, below: col.below}
			if col.ratioAbove != nil {
				r.ratioAbove = col.ratioAbove(p.name)
			}
			if col.ratioBelow != nil {
				r.ratioBelow = col.ratioBelow(p.name)
			}
			if err != nil {
				r.PeerName = p.name + " can't run here: " + firstLines(err.Error(), 1)
			} else {
				r.Peer = number(col.of(theirs))
				if note != nil {
					r.Note = note(mine) + "; peer " + note(theirs)
				}
			}
			rows = append(rows, r)
		}
	}
	return rows
}

func ratePerSecond(r storeload.Result) float64 { return math.Round(r.Rate) }

func p99(r storeload.Result) float64 { return milliseconds(r.P99) }

func spread(r storeload.Result) string {
	return fmt.Sprintf("p50 %s, p99.9 %s ms", plain(milliseconds(r.P50)), plain(milliseconds(r.P999)))
}

func atMostPeers(string) float64 { return 1 }
