// Command trainer is one rank of a training run: it fits y = 3x + 2 by gradient descent, its share of the samples on a GPU
// of its own (were there one). It needs nothing but what a Job of Kubernetes gives its pods, and a folder that all ranks see:
//
//   - JOB_COMPLETION_INDEX is its rank, WORLD_SIZE how many there are, MASTER_ADDR the host name of rank 0;
//   - gradients are exchanged through the folder, where a real program would use NCCL;
//   - rank 0 writes a checkpoint every ten steps, and whoever starts goes on from the last one.
//
// A rank that waits too long for another ends with a failure, as NCCL's watchdog makes it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// state is what is trained, and how far.
type state struct {
	Step         int
	Slope, Shift float64
	Loss         float64
	ResumedAt    []int // steps at which a restart went on
}

const (
	rate            = 0.3
	checkpointEvery = 10
	pause           = 50 * time.Millisecond // a step of a larger model takes longer
	patience        = 5 * time.Second       // for a peer
)

func main() {
	if err := train(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func train() error {
	dir := os.Getenv("SHARED")
	rank, world, steps := number("JOB_COMPLETION_INDEX"), number("WORLD_SIZE"), number("STEPS")
	var now state
	err := read(filepath.Join(dir, "checkpoint"), &now)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		now.ResumedAt = append(now.ResumedAt, now.Step)
	}
	fmt.Printf("rank %d of %d, master %s, GPU %s: from step %d\n", rank, world, os.Getenv("MASTER_ADDR"), os.Getenv("GPU"), now.Step)
	for ; now.Step < steps; now.Step++ {
		if now.Step%checkpointEvery == 0 && rank == 0 {
			if err := write(filepath.Join(dir, "checkpoint"), now); err != nil {
				return err
			}
		}
		if err := write(share(dir, now.Step, rank), gradient(now, rank, world)); err != nil {
			return err
		}
		sum, err := gather(dir, now.Step, world)
		if err != nil {
			return err
		}
		now.Slope -= rate * sum.Slope / float64(world)
		now.Shift -= rate * sum.Shift / float64(world)
		now.Loss = sum.Loss / float64(world)
		time.Sleep(pause)
	}
	fmt.Printf("rank %d: y = %.3fx + %.3f after %d steps\n", rank, now.Slope, now.Shift, now.Step)
	if rank == 0 {
		return write(filepath.Join(dir, "result"), now)
	}
	return nil
}

// gradient of the mean square error over this rank's share of 64 samples.
func gradient(s state, rank, world int) (g state) {
	n := 0.0
	for i := rank; i < 64; i += world {
		x := float64(i)/32 - 1
		miss := s.Slope*x + s.Shift - (3*x + 2)
		g.Slope, g.Shift, g.Loss, n = g.Slope+2*miss*x, g.Shift+2*miss, g.Loss+miss*miss, n+1
	}
	return state{Slope: g.Slope / n, Shift: g.Shift / n, Loss: g.Loss / n}
}

// gather waits for the gradients of all ranks. Those of an earlier attempt at the step are the same: it is computed from
// the same checkpoint.
func gather(dir string, step, world int) (sum state, err error) {
	for rank := range world {
		var one state
		for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			if err = read(share(dir, step, rank), &one); err == nil {
				break
			}
			if time.Now().After(end) {
				return sum, fmt.Errorf("step %d: rank %d is lost", step, rank)
			}
		}
		sum.Slope, sum.Shift, sum.Loss = sum.Slope+one.Slope, sum.Shift+one.Shift, sum.Loss+one.Loss
	}
	return sum, nil
}

func share(dir string, step, rank int) string {
	return filepath.Join(dir, fmt.Sprintf("step-%d-rank-%d", step, rank))
}

func number(variable string) int {
	n, _ := strconv.Atoi(os.Getenv(variable))
	return n
}

func read(path string, into *state) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// write replaces the file as a whole: a reader sees all of it or none.
func write(path string, s state) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	mine := path + "." + os.Getenv("HOSTNAME")
	if err := os.WriteFile(mine, b, 0o644); err != nil {
		return err
	}
	return os.Rename(mine, path)
}
