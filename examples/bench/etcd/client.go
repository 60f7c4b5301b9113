package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/pintle/pintle/examples/bench/storeload"
)

// client is etcd's own, over gRPC or in process.
type client struct{ c *clientv3.Client }

func (c client) Put(ctx context.Context, key string, value []byte) error {
	_, err := c.c.Put(ctx, key, string(value))
	return err
}

func (c client) Get(ctx context.Context, key string) ([]byte, error) {
	r, err := c.c.Get(ctx, key)
	if err != nil || len(r.Kvs) == 0 {
		return nil, err
	}
	return r.Kvs[0].Value, nil
}

func (c client) Watch(ctx context.Context, prefix string, started func(), event func([]byte)) error {
	ch := c.c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	for r := range ch {
		if err := r.Err(); err != nil {
			return err
		}
		if r.Created {
			started()
		}
		for _, e := range r.Events {
			event(e.Kv.Value)
		}
	}
	return ctx.Err()
}

func backup(ctx context.Context, c *clientv3.Client, w io.Writer) error {
	r, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, r.Close())
}

// dial opens connections over gRPC.
func dial(endpoint string, n int) ([]*clientv3.Client, error) {
	var all []*clientv3.Client
	for range n {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
			MaxCallSendMsgSize: maxMessageBytes, MaxCallRecvMsgSize: maxMessageBytes})
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// freeAddress is one that nobody listens on right now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func memberName(i int) string { return fmt.Sprintf(memberNameFormat, i+1) }

// clients are the leader's, and one for a survivor.
type clients struct {
	leader   []*clientv3.Client
	survivor *clientv3.Client
}

func (c *clients) Client(i int) storeload.Client { return client{c.leader[i%len(c.leader)]} }

func (c *clients) Survivor() storeload.Client { return client{c.survivor} }

func (c *clients) Backup(ctx context.Context, w io.Writer) error { return backup(ctx, c.leader[0], w) }
