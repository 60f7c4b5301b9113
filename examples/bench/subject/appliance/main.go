// Command appliance is the whole product on a containerd of its own.
//
//	appliance NAME DATADIR IMAGES
//
// It imports the image archive, prints the path of a kubeconfig once it is ready, obeys lines "kill ID"
// on stdin, and takes everything off the host when stdin closes.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pintle/pintle/orchestrator/appliance"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

func run(name, dir, images string) (err error) {
	a, err := appliance.New(appliance.Config{Name: name, DataDir: dir, Engine: appliance.Containerd,
		Address: "127.0.0.1:0", HTTPAddress: "127.0.0.1:0", HTTPSAddress: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
		clean, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err = errors.Join(err, a.Teardown(clean))
	}()
	select {
	case <-a.Ready():
	case err := <-ended:
		ended <- nil
		return err
	}
	archive, err := os.Open(images)
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := a.ImportImages(ctx, archive); err != nil {
		return err
	}
	config, err := a.Kubeconfig()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "bench.kubeconfig")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		return err
	}
	fmt.Println(path)
	for scan := bufio.NewScanner(os.Stdin); scan.Scan(); {
		if id, ok := strings.CutPrefix(scan.Text(), "kill "); ok {
			if err := a.KillContainer(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}
