// Command gang is a policy: the pods of a group are bound together, once enough of them have a place. See ../README.md.
package main

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	pintle "github.com/pintle/pintle/policies/sdk/go"
	"github.com/pintle/pintle/policies/sdk/go/scheduling"
	"github.com/pintle/pintle/policies/sdk/go/scheduling/permit"
)

func init() {
	pintle.Configure(configure)
	permit.Handle(decide)
}

func main() {}

var (
	nameLabel       = "pod-group.scheduling.sigs.k8s.io/name"
	minLabel        = "pod-group.scheduling.sigs.k8s.io/min-available"
	timeoutMs int64 = 60_000
	seesPods  bool
)

func configure(s *pintle.Settings) (pintle.Needs, error) {
	seesPods = slices.Contains(s.Capabilities, "read:/pods")
	for key, value := range s.JSON.Members() {
		switch key {
		case "nameLabel":
			if nameLabel = strings.Clone(value.String()); nameLabel == "" {
				return pintle.Needs{}, errors.New("settings.nameLabel: want a label's key")
			}
		case "minLabel":
			if minLabel = strings.Clone(value.String()); minLabel == "" {
				return pintle.Needs{}, errors.New("settings.minLabel: want a label's key")
			}
		case "timeoutSeconds":
			n, ok := value.Int()
			if !ok || n < 1 || n > 86_400 {
				return pintle.Needs{}, errors.New("settings.timeoutSeconds: want a number from 1 to 86400")
			}
			timeoutMs = 1000 * n
		default:
			return pintle.Needs{}, errors.New(`settings: unknown field "` + key + `"`)
		}
	}
	return pintle.Needs{}, nil
}

func decide(r *permit.Request) permit.Response {
	name, _ := r.Pod.Labels.Get(nameLabel)
	if name == "" {
		return permit.Response{}
	}
	text, _ := r.Pod.Labels.Get(minLabel)
	least, err := strconv.ParseUint(text, 10, 32)
	if err != nil || least < 1 || least > 100_000 {
		return permit.Response{Decision: permit.Deny, Reason: "label " + minLabel + `: want the group's number of pods, not "` + text + `"`}
	}
	there := uint64(1)
	var waiting []string
	for other := range r.Waiting() {
		if group, _ := other.Labels.Get(nameLabel); group == name && other.Namespace == r.Pod.Namespace && other.UID != r.Pod.UID {
			there++
			waiting = append(waiting, other.UID)
		}
	}
	if there < least && seesPods {
		there += bound(&r.Pod, name)
	}
	if there >= least {
		return permit.Response{Allow: waiting}
	}
	return permit.Response{
		Decision: permit.Wait, TimeoutMs: timeoutMs,
		Reason: `gang "` + name + `": ` + strconv.FormatUint(there, 10) + " of " + strconv.FormatUint(least, 10) + " pods have a place",
	}
}

// bound counts the group's pods that have a node already and haven't ended: those that were there before.
func bound(pod *scheduling.Pod, name string) uint64 {
	n := uint64(0)
	for p := range pintle.Lookup("/v1/pods/" + pod.Namespace + "/").Get("items").Elements() {
		meta, phase := p.Get("metadata"), p.Get("status").Get("phase").String()
		if meta.Get("labels").Get(nameLabel).String() == name && meta.Get("uid").String() != pod.UID &&
			p.Get("spec").Get("nodeName").String() != "" && phase != "Succeeded" && phase != "Failed" {
			n++
		}
	}
	return n
}
