package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// installed is the etcd server that the machine has, in processes of its own.
type installed struct {
	clients
	dir    string
	nodes  []*exec.Cmd
	leader int
}

func startInstalled(ctx context.Context, members int, dir string) (_ *installed, err error) {
	program, err := exec.LookPath("etcd")
	if err != nil {
		return nil, err
	}
	s := &installed{dir: dir}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	var peers, endpoints, initial []string
	for i := range members {
		for _, to := range []*[]string{&peers, &endpoints} {
			address, err := freeAddress()
			if err != nil {
				return nil, err
			}
			*to = append(*to, address)
		}
		initial = append(initial, memberName(i)+"=https://"+peers[i])
	}
	for i := range members {
		peer, endpoint := "https://"+peers[i], "http://"+endpoints[i]
		cmd := exec.Command(program, "--name", memberName(i), "--data-dir", filepath.Join(dir, memberName(i)),
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--peer-auto-tls",
			"--listen-client-urls", endpoint, "--advertise-client-urls", endpoint,
			"--initial-cluster", strings.Join(initial, ","), "--quota-backend-bytes", strconv.Itoa(quota),
			"--auto-compaction-mode", "revision", "--auto-compaction-retention", retainRevisions,
			"--heartbeat-interval", strconv.Itoa(heartbeatMillis), "--election-timeout", strconv.Itoa(electionMillis),
			"--logger", "zap", "--log-level", "error")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, cmd)
	}
	if s.leader, err = findLeader(ctx, endpoints); err != nil {
		return nil, err
	}
	if s.clients.leader, err = dial(endpoints[s.leader], grpcConns); err != nil {
		return nil, err
	}
	of, err := dial(endpoints[(s.leader+1)%members], 1)
	if err != nil {
		return nil, err
	}
	s.survivor = of[0]
	return s, nil
}

func findLeader(ctx context.Context, endpoints []string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		for i, endpoint := range endpoints {
			cs, err := dial(endpoint, 1)
			if err != nil {
				return 0, err
			}
			try, stop := context.WithTimeout(ctx, time.Second)
			st, err := cs[0].Status(try, endpoint)
			if err == nil {
				_, err = cs[0].Get(try, "there is a leader")
			}
			stop()
			_ = cs[0].Close()
			if err == nil && st.Leader == st.Header.MemberId {
				return i, nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return 0, errors.New("the installed etcd has no leader within a minute")
}

func (s *installed) KillLeader() error {
	cmd := s.nodes[s.leader]
	if err := cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill the leader: %w", err)
	}
	_ = cmd.Wait()
	return nil
}

func (s *installed) Folder() string { return s.dir }

func (s *installed) Pids() []int {
	var pids []int
	for _, cmd := range s.nodes {
		pids = append(pids, cmd.Process.Pid)
	}
	return pids
}

func (s *installed) Close() {
	for _, cmd := range s.nodes {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
