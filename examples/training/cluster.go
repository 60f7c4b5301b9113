package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/gpu"
	"github.com/pintle/pintle/gpu/gputest"
	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/appliance"
	"github.com/pintle/pintle/orchestrator/appliance/gpus"
	"github.com/pintle/pintle/runtime"
	"github.com/pintle/pintle/runtime/wasm/wasmtest"
)

//go:embed trainer/main.go
var trainer string

const image = "training.pintle.dev/trainer:1"

// cluster is a control plane and three nodes, each with two GPUs that aren't there.
type cluster struct {
	say    func(format string, args ...any)
	dir    string
	client kubernetes.Interface
	all    map[string]*node
	told   map[string]bool // pods of whose failures was told
}

// node is one appliance that runs.
type node struct {
	*appliance.Appliance
	cancel context.CancelFunc
	ended  chan error
}

func (n *node) stop() error {
	n.cancel()
	err := <-n.ended
	n.ended <- nil
	return err
}

func startCluster(ctx context.Context, dir string, say func(string, ...any)) (c *cluster, err error) {
	c = &cluster{say: say, dir: dir, all: map[string]*node{}, told: map[string]bool{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	boss, err := c.start(ctx, appliance.Config{Node: "control"})
	if err != nil {
		return c, err
	}
	if c.client, err = kubernetes.NewForConfig(boss.RESTConfig()); err != nil {
		return c, err
	}
	token, err := boss.JoinToken(ctx, orchestrator.RoleNode, time.Hour)
	if err != nil {
		return c, err
	}
	members, err := boss.Members(ctx)
	if err != nil {
		return c, err
	}
	say("the control plane is up; building the trainer, a WASI module")
	module, err := wasmtest.Module(ctx, trainer)
	if err != nil {
		return c, err
	}
	archive, err := wasmtest.Archive(image, module, wasmtest.Options{})
	if err != nil {
		return c, err
	}
	var workers []*node
	for _, name := range []string{"gpu-a", "gpu-b", "gpu-c"} {
		w, err := c.start(ctx, appliance.Config{Node: name, Worker: true,
			Join: &orchestrator.Join{Addresses: []string{members[0].Address}, Token: token},
			GPUs: fakeGPUs{gpus.Config{Config: gpu.Config{Driver: gputest.TwoL4()}, DriverRoot: filepath.Join(dir, name+"-driver")}}})
		if err != nil {
			return c, err
		}
		workers = append(workers, w)
	}
	var g errgroup.Group
	for _, w := range workers {
		g.Go(func() error { return w.ImportImages(ctx, bytes.NewReader(archive)) })
	}
	if err := g.Wait(); err != nil {
		return c, err
	}
	say("three nodes with two GPUs each have joined, and have the image")
	return c, nil
}

// start runs an appliance until it is ready.
func (c *cluster) start(ctx context.Context, cfg appliance.Config) (*node, error) {
	cfg.Name, cfg.DataDir, cfg.Engine, cfg.Address = "training", filepath.Join(c.dir, cfg.Node), appliance.Wasm, "127.0.0.1:0"
	if f, ok := cfg.GPUs.(fakeGPUs); ok {
		if err := f.Driver.(*gputest.Machine).HostFiles(f.DriverRoot, nil); err != nil {
			return nil, err
		}
	}
	a, err := appliance.New(cfg)
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n := &node{Appliance: a, cancel: cancel, ended: make(chan error, 1)}
	go func() { n.ended <- a.Run(running) }()
	c.all[cfg.Node] = n
	select {
	case <-a.Ready():
		return n, nil
	case err := <-n.ended:
		n.ended <- nil
		return nil, fmt.Errorf("%s ended: %w", cfg.Node, err)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// stop ends the nodes and then the control plane.
func (c *cluster) stop() (err error) {
	for name, n := range c.all {
		if name != "control" {
			err = errors.Join(err, n.stop())
		}
	}
	if boss := c.all["control"]; boss != nil {
		err = errors.Join(err, boss.stop())
	}
	return err
}

// fakeGPUs are a node's GPUs that aren't there. They are counted, watched and chosen as real ones are. A WASI module can't
// open one, so the node gives none out: what the scheduler chose is told to it by the pod's annotation.
type fakeGPUs struct{ gpus.Config }

func (f fakeGPUs) MakeDevices(site appliance.DeviceSite) (runtime.Devices, error) {
	d, err := f.Config.MakeDevices(site)
	return chosenOnly{d}, err
}

type chosenOnly struct{ runtime.Devices }

func (chosenOnly) Wants(*corev1.Pod) bool { return false }

func (chosenOnly) Injection(*corev1.Pod, string) (runtime.Injection, error) {
	return runtime.Injection{}, nil
}
