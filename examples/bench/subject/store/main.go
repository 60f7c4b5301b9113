// Command store is raftstore as the tables store and cluster measure it: in process, one member or
// three, which then speak over TLS on loopback as the members of an appliance do.
//
//	store MEMBERS FOLDER
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/pintle/pintle/examples/bench/storeload"
	"github.com/pintle/pintle/internal/pki"
	"github.com/pintle/pintle/orchestrator/cluster"
	"github.com/pintle/pintle/raftstore"
)

func main() {
	members, err := strconv.Atoi(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	s := &subject{dir: os.Args[2]}
	if members == 1 {
		err = s.one(ctx)
	} else {
		err = s.several(ctx, members)
	}
	if err != nil {
		log.Fatal(err)
	}
	if err := storeload.Serve(ctx, s, os.Stdin, os.Stdout); err != nil {
		log.Fatal(err)
	}
	for _, m := range s.stores {
		_ = m.Close()
	}
}

// subject's first store leads.
type subject struct {
	dir    string
	stores []*raftstore.Store
	port   net.Listener // the first one's, where there are several
}

func (s *subject) one(ctx context.Context) error {
	return s.start(ctx, raftstore.Config{Dir: s.dir})
}

func (s *subject) start(ctx context.Context, cfg raftstore.Config) error {
	store, err := raftstore.Open(cfg)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- store.Run(ctx) }()
	s.stores = append(s.stores, store)
	if cfg.Join {
		return nil
	}
	return s.ready(store, ended)
}

func (s *subject) ready(store *raftstore.Store, ended <-chan error) error {
	select {
	case <-store.Ready():
		return nil
	case err := <-ended:
		return fmt.Errorf("the store ended: %w", err)
	}
}

func (s *subject) several(ctx context.Context, members int) error {
	ca, err := pki.NewCA("bench", nil)
	if err != nil {
		return err
	}
	for i := range members {
		id := fmt.Sprintf("m%d", i+1)
		identity := cluster.Identity{Certificate: ca.Rotating(cluster.MemberRequest(id, "")), CA: ca.Pool()}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		port := cluster.NewPort(listener, cluster.ServerConfig(&tls.Config{MinVersion: tls.VersionTLS13}, identity, ca.Certificate()), nil)
		links := cluster.NewLinks(port.Listen(cluster.ProtocolRaft), identity, nil)
		go func() { _ = port.Run(ctx) }()
		address := listener.Addr().String()
		if err := s.start(ctx, raftstore.Config{Dir: filepath.Join(s.dir, id), NodeID: id, Network: links, Address: address, Join: i > 0}); err != nil {
			return err
		}
		if i == 0 {
			s.port = listener
			continue
		}
		if err := s.stores[0].AddMember(ctx, id, address); err != nil {
			return err
		}
		if err := s.ready(s.stores[i], nil); err != nil {
			return err
		}
		if err := s.stores[0].PromoteMember(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *subject) Client(int) storeload.Client { return client{s.stores[0]} }

func (s *subject) Survivor() storeload.Client { return client{s.stores[len(s.stores)-1]} }

// KillLeader leaves nothing of it: its port refuses connections, as that of a process that was killed.
func (s *subject) KillLeader() error {
	_ = s.port.Close()
	return s.stores[0].Close()
}

func (s *subject) Backup(ctx context.Context, w io.Writer) error { return s.stores[0].Backup(ctx, w) }

func (s *subject) Folder() string { return s.dir }

func (s *subject) Pids() []int { return []int{os.Getpid()} }

type client struct{ s *raftstore.Store }

func (c client) Put(ctx context.Context, key string, value []byte) error {
	_, err := c.s.Put(ctx, key, value)
	return err
}

func (c client) Get(ctx context.Context, key string) ([]byte, error) {
	kv, _, err := c.s.Get(ctx, key)
	return kv.Value, err
}

func (c client) Watch(ctx context.Context, prefix string, started func(), event func([]byte)) error {
	w, err := c.s.Watch(ctx, raftstore.WatchRequest{Prefix: prefix})
	if err != nil {
		return err
	}
	defer w.Close()
	started()
	for {
		batch, err := w.Next(ctx)
		if err != nil {
			return err
		}
		for _, e := range batch.Events {
			event(e.KV.Value)
		}
	}
}
