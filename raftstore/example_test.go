package raftstore_test

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/pintle/pintle/raftstore"
	"github.com/pintle/pintle/raftstore/raftstoretest"
)

// start opens a store in memory; with a Dir it would be durable.
func start() (*raftstore.Store, error) {
	s, err := raftstore.Open(raftstore.Config{})
	if err != nil {
		return nil, err
	}
	go func() { _ = s.Run(context.Background()) }()
	<-s.Ready()
	return s, nil
}

func Example() {
	ctx := context.Background()
	s, err := start()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	rev, _ := s.Put(ctx, "/color", []byte("green"))
	_, _ = s.Put(ctx, "/color", []byte("blue"))
	now, _, _ := s.Get(ctx, "/color")
	then, _ := s.Range(ctx, raftstore.RangeRequest{Key: "/color", Revision: rev})
	fmt.Printf("%s at %d, %s at %d\n", now.Value, now.ModRevision, then.KVs[0].Value, rev)
	// Output: blue at 2, green at 1
}

// A compare-and-swap: the write happens only if nobody has written since we read.
func ExampleStore_Txn() {
	ctx := context.Background()
	s, err := start()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	rev, _ := s.Put(ctx, "/replicas", []byte("3"))
	swap := raftstore.Txn{
		If:   []raftstore.Compare{{Key: "/replicas", Target: raftstore.ModRevision, Int: rev}},
		Then: []raftstore.Op{{Type: raftstore.OpPut, Key: "/replicas", Value: []byte("5")}},
		Else: []raftstore.Op{{Type: raftstore.OpGet, Key: "/replicas"}},
	}
	first, _ := s.Txn(ctx, swap)
	second, _ := s.Txn(ctx, swap)
	fmt.Println(first.Succeeded, second.Succeeded, string(second.Results[0].KVs[0].Value))
	// Output: true false 5
}

// A list and a watch from the revision after it miss nothing in between.
func ExampleStore_Watch() {
	ctx := context.Background()
	s, err := start()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	_, _ = s.Put(ctx, "/a/1", nil)
	list, _ := s.Range(ctx, raftstore.RangeRequest{Prefix: "/a/"})
	w, err := s.Watch(ctx, raftstore.WatchRequest{Prefix: "/a/", From: list.Revision + 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close()
	_, _ = s.Delete(ctx, "/a/1")
	batch, _ := w.Next(ctx)
	fmt.Println(list.Count, batch.Events[0].Type, batch.Events[0].KV.Key, batch.Revision)
	// Output: 1 delete /a/1 2
}

// Work for the leader alone: its context ends with its leadership, and its writes are fenced.
func ExampleStore_WhileLeading() {
	s, err := start()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	err = s.WhileLeading(context.Background(), func(ctx context.Context, term uint64) error {
		_, err := s.Txn(ctx, raftstore.Txn{Term: term, Then: []raftstore.Op{{Type: raftstore.OpPut, Key: "/leader"}}})
		return err
	})
	fmt.Println(err, s.Revision())
	// Output: <nil> 1
}

func ExampleStore_Backup() {
	ctx := context.Background()
	s, err := start()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	_, _ = s.Put(ctx, "/a", []byte("kept"))
	var backup bytes.Buffer // or a file
	if err := s.Backup(ctx, &backup); err != nil {
		fmt.Println(err)
		return
	}
	dir, err := os.MkdirTemp("", "restored")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	fmt.Println(raftstore.Restore(raftstore.Config{Dir: dir}, &backup))
	// Output: <nil>
}

// Three members in one program. Between machines, Network carries the connections, over mutual TLS.
func Example_members() {
	ctx := context.Background()
	network := raftstoretest.NewNet()
	var stores []*raftstore.Store
	for i, id := range []string{"a", "b", "c"} {
		s, err := raftstore.Open(raftstore.Config{NodeID: id, Network: network.Host(id), Address: id, Join: i > 0})
		if err != nil {
			fmt.Println(err)
			return
		}
		go func() { _ = s.Run(ctx) }()
		defer func() { _ = s.Close() }()
		stores = append(stores, s)
	}
	for _, id := range []string{"b", "c"} { // any member takes the call
		if err := stores[0].AddMember(ctx, id, id); err != nil {
			fmt.Println(err)
			return
		}
	}
	if _, err := stores[1].Put(ctx, "greeting", []byte("hello")); err != nil {
		fmt.Println(err)
		return
	}
	kv, _, err := stores[2].Get(ctx, "greeting")
	fmt.Println(string(kv.Value), err)
	// Output: hello <nil>
}
