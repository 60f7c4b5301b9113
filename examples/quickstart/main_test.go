package main

import (
	"context"
	"errors"
	"os"
	goruntime "runtime"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/pintle/pintle/internal/hostcheck"
)

// realContainers says whether the story can be told on containerd here. In CI it must be.
func realContainers(t *testing.T) bool {
	t.Helper()
	if goruntime.GOOS == "linux" && os.Getuid() == 0 {
		return true
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("CI runs this as root on Linux")
	}
	return false
}

// tell tells the story. How many requests a second the host had room for is not what tests ask.
func tell(t *testing.T, name, engine string) error {
	err := run(context.Background(), options{exit: true, name: name, dir: t.TempDir(), engine: engine, address: ":0", ingress: "127.0.0.1:0"})
	if slow := (*slowError)(nil); errors.As(err, &slow) {
		t.Log(err)
		return nil
	}
	return err
}

// The whole story on real containers, and the host is as it was before.
func TestTheStoryOnRealContainers(t *testing.T) {
	if !realContainers(t) {
		t.Skip("needs root on Linux")
	}
	before, err := hostcheck.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := tell(t, "story", "containerd"); err != nil {
		t.Fatal(err)
	}
	after, err := hostcheck.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range hostcheck.Diff(before, after, nil) {
		t.Errorf("left on the host: %s", line)
	}
}

func TestTwoAppliancesOnOneHost(t *testing.T) {
	if !realContainers(t) {
		t.Skip("needs root on Linux")
	}
	var both errgroup.Group
	for _, name := range []string{"twin-a", "twin-b"} {
		both.Go(func() error { return tell(t, name, "containerd") })
	}
	if err := both.Wait(); err != nil {
		t.Fatal(err)
	}
}

// The same story without root: WASI pods and a user-space proxy.
func TestTheStoryOnWasm(t *testing.T) {
	if err := tell(t, "wasm", "wasm"); err != nil {
		t.Fatal(err)
	}
}
