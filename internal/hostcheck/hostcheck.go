//go:build linux

// Package hostcheck compares what is on a host before and after a test: links, mounts, nft tables,
// cgroups, network namespaces, sysctls, the daemons that run containers and the processes in them.
package hostcheck

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/google/nftables"
)

// Host is what was found: one line each, "kind name".
type Host map[string]struct{}

// Snapshot lists what is on the host now.
func Snapshot() (Host, error) {
	h := Host{}
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		h["link "+l.Name] = struct{}{}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	for _, l := range strings.Split(string(mounts), "\n") {
		if f := strings.Fields(l); len(f) > 4 {
			h["mount "+f[4]] = struct{}{}
		}
	}
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list nft tables: %w", err)
	}
	for _, t := range tables {
		h[fmt.Sprintf("nft %d %s", t.Family, t.Name)] = struct{}{}
	}
	for _, dir := range []string{"/sys/fs/cgroup", "/run/pintle", "/run/netns", "/run/containerd"} {
		filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error { //nolint:errcheck // what is gone isn't there
			if err == nil && d.IsDir() {
				h["folder "+p] = struct{}{}
			}
			return nil
		})
	}
	for _, s := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/ipv4/conf/all/rp_filter"} {
		v, _ := os.ReadFile("/proc/sys/" + s)
		h["sysctl "+s+" = "+strings.TrimSpace(string(v))] = struct{}{}
	}
	processes, err := processes()
	if err != nil {
		return nil, err
	}
	for _, p := range processes {
		h["process "+p] = struct{}{}
	}
	return h, nil
}

// Diff lists what came ("+ …") and what went ("- …") between two snapshots. When keep is given only
// lines that it takes count: on a shared machine others come and go too.
func Diff(before, after Host, keep func(line string) bool) []string {
	var out []string
	add := func(mark string, a, b Host) {
		for l := range a {
			if _, ok := b[l]; !ok && (keep == nil || keep(l)) {
				out = append(out, mark+l)
			}
		}
	}
	add("+ ", after, before)
	add("- ", before, after)
	sort.Strings(out)
	return out
}
