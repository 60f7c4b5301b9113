// Command etcd is the peer of the tables store and cluster: etcd in process, etcd through its gRPC
// client, and an installed etcd server through the same client. It has a module of its own so that its
// requirements change nothing that is measured.
//
//	etcd inprocess|grpc|installed MEMBERS FOLDER
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/pintle/pintle/examples/bench/storeload"
)

// What all ways of running etcd share: the quota is out of the way, and as many revisions are kept as
// raftstore keeps.
const (
	quota            = 8 << 30
	retainRevisions  = "10000"
	electionMillis   = 1000 // etcd's own defaults
	heartbeatMillis  = 100
	grpcConns        = 16
	maxMessageBytes  = 64 << 20
	memberNameFormat = "m%d"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	members, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	ctx := context.Background()
	var s interface {
		storeload.Subject
		Close()
	}
	switch how, dir := os.Args[1], os.Args[3]; how {
	case "inprocess", "grpc":
		s, err = startEmbedded(members, dir, how == "grpc")
	case "installed":
		s, err = startInstalled(ctx, members, dir)
	default:
		err = fmt.Errorf("%q is none of inprocess, grpc and installed", how)
	}
	if err != nil {
		return err
	}
	defer s.Close()
	return storeload.Serve(ctx, s, os.Stdin, os.Stdout)
}
