package kubescheduler

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/pintle/pintle/policies/guest"
)

const (
	moduleAPI       = "k8s.io/api"
	moduleScheduler = "k8s.io/scheduler"
	moduleKlog      = "k8s.io/klog"
)

var errOutside = errors.New("a function that needs a pod is called outside of its scheduling")

// hostFunc finds its parameters in s. What a guest may fetch it asks for with a buffer and its size as the last two
// parameters: what doesn't fit isn't written, and the result is always the size that is needed.
type hostFunc func(ctx context.Context, in *guest.Instance, c *cycle, s []uint64) error

// fetch makes a host function of what returns the bytes. named: they belong to the node that the first two parameters
// name.
func fetch(named bool, get func(ctx context.Context, c *cycle, name string) ([]byte, error)) hostFunc {
	return func(ctx context.Context, in *guest.Instance, c *cycle, s []uint64) error {
		name, at := "", 0
		if named {
			b, err := in.Read(uint32(s[0]), uint32(s[1]))
			if err != nil {
				return err
			}
			if len(b) > 1024 {
				return fmt.Errorf("a node's name of %d bytes", len(b))
			}
			name, at = string(b), 2
		}
		b, err := get(ctx, c, name)
		if err != nil {
			return err
		}
		if buf, limit := uint32(s[at]), uint32(s[at+1]); len(b) > 0 && len(b) <= int(limit) {
			if err := in.Charge(uint64(len(b) / 8)); err != nil {
				return err
			}
			if err := in.Write(buf, b); err != nil {
				return err
			}
		}
		s[0] = uint64(len(b))
		return nil
	}
}

// take makes a host function that takes a piece of the guest's memory, valid until it returns.
func take(set func(ctx context.Context, c *cycle, b []byte) error) hostFunc {
	return func(ctx context.Context, in *guest.Instance, c *cycle, s []uint64) error {
		b, err := in.ReadAnswer(uint32(s[0]), uint32(s[1]))
		if err != nil {
			return err
		}
		if err := in.Charge(uint64(len(b))); err != nil {
			return err
		}
		return set(ctx, c, b)
	}
}

// Hosts is what these guests import. A guest built with an SDK of before names were stable finds them in either
// module, and node without a name is the one that is being looked at.
func (a *Adapter) Hosts(m *guest.Info) []guest.HostModule {
	var funcs []guest.HostFunc
	add := func(name string, params, results int, f hostFunc) {
		h := guest.HostFunc{Name: name}
		for range params {
			h.Params = append(h.Params, guest.I32)
		}
		for range results {
			h.Results = append(h.Results, guest.I32)
		}
		h.Call = func(ctx context.Context, in *guest.Instance, s []uint64) error {
			c, ok := in.State.(*cycle)
			if !ok {
				return fmt.Errorf("%s is called before the module is set up", name)
			}
			return f(ctx, in, c, s)
		}
		funcs = append(funcs, h)
	}

	node := fetch(true, func(_ context.Context, c *cycle, name string) ([]byte, error) { return c.nodeBytes(name) })
	if paramsOf(m, "node") == 2 {
		add("node", 2, 1, fetch(false, func(_ context.Context, c *cycle, _ string) ([]byte, error) { return c.nodeBytes(c.node) }))
	} else {
		add("node", 4, 1, node)
	}
	add("nodeList", 2, 1, fetch(false, func(_ context.Context, c *cycle, _ string) ([]byte, error) { return c.nodeList() }))
	currentName := fetch(false, func(_ context.Context, c *cycle, _ string) ([]byte, error) { return []byte(c.node), nil })
	add("currentNodeName", 2, 1, currentName)
	add("nodeName", 2, 1, currentName)
	pod := fetch(false, func(_ context.Context, c *cycle, _ string) ([]byte, error) {
		if c.known == nil {
			return nil, errOutside
		}
		return c.known.pod, nil
	})
	add("currentPod", 2, 1, pod)
	add("pod", 2, 1, pod)
	add("targetPod", 2, 1, fetch(false, func(context.Context, *cycle, string) ([]byte, error) { return nil, nil })) // of addpod and removepod
	add("filteredNodeList", 2, 1, fetch(false, func(_ context.Context, c *cycle, _ string) ([]byte, error) {
		c.readFiltered = true
		return c.filteredNames(), nil
	}))
	add("nodeToStatusMap", 2, 1, fetch(false, func(_ context.Context, c *cycle, _ string) ([]byte, error) {
		if c.known == nil || c.known.statuses == nil {
			return []byte("{}"), nil
		}
		return c.known.statuses, nil
	}))
	add("nodeScoreList", 2, 1, fetch(false, func(_ context.Context, c *cycle, _ string) ([]byte, error) {
		if c.run == nil {
			return []byte("{}"), nil
		}
		return c.scoreList(), nil
	}))
	add("nodeImageStates", 4, 1, fetch(true, func(_ context.Context, c *cycle, name string) ([]byte, error) { return c.imageStates(name) }))
	add("get_config", 2, 1, fetch(false, func(_ context.Context, c *cycle, _ string) ([]byte, error) { return c.e.config, nil }))

	reason := take(func(_ context.Context, c *cycle, b []byte) error {
		c.reason = strings.ToValidUTF8(string(b[:min(len(b), maxReason)]), "�")
		return nil
	})
	add("result.status_reason", 2, 0, reason)
	add("status_reason", 2, 0, reason)
	add("result.node_names", 2, 0, take(func(_ context.Context, c *cycle, b []byte) error {
		c.names = map[string]bool{}
		for name := range strings.SplitSeq(string(b), "\x00") {
			if name != "" {
				c.names[name] = true
			}
		}
		return nil
	}))
	add("result.nominated_node_name", 2, 0, take(func(_ context.Context, c *cycle, b []byte) error {
		c.nominated = string(b)
		return nil
	}))
	add("result.normalized_score_list", 2, 0, take(func(_ context.Context, c *cycle, b []byte) error {
		c.normalized = nil
		if err := json.Unmarshal(b, &c.normalized); err != nil {
			return fmt.Errorf("the module's normalized scores: %w", err)
		}
		return nil
	}))
	add("result.cluster_events", 2, 0, take(func(context.Context, *cycle, []byte) error { return nil }))
	add("handle.eventrecorder.eventf", 2, 0, take(recordEvent))
	add("handle.reject_waiting_pod", 4, 0, rejectWaiting)
	add("handle.get_waiting_pod", 4, 0, getWaiting)

	klog := guest.HostModule{Name: moduleKlog, Funcs: a.klog()}
	return []guest.HostModule{{Name: moduleAPI, Funcs: funcs}, {Name: moduleScheduler, Funcs: funcs}, klog}
}

