// Command cost-carbon is a policy: nodes that cost less and emit less come first, as their labels say. See ../README.md.
package main

import (
	"errors"
	"math"
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

// measure is one of the things that nodes are compared by.
type measure struct {
	name, label string
	reason      string
	weight      float64
	max         float64
	limited     bool // max holds

	verdict     uint32 // of this call
	least, most float64
}

var measures = [...]measure{
	{name: "cost", label: "pintle.dev/cost-per-hour", reason: "cost above the limit or unknown"},
	{name: "carbon", label: "pintle.dev/carbon-intensity", reason: "carbon intensity above the limit or unknown"},
}

func configure(s *pintle.Settings) (pintle.Needs, error) {
	any := false
	for key, value := range s.JSON.Members() {
		var m *measure
		for i := range measures {
			if measures[i].name == key {
				m = &measures[i]
			}
		}
		if m == nil {
			return pintle.Needs{}, errors.New(`settings: want cost and carbon, each {"label", "weight", "max"}`)
		}
		if value.Kind() != '{' {
			return pintle.Needs{}, errors.New("settings." + m.name + `: want {"label", "weight", "max"}`)
		}
		m.weight = 1
		for key, v := range value.Members() {
			ok := false
			switch key {
			case "label":
				m.label = strings.Clone(v.String())
				ok = m.label != ""
			case "weight":
				m.weight, ok = number(v)
			case "max":
				m.max, ok = number(v)
				m.limited = true
			}
			if !ok {
				return pintle.Needs{}, errors.New("settings." + m.name + ": want a label's key, and for weight and max numbers from 0 on")
			}
		}
		any = any || m.weight > 0 || m.limited
	}
	if !any {
		return pintle.Needs{}, errors.New("settings: weigh or limit cost, carbon or both")
	}
	var needs pintle.Needs
	for i := range measures {
		needs.Columns = append(needs.Columns, pintle.Column{Kind: pintle.LabelNumber, Name: measures[i].label})
	}
	return needs, nil
}

func number(v pintle.Value) (float64, bool) {
	n, ok := v.Float()
	return n, ok && n >= 0
}

func known(v float64) bool { return v-v == 0 } // a finite number

func fill(_ *scheduling.Pod, nodes *place.Nodes) {
	for i := range measures {
		m := &measures[i]
		m.verdict = nodes.Reason(m.reason)
		m.least, m.most = math.Inf(1), math.Inf(-1)
	}
	for i := range nodes.Len() {
		n := nodes.Node(i)
		for j := range measures {
			m, v := &measures[j], nodes.Number(n, j)
			if m.limited && nodes.Verdicts[i] == 0 && !(known(v) && v <= m.max) {
				nodes.Verdicts[i] = m.verdict
			}
		}
		if nodes.Verdicts[i] != 0 {
			continue
		}
		for j := range measures {
			if v := nodes.Number(n, j); known(v) {
				measures[j].least, measures[j].most = min(measures[j].least, v), max(measures[j].most, v)
			}
		}
	}
	weights := measures[0].weight + measures[1].weight
	if weights == 0 {
		return
	}
	for i := range nodes.Len() {
		if nodes.Verdicts[i] != 0 {
			continue
		}
		n, good := nodes.Node(i), 0.0
		for j := range measures {
			m, v := &measures[j], nodes.Number(n, j)
			if !known(v) {
				continue
			}
			share := 1.0
			if span := m.most - m.least; span > 0 {
				share = (m.most - v) / span
			}
			good += m.weight * share
		}
		nodes.Scores[i] = int32(100*good/weights + 0.5)
	}
}
