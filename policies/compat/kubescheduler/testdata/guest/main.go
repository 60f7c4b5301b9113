// A guest of kube-scheduler's, with every extension point. Its configuration says what it does. It fetches pod and
// nodes as the SDK does: lazily, once in a cycle, by walking a list of what it has.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"strconv"
	"strings"
	"unsafe"
)

//go:wasmimport k8s.io/api node
func importNode(name unsafe.Pointer, nameLen uint32, buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport k8s.io/api nodeList
func importNodeList(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport k8s.io/scheduler currentNodeName
func importCurrentNodeName(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport k8s.io/scheduler currentPod
func importCurrentPod(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport k8s.io/scheduler filteredNodeList
func importFilteredNodeList(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport k8s.io/scheduler nodeToStatusMap
func importNodeToStatusMap(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport k8s.io/scheduler nodeScoreList
func importNodeScoreList(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport k8s.io/scheduler nodeImageStates
func importNodeImageStates(name unsafe.Pointer, nameLen uint32, buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport k8s.io/scheduler get_config
func importGetConfig(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport k8s.io/scheduler result.status_reason
func resultStatusReason(ptr unsafe.Pointer, n uint32)

//go:wasmimport k8s.io/scheduler result.node_names
func resultNodeNames(ptr unsafe.Pointer, n uint32)

//go:wasmimport k8s.io/scheduler result.nominated_node_name
func resultNominatedNodeName(ptr unsafe.Pointer, n uint32)

//go:wasmimport k8s.io/scheduler result.normalized_score_list
func resultNormalizedScoreList(ptr unsafe.Pointer, n uint32)

//go:wasmimport k8s.io/scheduler result.cluster_events
func resultClusterEvents(ptr unsafe.Pointer, n uint32)

//go:wasmimport k8s.io/scheduler handle.eventrecorder.eventf
func eventf(ptr unsafe.Pointer, n uint32)

//go:wasmimport k8s.io/scheduler handle.reject_waiting_pod
func rejectWaitingPod(uid unsafe.Pointer, uidLen uint32, buf unsafe.Pointer, limit uint32)

//go:wasmimport k8s.io/scheduler handle.get_waiting_pod
func getWaitingPod(uid unsafe.Pointer, uidLen uint32, buf unsafe.Pointer, limit uint32)

//go:wasmimport k8s.io/klog log
func klogLog(severity uint32, ptr unsafe.Pointer, n uint32)

//go:wasmimport k8s.io/klog logs
func klogLogs(severity uint32, ptr unsafe.Pointer, n uint32, kvs unsafe.Pointer, kvsLen uint32)

//go:wasmimport k8s.io/klog severity
func klogSeverity() uint32

var buf = make([]byte, 2048)

// get calls a function with a buffer, and again with a larger one where it must.
func get(f func(buf unsafe.Pointer, limit uint32) uint32) []byte {
	n := f(unsafe.Pointer(&buf[0]), uint32(len(buf)))
	if n > uint32(len(buf)) {
		buf = make([]byte, n)
		f(unsafe.Pointer(&buf[0]), n)
	}
	return buf[:n]
}

func ptr(s string) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))
}

type config struct {
	Zone       string   // filter: nodes of this zone pass
	Pinned     []string // prefilter: only these nodes
	Refuse     string   // prefilter: the pod is refused for this reason
	Skip       bool     // prefilter: filter is skipped
	ByImage    bool     // score: by how many nodes have the node's image
	UsePrelist bool     // prescore reads the filtered nodes
	All        bool     // prefilter reads all nodes
	Normalize  bool
	WaitMs     uint32 // permit
	Deny       string // permit
	Reject     string // permit: uid of a waiting pod
	BindCode   uint32
	Do         string // misbehaviour, in filter
}

var cfg config

type object struct{ name, zone, image string }

// The cycle's state, which prefilter forgets.
var (
	pod     *object
	nodes   []*object
	digit   byte
	counted int
	state   []string
)

// decode reads metadata.name, the label zone, and the first image of a pod's containers or a node's status.
func decode(b []byte) *object {
	o := &object{}
	fields(b, func(n int, v []byte) {
		switch n {
		case 1:
			fields(v, func(n int, v []byte) {
				switch n {
				case 1:
					o.name = string(v)
				case 11:
					var key, value string
					fields(v, func(n int, v []byte) {
						if n == 1 {
							key = string(v)
						} else {
							value = string(v)
						}
					})
					if key == "topology.kubernetes.io/zone" {
						o.zone = value
					}
				}
			})
		case 3:
			fields(v, func(n int, v []byte) {
				if n == 8 && o.image == "" {
					fields(v, func(n int, v []byte) {
						if n == 1 {
							o.image = string(v)
						}
					})
				}
			})
		}
	})
	return o
}

func fields(b []byte, fn func(n int, v []byte)) {
	for len(b) > 0 {
		tag, k := binary.Uvarint(b)
		b = b[k:]
		v, k := binary.Uvarint(b)
		b = b[k:]
		if tag&7 == 2 {
			fn(int(tag>>3), b[:v])
			b = b[v:]
		}
	}
}

func lazyPod() *object {
	if pod == nil {
		pod = decode(get(importCurrentPod))
	}
	return pod
}

type lazy struct {
	name string
	full *object
}

var listed []*lazy

func node(name string) *lazy {
	for _, n := range listed {
		if n.name == name {
			return n
		}
	}
	n := &lazy{name: name}
	listed = append(listed, n)
	return n
}

func (n *lazy) get() *object {
	if n.full == nil {
		p, l := ptr(n.name)
		n.full = decode(get(func(buf unsafe.Pointer, limit uint32) uint32 { return importNode(p, l, buf, limit) }))
	}
	return n.full
}

func current() *lazy { return node(string(get(importCurrentNodeName))) }

func status(code uint32, reason string) uint32 {
	if reason != "" {
		p, n := ptr(reason)
		resultStatusReason(p, n)
	}
	return code
}

func main() {}

func init() {
	if b := get(importGetConfig); len(b) > 0 {
		if err := json.Unmarshal(b, &cfg); err != nil {
			panic(err)
		}
	}
}

//go:wasmexport enqueue
func enqueue() {
	b := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 1), 1)
	resultClusterEvents(unsafe.Pointer(&b[0]), uint32(len(b)))
}

//go:wasmexport prefilter
func prefilter() uint32 {
	pod, listed, state = nil, nil, []string{"prefilter"}
	if cfg.All {
		counted = 0
		fields(get(importNodeList), func(int, []byte) { counted++ })
	}
	if cfg.Refuse != "" {
		return status(3, cfg.Refuse)
	}
	if cfg.Skip {
		return 5
	}
	if len(cfg.Pinned) > 0 {
		p, n := ptr(strings.Join(cfg.Pinned, "\x00") + "\x00")
		resultNodeNames(p, n)
	}
	return 0
}

var sink [][]byte

//go:wasmexport filter
func filter() uint32 {
	switch cfg.Do {
	case "spin":
		for {
			counted++
		}
	case "panic":
		panic("on purpose")
	case "grow":
		for {
			sink = append(sink, make([]byte, 1<<20))
		}
	case "lie":
		resultStatusReason(unsafe.Pointer(uintptr(0xfffffff0)), 0xffff)
	case "ask":
		for {
			importCurrentNodeName(unsafe.Pointer(&buf[0]), 16)
		}
	case "error":
		return status(1, "failed on purpose")
	case "code":
		return 77
	}
	if cfg.Zone == "" {
		return 0
	}
	if z := current().get().zone; z != cfg.Zone {
		return status(2, "in another zone than "+cfg.Zone)
	}
	return 0
}

//go:wasmexport prescore
func prescore() uint32 {
	state = append(state, "prescore")
	if cfg.UsePrelist {
		var names []string
		if err := json.Unmarshal(get(importFilteredNodeList), &names); err != nil {
			panic(err)
		}
		counted = len(names)
	}
	name := lazyPod().name
	digit = name[len(name)-1]
	event, _ := json.Marshal(map[string]any{"RegardingReference": map[string]any{"Kind": "Pod", "Name": name}, "Reason": "PreScore", "Note": "looking"})
	eventf(unsafe.Pointer(&event[0]), uint32(len(event)))
	if klogSeverity() == 0 {
		p, n := ptr("scoring")
		kvs, m := ptr("pod\x00" + name + "\x00")
		klogLogs(0, p, n, kvs, m)
		klogLog(0, p, n)
	}
	return 0
}

//go:wasmexport score
func score() uint64 {
	n := current()
	if cfg.ByImage {
		p, l := ptr(n.name)
		var images map[string]struct{ Size, NumNodes int64 }
		if err := json.Unmarshal(get(func(buf unsafe.Pointer, limit uint32) uint32 { return importNodeImageStates(p, l, buf, limit) }), &images); err != nil {
			panic(err)
		}
		return uint64(images[n.get().image].NumNodes) << 32
	}
	if cfg.UsePrelist {
		return uint64(counted) << 32
	}
	if n.name[len(n.name)-1] == digit && strings.Join(state, " ") == "prefilter prescore" {
		return 10 << 32
	}
	return 0
}

//go:wasmexport normalizescore
func normalizescore() uint32 {
	if !cfg.Normalize {
		return 0
	}
	var scores map[string]int
	if err := json.Unmarshal(get(importNodeScoreList), &scores); err != nil {
		panic(err)
	}
	for k := range scores {
		scores[k] *= 7
	}
	b, _ := json.Marshal(scores)
	resultNormalizedScoreList(unsafe.Pointer(&b[0]), uint32(len(b)))
	return 0
}

//go:wasmexport postfilter
func postfilter() uint64 {
	var codes map[string]int
	if err := json.Unmarshal(get(importNodeToStatusMap), &codes); err != nil {
		panic(err)
	}
	p, n := ptr("nominated-" + strconv.Itoa(len(codes)))
	resultNominatedNodeName(p, n)
	return 1<<32 | uint64(status(0, "one of "+strconv.Itoa(len(codes))+" for "+lazyPod().name))
}

var reserved string

//go:wasmexport reserve
func reserve() uint32 {
	reserved = string(bytes.Clone(get(importCurrentNodeName)))
	return 0
}

//go:wasmexport unreserve
func unreserve() { reserved = "" }

//go:wasmexport permit
func permit() uint64 {
	if cfg.Deny != "" {
		return uint64(status(2, cfg.Deny+" on "+reserved)) << 32
	}
	if cfg.Reject != "" {
		p, n := ptr(cfg.Reject)
		rejectWaitingPod(p, n, unsafe.Pointer(&buf[0]), 8)
		done := binary.LittleEndian.Uint64(buf)
		getWaitingPod(p, n, unsafe.Pointer(&buf[0]), uint32(len(buf)))
		return uint64(status(4, "rejected "+strconv.Itoa(int(done))))<<32 | 1
	}
	if cfg.WaitMs > 0 {
		return 4<<32 | uint64(cfg.WaitMs)
	}
	return 0
}

//go:wasmexport prebind
func prebind() uint32 {
	if reserved == "" {
		return status(1, "prebind without reserve")
	}
	return 0
}

//go:wasmexport bind
func bind() uint32 {
	if cfg.BindCode != 0 {
		return status(cfg.BindCode, "bind says so")
	}
	return 5
}

//go:wasmexport postbind
func postbind() { reserved = "" }

// poke calls a host function with whatever the test wants.
//
//go:wasmexport poke
func poke(which, a, b, c, d uint32) uint32 {
	p := func(n uint32) unsafe.Pointer { return unsafe.Pointer(uintptr(n)) }
	switch which % 18 {
	case 0:
		return importNode(p(a), b, p(c), d)
	case 1:
		return importNodeList(p(a), b)
	case 2:
		return importCurrentNodeName(p(a), b)
	case 3:
		return importCurrentPod(p(a), b)
	case 4:
		return importFilteredNodeList(p(a), b)
	case 5:
		return importNodeToStatusMap(p(a), b)
	case 6:
		return importNodeScoreList(p(a), b)
	case 7:
		return importNodeImageStates(p(a), b, p(c), d)
	case 8:
		return importGetConfig(p(a), b)
	case 9:
		resultStatusReason(p(a), b)
	case 10:
		resultNodeNames(p(a), b)
	case 11:
		resultNominatedNodeName(p(a), b)
	case 12:
		resultNormalizedScoreList(p(a), b)
	case 13:
		eventf(p(a), b)
	case 14:
		rejectWaitingPod(p(a), b, p(c), d)
	case 15:
		getWaitingPod(p(a), b, p(c), d)
	case 16:
		klogLog(a, p(b), c)
	case 17:
		klogLogs(a, p(b), c, p(d), a)
	}
	return 0
}