// maxReason bounds the reason of a status, in bytes: it goes into pods' events.
const maxReason = 1024

func paramsOf(m *guest.Info, name string) int {
	for _, e := range m.Imports {
		if e.Name == name && (e.Module == moduleAPI || e.Module == moduleScheduler) {
			return len(e.Params)
		}
	}
	return 0
}

// recordEvent gives an event on, once for each pod's placing: cycles begin anew, and guests record anew with them.
func recordEvent(ctx context.Context, c *cycle, b []byte) error {
	var event Event
	if err := json.Unmarshal(b, &event); err != nil {
		return fmt.Errorf("the module's event: %w", err)
	}
	if c.run != nil {
		if c.run.events[event] || len(c.run.events) >= 100 {
			return nil
		}
		c.run.events[event] = true
	}
	if c.e.adapter.cfg.Events != nil {
		c.e.adapter.cfg.Events(ctx, event)
	}
	return nil
}

// rejectWaiting ends the wait of a pod that this policy told to wait, and writes 1; 0 if there is none of that uid.
func rejectWaiting(_ context.Context, in *guest.Instance, c *cycle, s []uint64) error {
	uid, err := in.Read(uint32(s[0]), uint32(s[1]))
	if err != nil {
		return err
	}
	var found uint64
	for _, w := range c.waiting {
		if w.Pod.UID == string(uid) {
			c.reject, found = append(c.reject, w.Pod.UID), 1
		}
	}
	return writeNumber(in, s, found)
}

// getWaiting writes a pod that this policy told to wait; a zero if there is none of that uid.
func getWaiting(_ context.Context, in *guest.Instance, c *cycle, s []uint64) error {
	uid, err := in.Read(uint32(s[0]), uint32(s[1]))
	if err != nil {
		return err
	}
	for _, w := range c.waiting {
		if w.Pod.UID == string(uid) {
			if b := c.e.recall(w.Pod).pod; len(b) <= int(uint32(s[3])) {
				return in.Write(uint32(s[2]), b)
			}
			return nil
		}
	}
	return writeNumber(in, s, 0)
}

func writeNumber(in *guest.Instance, s []uint64, n uint64) error {
	if uint32(s[3]) < 8 {
		return nil
	}
	return in.Write(uint32(s[2]), binary.LittleEndian.AppendUint64(nil, n))
}
