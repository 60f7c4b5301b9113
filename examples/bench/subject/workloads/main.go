// Command workloads is what the table workloads measures, in a process of its own.
//
//	workloads control NAME DATADIR [ADDRESS TOKEN]   a member of the control plane; with ADDRESS it joins the one there
//	workloads node DATADIR IMAGES                    the whole product with WASI pods and a thousand pods' room
//
// It prints the path of a kubeconfig and, from a control plane, its address and a token for others to join by.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/pintle/pintle/examples/bench/subject/parent"
	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/appliance"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "control":
		return control(args[1], args[2], nil)
	case len(args) == 5 && args[0] == "control":
		return control(args[1], args[2], &orchestrator.Join{Addresses: args[3:4], Token: args[4]})
	case len(args) == 3 && args[0] == "node":
		return node(args[1], args[2])
	}
	return errors.New("usage: workloads control NAME DATADIR [ADDRESS TOKEN] | node DATADIR IMAGES")
}

func control(name, dir string, join *orchestrator.Join) error {
	o, err := orchestrator.New(orchestrator.Config{Name: "bench", Member: name, DataDir: dir, Address: "127.0.0.1:0", Join: join})
	if err != nil {
		return err
	}
	return parent.Serve(o.Run, o.Ready(), func() string {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		token, err := o.JoinToken(ctx, orchestrator.RoleMember, time.Hour)
		if err != nil {
			log.Fatal(err)
		}
		return fmt.Sprint(kubeconfig(dir, o.Kubeconfig), " ", o.Addr(), " ", token)
	})
}

func node(dir, images string) error {
	a, err := appliance.New(appliance.Config{Name: "bench", DataDir: dir, Engine: appliance.Wasm, MaxPods: 1100,
		Address: "127.0.0.1:0", HTTPAddress: "127.0.0.1:0", HTTPSAddress: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	return parent.Serve(a.Run, a.Ready(), func() string {
		archive, err := os.Open(images)
		if err != nil {
			log.Fatal(err)
		}
		defer archive.Close()
		if err := a.ImportImages(context.Background(), archive); err != nil {
			log.Fatal(err)
		}
		return kubeconfig(dir, a.Kubeconfig)
	})
}

// kubeconfig writes the cluster's and returns its path.
func kubeconfig(dir string, make func() ([]byte, error)) string {
	config, err := make()
	path := filepath.Join(dir, "bench.kubeconfig")
	if err == nil {
		err = os.WriteFile(path, config, 0o600)
	}
	if err != nil {
		log.Fatal(err)
	}
	return path
}
