// Command gpu-binpack is a policy: pods that ask for GPUs go where they leave the fewest free; the others keep off nodes
// with GPUs. See ../README.md.
package main

import (
	"errors"
	"strings"

	pintle "github.com/pintle/pintle/policies/sdk/go"
	"github.com/pintle/pintle/policies/sdk/go/scheduling"
	"github.com/pintle/pintle/policies/sdk/go/scheduling/place"
)

func init() {
	pintle.Configure(configure)
	place.Handle(fill)
}

func main() {}

const gpu = "nvidia.com/gpu"

var resource = gpu

func configure(s *pintle.Settings) (pintle.Needs, error) {
	for key, value := range s.JSON.Members() {
		if key != "resource" {
			return pintle.Needs{}, errors.New(`settings: unknown field "` + key + `"`)
		}
		if value.String() == "" {
			return pintle.Needs{}, errors.New("settings.resource: want the name of a resource")
		}
		resource = strings.Clone(value.String())
	}
	if resource == gpu {
		return pintle.Needs{}, nil // the record has it
	}
	return pintle.Needs{Columns: []pintle.Column{{Kind: pintle.Allocatable, Name: resource}, {Kind: pintle.Requested, Name: resource}}}, nil
}

func fill(pod *scheduling.Pod, nodes *place.Nodes) {
	want := pod.Requested(resource)
	full := uint32(0)
	if want > 0 {
		full = nodes.Reason("too few free " + resource)
	}
	verdicts, scores := nodes.Verdicts, nodes.Scores
	if want > 0 && resource == gpu {
		gpus(nodes, want, full)
		return
	}
	for i, row := range nodes.Rows() {
		n := nodes.Row(row)
		have, used := n.GPU, n.GPURequested
		if resource != gpu {
			have, used = nodes.Quantity(n, 0), nodes.Quantity(n, 1)
		}
		switch {
		case want <= 0:
			if have == 0 {
				scores[i] = 100
			}
		case used+want > have:
			verdicts[i] = full
		default:
			scores[i] = score(used+want, have)
		}
	}
}

// gpus is a function of its own: the fewer variables there are beside a loop, the quicker is what Go makes of it.
func gpus(nodes *place.Nodes, want int64, full uint32) {
	rows := nodes.Rows()
	verdicts, scores := nodes.Verdicts[:len(rows)], nodes.Scores[:len(rows)]
	for i, row := range rows {
		n := nodes.Row(row)
		have, used := n.GPU, n.GPURequested+want
		if used > have {
			verdicts[i] = full
		} else {
			scores[i] = score(used, have)
		}
	}
}

// score is unsigned: Go's signed division is a call, since WebAssembly's traps where Go's doesn't.
func score(used, have int64) int32 { return int32(uint64(used) * 100 / uint64(have)) }
