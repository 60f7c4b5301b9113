package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// inProcessClients share the watchers: a single one of etcd's clients in process hangs while it is given a
// hundred at once.
const inProcessClients = 250

// embedded is etcd in this process.
type embedded struct {
	clients
	dir    string
	nodes  []*embed.Etcd
	leader int
}

func startEmbedded(members int, dir string, grpc bool) (*embedded, error) {
	s := &embedded{dir: dir}
	var configs []*embed.Config
	var initial []string
	for i := range members {
		cfg := embed.NewConfig()
		cfg.Name, cfg.Dir = memberName(i), filepath.Join(dir, memberName(i))
		cfg.LogLevel, cfg.LogOutputs = "fatal", []string{"stderr"} // failover makes it complain
		cfg.QuotaBackendBytes = quota
		cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, retainRevisions
		cfg.TickMs, cfg.ElectionMs = heartbeatMillis, electionMillis
		cfg.PeerAutoTLS = true
		peer, err := freeAddress()
		if err != nil {
			return nil, err
		}
		clientAddress, err := freeAddress()
		if err != nil {
			return nil, err
		}
		peerURL, clientURL := url.URL{Scheme: "https", Host: peer}, url.URL{Scheme: "http", Host: clientAddress}
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peerURL}, []url.URL{peerURL}
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{clientURL}, []url.URL{clientURL}
		initial = append(initial, cfg.Name+"="+peerURL.String())
		configs = append(configs, cfg)
	}
	for _, cfg := range configs {
		cfg.InitialCluster = strings.Join(initial, ",")
		e, err := embed.StartEtcd(cfg)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", cfg.Name, err)
		}
		s.nodes = append(s.nodes, e)
	}
	for _, e := range s.nodes {
		select {
		case <-e.Server.ReadyNotify():
		case <-time.After(time.Minute):
			return nil, errors.New("etcd is not ready within a minute")
		}
	}
	for i, e := range s.nodes {
		if e.Server.Leader() == e.Server.MemberID() {
			s.leader = i
		}
	}
	survivor := (s.leader + 1) % members
	if !grpc {
		for range inProcessClients {
			s.clients.leader = append(s.clients.leader, v3client.New(s.nodes[s.leader].Server))
		}
		s.survivor = v3client.New(s.nodes[survivor].Server)
		return s, nil
	}
	var err error
	if s.clients.leader, err = dial(configs[s.leader].ListenClientUrls[0].Host, grpcConns); err != nil {
		return nil, err
	}
	of, err := dial(configs[survivor].ListenClientUrls[0].Host, 1)
	if err != nil {
		return nil, err
	}
	s.survivor = of[0]
	return s, nil
}

func (s *embedded) KillLeader() error {
	e := s.nodes[s.leader]
	e.Server.HardStop()
	go e.Close() // its ports and connections, with what waits for them
	return nil
}

func (s *embedded) Folder() string { return s.dir }

func (s *embedded) Pids() []int { return []int{os.Getpid()} }

func (s *embedded) Close() {
	for _, e := range s.nodes {
		e.Server.HardStop()
	}
}
