// Command quickstart tells Pintle's whole story in one process: a cluster, a Deployment behind a
// Service and an Ingress with TLS, a killed container, a rolling update under load, a broken update
// that rolls back by itself, and a restart of the control plane.
//
// As root on Linux with containerd it runs real containers; elsewhere the same story runs on embedded
// parts: WASI pods and a user-space proxy.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/pintle/pintle/orchestrator/appliance"
)

func main() {
	exit := flag.Bool("exit", false, "end after the story instead of staying up until Ctrl-C")
	name := flag.String("name", "quickstart", "the cluster's name; everything on the host is named after it")
	dir := flag.String("data", "", "data folder; empty uses a temporary one that is removed at the end")
	engine := flag.String("engine", "", "containerd or wasm; empty chooses")
	address := flag.String("address", ":6443", "the API's port; :0 picks a free one")
	ingress := flag.String("ingress", "", "the ingress's TLS address; empty is port 443 where it is free")
	updates := flag.Int("updates", 1, "how often the rolling update under load goes to v2, and back to v1 in between")
	verbose := flag.Bool("v", false, "log what the parts do to standard error")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, options{exit: *exit, name: *name, dir: *dir, engine: *engine, address: *address, ingress: *ingress, updates: *updates, verbose: *verbose}); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

type options struct {
	exit    bool
	name    string
	dir     string
	engine  string
	address string // of the API
	ingress string // of the ingress over TLS
	updates int    // 0 is 1
	verbose bool
}

func run(ctx context.Context, o options) (err error) {
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "pintle-"+o.name+"-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	} else if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	logger := slog.New(slog.DiscardHandler)
	if o.verbose {
		logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	a, err := appliance.New(appliance.Config{
		Name: o.name, DataDir: filepath.Join(o.dir, "data"), Engine: appliance.Engine(o.engine),
		Address: free(o.address), HTTPAddress: httpAddress(o.ingress), HTTPSAddress: ingressAddress(o.ingress), Logger: logger,
	})
	if err != nil {
		return err
	}
	t := newTimeline(os.Stdout)
	t.say("%s", a.Choice())

	running, stopRunning := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(running) }()
	defer func() {
		t.say("taking everything down")
		// Pods end first, while the parts still run; then the parts; then what they left on the host.
		stopRunning()
		down := errors.Join(<-ended, a.Teardown(context.WithoutCancel(ctx)))
		err = errors.Join(err, down)
		if down == nil {
			t.say("nothing is left on the host")
		}
	}()

	story := &story{timeline: t, appliance: a, dir: o.dir, updates: max(o.updates, 1), exit: o.exit}
	storyCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // a part that fails ends the story, with its reason
		select {
		case err := <-ended:
			cancel(fmt.Errorf("the appliance ended: %w", err))
			ended <- err
		case <-storyCtx.Done():
		}
	}()
	if err := story.tell(storyCtx); err != nil {
		switch {
		case ctx.Err() == nil:
			return err
		case o.exit:
			return fmt.Errorf("interrupted before the story's end: %w", err)
		}
		return nil // Ctrl-C is the orderly end of what would stay up
	}
	if o.exit {
		return nil
	}
	t.say("up until Ctrl-C")
	<-storyCtx.Done()
	if ctx.Err() == nil {
		return context.Cause(storyCtx)
	}
	return nil
}

// free is the address, or a free port of the same host when somebody else has it.
func free(address string) string {
	l, err := net.Listen("tcp", address)
	if err == nil {
		l.Close()
		return address
	}
	host, _, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		return address // New says what is wrong with it
	}
	return net.JoinHostPort(host, "0")
}

func ingressAddress(asked string) string {
	if asked != "" {
		return asked
	}
	return free(":443")
}

// httpAddress is beside the TLS address: port 80, or a free port when another was asked for.
func httpAddress(asked string) string {
	if host, _, err := net.SplitHostPort(asked); err == nil {
		return net.JoinHostPort(host, "0")
	}
	return free(":80")
}
