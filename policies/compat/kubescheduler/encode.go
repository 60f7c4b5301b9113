package kubescheduler

import (
	"strconv"

	"github.com/pintle/pintle/policies/abi"
)

// Where the host has no object, guests get one made of what the policy ABI tells. Numbers are those of Kubernetes'
// published messages.

// milli writes thousandths as Kubernetes does: "2", or "1500m".
func milli(v int64) string {
	if v%1000 == 0 {
		return strconv.FormatInt(v/1000, 10)
	}
	return strconv.FormatInt(v, 10) + "m"
}

// encodePod makes a Pod: metadata 1, spec 2.
func encodePod(p *abi.Pod) []byte {
	meta := text(nil, 1, p.Name)
	meta = text(meta, 3, p.Namespace)
	meta = text(meta, 5, p.UID)
	meta = field(meta, 8, number(nil, 1, uint64(p.CreatedUnixMs/1000)))
	meta = pairs(meta, 11, p.Labels)
	meta = pairs(meta, 12, p.Annotations)
	if p.OwnerKind != "" {
		owner := text(text(nil, 1, p.OwnerKind), 3, p.OwnerName)
		meta = field(meta, 13, number(owner, 6, 1))
	}
	var spec []byte
	images := p.Images
	if len(images) == 0 {
		images = []string{""}
	}
	for i, image := range images {
		container := text(text(nil, 1, "c"+strconv.Itoa(i)), 2, image)
		if i == 0 { // the policy ABI tells the sum
			container = field(container, 8, quantities(nil, 2, p.Requests))
		}
		spec = field(spec, 2, container)
	}
	spec = pairs(spec, 7, p.NodeSelector)
	spec = text(spec, 8, p.ServiceAccount)
	spec = text(spec, 19, p.SchedulerName)
	spec = text(spec, 24, p.PriorityClass)
	spec = number(spec, 25, uint64(int64(p.Priority)))
	return field(field(nil, 1, meta), 2, spec)
}

// encodeNode makes a Node: metadata 1, spec 2, status 3.
func encodeNode(n *abi.Node) []byte {
	meta := text(text(text(nil, 1, n.Name), 3, ""), 5, "")
	meta = field(meta, 8, number(nil, 1, uint64(n.CreatedUnixMs/1000)))
	meta = pairs(meta, 11, n.Labels)
	var spec []byte
	if n.Unschedulable {
		spec = number(spec, 4, 1)
	}
	for _, t := range n.Taints {
		spec = field(spec, 5, text(text(text(nil, 1, t.Key), 2, t.Value), 3, t.Effect))
	}
	status := quantities(quantities(nil, 1, n.Allocatable), 2, n.Allocatable)
	ready := "True"
	if n.NotReady {
		ready = "False"
	}
	status = field(status, 4, text(text(nil, 1, "Ready"), 2, ready))
	return field(field(field(nil, 1, meta), 2, spec), 3, status)
}
