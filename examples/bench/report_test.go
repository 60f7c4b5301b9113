package main

import (
	"strings"
	"testing"
)

func TestRowIsJudgedByItsTargetOnlyWhereItWasMeasured(t *testing.T) {
	yes, no := true, false
	for name, c := range map[string]struct {
		row    Row
		met    *bool
		target string
	}{
		"below":            {Row{Unit: "ms", Pintle: number(299), below: 300}, &yes, "< 300 ms"},
		"not below":        {Row{Unit: "ms", Pintle: number(300), below: 300}, &no, "< 300 ms"},
		"not measured":     {Row{Unit: "ms", below: 300}, nil, "< 300 ms"},
		"ratio at bound":   {Row{Pintle: number(3), Peer: number(2), ratioBelow: 1.5}, &yes, "ratio <= 1.50"},
		"ratio above":      {Row{Pintle: number(4), Peer: number(2), ratioBelow: 1.5}, &no, "ratio <= 1.50"},
		"ratio from below": {Row{Pintle: number(4), Peer: number(2), ratioAbove: 2}, &yes, "ratio >= 2"},
		"ratio too low":    {Row{Pintle: number(3), Peer: number(2), ratioAbove: 2}, &no, "ratio >= 2"},
		"no peer":          {Row{Pintle: number(4), ratioBelow: 1.5}, nil, "ratio <= 1.50"},
		"without a target": {Row{Pintle: number(4)}, nil, ""},
	} {
		got := c.row.judged()
		if (got.Met == nil) != (c.met == nil) || got.Met != nil && *got.Met != *c.met || got.Target != c.target {
			t.Errorf("%s: met %v, target %q", name, got.Met, got.Target)
		}
	}
}

func TestOnlyChoosesTablesAndRows(t *testing.T) {
	for only, want := range map[string]bool{"": true, "main": true, "main/dns": true, "main/ingress, main/DNS": true, "main/ingress": false} {
		s, err := parseOnly(only)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.row("main", "DNS over UDP"); got != want {
			t.Errorf("-only=%q chooses it: %v", only, got)
		}
	}
	for _, only := range []string{"nothing", "main/nothing"} {
		if _, err := parseOnly(only); err == nil || !strings.Contains(err.Error(), "no such table or row") {
			t.Errorf("-only=%s: %v", only, err)
		}
	}
}

func TestAPeerThatCannotRunIsARowThatSaysSo(t *testing.T) {
	var out strings.Builder
	printTables(&out, []Row{Row{Table: "main", Row: "DNS", Unit: "1/s", Pintle: number(5), PeerName: "CoreDNS can't run here: no"}.judged()})
	if !strings.Contains(out.String(), "CoreDNS can't run here: no") || !strings.Contains(out.String(), "| 5") {
		t.Error(out.String())
	}
}
