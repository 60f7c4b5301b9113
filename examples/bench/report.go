package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"text/tabwriter"
)

// Row is one line of a table. A value that is nil was not measured, and Note says why.
type Row struct {
	Table string `json:"table"`
	Row   string `json:"row"`
	Unit  string `json:"unit"`
	// Pintle and Peer are in Unit.
	Pintle   *float64 `json:"pintle"`
	Peer     *float64 `json:"peer"`
	PeerName string   `json:"peer_name"`
	// Ratio is Pintle to Peer.
	Ratio *float64 `json:"ratio"`
	// Target is the bound in words; Met is nil without a target or a value.
	Target string `json:"target"`
	Met    *bool  `json:"met"`
	Note   string `json:"note,omitempty"`

	below      float64 // the bound of Pintle; 0 is none
	ratioBelow float64 // the bound of Ratio; 0 is none
	ratioAbove float64 // the bound of Ratio from below; 0 is none
}

func number(v float64) *float64 { return &v }

// judged fills in Ratio, Target and Met.
func (r Row) judged() Row {
	if r.Pintle != nil && r.Peer != nil && *r.Peer != 0 {
		r.Ratio = number(*r.Pintle / *r.Peer)
	}
	judge := func(value *float64, bound float64) {
		if value != nil {
			met := *value < bound
			r.Met = &met
		}
	}
	switch {
	case r.below != 0:
		r.Target = fmt.Sprintf("< %s %s", plain(r.below), r.Unit)
		judge(r.Pintle, r.below)
	case r.ratioBelow != 0:
		r.Target = fmt.Sprintf("ratio <= %s", plain(r.ratioBelow))
		judge(r.Ratio, math.Nextafter(r.ratioBelow, math.Inf(1)))
	case r.ratioAbove != 0:
		r.Target = fmt.Sprintf("ratio >= %s", plain(r.ratioAbove))
		if r.Ratio != nil {
			met := *r.Ratio >= r.ratioAbove
			r.Met = &met
		}
	}
	return r
}

// failed are the rows of a measurement that could not run.
func failed(m measurement, err error) []Row {
	var rows []Row
	for _, name := range m.rows {
		rows = append(rows, Row{Row: name, Note: "not measured: " + err.Error()})
	}
	return rows
}

func printTables(w io.Writer, rows []Row) {
	table := ""
	var out *tabwriter.Writer
	for _, r := range rows {
		if r.Table != table {
			if out != nil {
				out.Flush()
			}
			table = r.Table
			fmt.Fprintf(w, "\n%s\n", table)
			out = tabwriter.NewWriter(w, 0, 4, 1, ' ', 0)
			fmt.Fprintln(out, "| row\t| unit\t| pintle\t| peer\t| peer is\t| ratio\t| target\t| met\t| note\t|")
			fmt.Fprintln(out, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
		}
		met := ""
		if r.Met != nil {
			met = map[bool]string{true: "yes", false: "no"}[*r.Met]
		}
		fmt.Fprintf(out, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", r.Row, r.Unit, shown(r.Pintle), shown(r.Peer),
			r.PeerName, shown(r.Ratio), r.Target, met, r.Note)
	}
	if out != nil {
		out.Flush()
	}
}

func shown(v *float64) string {
	if v == nil {
		return "-"
	}
	return plain(*v)
}

// plain writes three significant digits at least, and whole numbers in full.
func plain(v float64) string {
	digits := 0
	switch {
	case math.Abs(v) >= 100 || v == math.Trunc(v):
	case math.Abs(v) >= 10:
		digits = 1
	default:
		digits = 2
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

func writeJSON(file string, rows []Row) error {
	data, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	return nil
}
