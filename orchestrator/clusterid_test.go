package orchestrator_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/orchestrator/cluster"
)

func joinOf(t *testing.T, o *orchestrator.Orchestrator) *orchestrator.Join {
	t.Helper()
	token, err := o.JoinToken(t.Context(), orchestrator.RoleMember, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &orchestrator.Join{Addresses: []string{o.Addr().String()}, Token: token}
}

// awaitMembers waits until there are n, all of them voters.
func awaitMembers(t *testing.T, o *orchestrator.Orchestrator, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		members, err := o.Members(t.Context())
		voters := 0
		for _, m := range members {
			if m.Voter {
				voters++
			}
		}
		if err == nil && len(members) == n && voters == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("members %+v, %v", members, err)
		}
	}
}

// The members of a cluster and of one that was restored from its backup have the same CA, names and keys: nothing but
// the cluster's id tells them apart.
func TestAMemberOfTheOldClusterIsNoneOfTheRestoredOne(t *testing.T) {
	first := orchestrator.Config{DataDir: t.TempDir(), Member: "m1", Address: "127.0.0.1:0"}
	m1 := newOrchestrator(t, first)
	stop1 := start(t, m1)
	second := orchestrator.Config{DataDir: t.TempDir(), Member: "m2", Address: "127.0.0.1:0", Join: joinOf(t, m1)}
	m2 := newOrchestrator(t, second)
	stop2 := start(t, m2)
	awaitMembers(t, m1, 2)
	var backup bytes.Buffer
	if err := m1.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	stop2()
	ended := make(chan struct{})
	go func() { defer close(ended); stop1() }()
	<-ended

	restored := orchestrator.Config{DataDir: t.TempDir(), Member: "m1", Address: "127.0.0.1:0"}
	if err := orchestrator.Restore(restored, &backup); err != nil {
		t.Fatal(err)
	}
	now := newOrchestrator(t, restored)
	defer start(t, now)()
	join := joinOf(t, now)
	second.Join = join
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := newOrchestrator(t, second).Run(ctx)
	if !errors.Is(err, cluster.ErrOtherCluster) || !strings.Contains(err.Error(), second.DataDir) || !strings.Contains(err.Error(), "empty folder") {
		t.Errorf("with the old folder: %v", err)
	}
	awaitMembers(t, now, 1)
	second.DataDir = t.TempDir()
	m2 = newOrchestrator(t, second)
	defer start(t, m2)()
	awaitMembers(t, now, 2)
}

func TestAFolderOfOneClusterDoesNotJoinAnother(t *testing.T) {
	mine := orchestrator.Config{DataDir: t.TempDir(), Member: "m1", Address: "127.0.0.1:0"}
	start(t, newOrchestrator(t, mine))()
	other := newOrchestrator(t, orchestrator.Config{Member: "m9", Address: "127.0.0.1:0"})
	defer start(t, other)()
	mine.Join = joinOf(t, other)
	err := newOrchestrator(t, mine).Run(t.Context())
	if !errors.Is(err, cluster.ErrOtherCluster) || !strings.Contains(err.Error(), mine.DataDir) {
		t.Errorf("with a token of the other: %v", err)
	}

	// A node's folder neither.
	third := newOrchestrator(t, orchestrator.Config{Address: "127.0.0.1:0"})
	defer start(t, third)()
	dir := t.TempDir()
	for i, o := range []*orchestrator.Orchestrator{other, third} {
		token, err := o.JoinToken(t.Context(), orchestrator.RoleNode, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		_, err = cluster.NewNode(t.Context(), cluster.NodeConfig{Name: "n1", Dir: dir, Token: token, Servers: cluster.NewServers([]string{o.Addr().String()})})
		if i == 0 && err != nil || i == 1 && !errors.Is(err, cluster.ErrOtherCluster) {
			t.Errorf("cluster %d: %v", i, err)
		}
	}
}

// Folders from before clusters had ids go on, and their members agree on one.
func TestAFolderWithoutAClusterIDGetsOne(t *testing.T) {
	cfg := orchestrator.Config{DataDir: t.TempDir()}
	start(t, newOrchestrator(t, cfg))()
	file := filepath.Join(cfg.DataDir, "member.json")
	if err := os.WriteFile(file, []byte(`{"Member": "single", "Cluster": "pintle", "ServiceCIDR": "10.96.0.0/16"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(cfg.DataDir, "store", "CLUSTER")); err != nil {
		t.Fatal(err)
	}
	var said []string
	for range 2 {
		start(t, newOrchestrator(t, cfg))()
		data, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(data), "ClusterID") {
			t.Fatalf("%s, %v", data, err)
		}
		said = append(said, string(data))
	}
	if said[0] != said[1] {
		t.Errorf("%s became %s", said[0], said[1])
	}
}
