// Command training shows a training run on Pintle: a Job of four ranks, a gang, on fake GPUs of three nodes in this process.
// One node is lost in the middle; the gang starts again on the others and goes on from its last checkpoint.
//
//	go run ./examples/training -exit
//
// It needs neither root nor containerd nor GPUs: pods are WASI modules, built here. With real containers and GPUs the
// manifests of job.go stay as they are, but for the image.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	exit := flag.Bool("exit", false, "end after the run instead of staying up until Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *exit); err != nil {
		fmt.Fprintln(os.Stderr, "training:", err)
		os.Exit(1)
	}
}

// run tells the story. Its error says why the result of training isn't right.
func run(ctx context.Context, exit bool) (err error) {
	dir, err := os.MkdirTemp("", "pintle-training-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	c, err := startCluster(ctx, dir, say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := c.train(ctx); err != nil {
		return err
	}
	if !exit {
		say("up until Ctrl-C")
		<-ctx.Done()
	}
	return nil
}
