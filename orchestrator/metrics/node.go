package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// maxAnswer bounds what is read of one node's answer, in bytes: a thousand containers' are a third of a megabyte.
const maxAnswer = 16 << 20

// nodes asks agents, as the API server does for logs.
type nodes struct{ transport *http.Transport }

func newNodes(dial func(ctx context.Context, node string) (net.Conn, error)) *nodes {
	return &nodes{transport: &http.Transport{
		DisableKeepAlives: true, // one connection per question: nothing to leak, nothing to find stale
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return dial(ctx, node)
		},
	}}
}

// get reads one path of a node's agent.
func (n *nodes) get(ctx context.Context, node, path string, read func(io.Reader) error) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(node, "10250")+path, nil)
	if err != nil {
		return fmt.Errorf("ask node %s: %w", node, err)
	}
	answer, err := n.transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("ask node %s: %w", node, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("ask node %s for %s: %s", node, path, answer.Status)
	}
	if err := read(io.LimitReader(answer.Body, maxAnswer)); err != nil {
		return fmt.Errorf("read %s of node %s: %w", path, node, err)
	}
	return nil
}

// summary is the part of the kubelet's summary that is used.
type summary struct {
	Node struct {
		CPU    cpuStats    `json:"cpu"`
		Memory memoryStats `json:"memory"`
	} `json:"node"`
	Pods []struct {
		Ref struct {
			Name      string    `json:"name"`
			Namespace string    `json:"namespace"`
			UID       types.UID `json:"uid"`
		} `json:"podRef"`
		Containers []struct {
			Name   string      `json:"name"`
			Start  time.Time   `json:"startTime"`
			CPU    cpuStats    `json:"cpu"`
			Memory memoryStats `json:"memory"`
		} `json:"containers"`
	} `json:"pods"`
}

type cpuStats struct {
	Time  time.Time `json:"time"`
	Total uint64    `json:"usageCoreNanoSeconds"`
}

type memoryStats struct {
	Working uint64 `json:"workingSetBytes"`
}

func (s *summary) reading(now time.Time) reading {
	out := reading{at: now, pods: make(map[types.UID]podReading, len(s.Pods)),
		node: counter{at: s.Node.CPU.Time, cpu: time.Duration(s.Node.CPU.Total), memory: int64(s.Node.Memory.Working)}}
	for _, p := range s.Pods {
		r := podReading{namespace: p.Ref.Namespace, name: p.Ref.Name, containers: make(map[string]counter, len(p.Containers))}
		for _, c := range p.Containers {
			r.containers[c.Name] = counter{at: c.CPU.Time, started: c.Start, cpu: time.Duration(c.CPU.Total), memory: int64(c.Memory.Working)}
		}
		out.pods[p.Ref.UID] = r
	}
	return out
}

func (n *nodes) summary(ctx context.Context, node string) (s summary, err error) {
	err = n.get(ctx, node, "/stats/summary", func(r io.Reader) error { return json.NewDecoder(r).Decode(&s) })
	return s, err
}
