package main

import (
	"context"
	"fmt"
	"math"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pintle/pintle/gpu"
)

// smiProfile is a line of nvidia-smi mig -lgip, and the places of -lgipp.
type smiProfile struct {
	gpu, id, total int
	name           string
	gib            float64
	placements     string
}

var (
	profileLine   = regexp.MustCompile(`^\|\s+(\d+)\s+MIG (\S+)\s+(\d+)\s+\d+/(\d+)\s+([\d.]+)`)
	placementLine = regexp.MustCompile(`^GPU\s+(\d+) Profile ID\s+(\d+) Placements?\s*: \{([\d,]+)\}:(\d+)`)
)

// askMIG lists the MIG profiles that nvidia-smi knows. None, where no GPU has MIG, or tells before it is on.
func askMIG(ctx context.Context, path string) ([]smiProfile, error) {
	list := func(what string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, path, "mig", what).Output()
		if err != nil {
			return "", fmt.Errorf("run %s mig %s: %w: %s", path, what, err, strings.TrimSpace(string(out)))
		}
		return string(out), nil
	}
	profiles, err := list("-lgip")
	if err != nil {
		return nil, err
	}
	placements, err := list("-lgipp")
	if err != nil {
		return nil, err
	}
	return parseMIG(profiles, placements), nil
}

func parseMIG(profiles, placements string) []smiProfile {
	var out []smiProfile
	for line := range strings.Lines(profiles) {
		if m := profileLine.FindStringSubmatch(line); m != nil {
			p := smiProfile{name: m[2]}
			p.gpu, _ = strconv.Atoi(m[1])
			p.id, _ = strconv.Atoi(m[3])
			p.total, _ = strconv.Atoi(m[4])
			p.gib, _ = strconv.ParseFloat(m[5], 64)
			out = append(out, p)
		}
	}
	for line := range strings.Lines(placements) {
		m := placementLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		for i := range out {
			if strconv.Itoa(out[i].gpu) == m[1] && strconv.Itoa(out[i].id) == m[2] {
				for start := range strings.SplitSeq(m[3], ",") {
					out[i].placements += " " + start + ":" + m[4]
				}
			}
		}
	}
	return out
}

// compareMIG sets the profiles that the Manager knows of each GPU beside nvidia-smi's.
func compareMIG(inv *gpu.Inventory, theirs []smiProfile) []finding {
	c := comparison{}
	for i := range inv.Devices {
		d := &inv.Devices[i]
		count := 0
		for _, s := range theirs {
			if s.gpu != d.Index {
				continue
			}
			count++
			ours, gib, places := "not listed", 0.0, ""
			for _, p := range d.MIG.Profiles {
				if p.ID != s.id {
					continue
				}
				ours, gib = fmt.Sprintf("%s, at most %d", p.Name, p.Max), float64(p.MemoryMB)/1024
				for _, at := range p.Placements {
					places += " " + at.String()
				}
			}
			prefix := fmt.Sprintf("GPU %d MIG profile %d", i, s.id)
			c.equal(prefix, ours, fmt.Sprintf("%s, at most %d", s.name, s.total))
			c.equal(prefix+", its placements", places, s.placements)
			c.add(finding{What: prefix + ", its memory in GiB", Ours: fmt.Sprintf("%.2f", gib), SMI: fmt.Sprintf("%.2f", s.gib), Equal: math.Abs(gib-s.gib) < 0.01})
		}
		if count > 0 {
			c.equal(fmt.Sprintf("GPU %d number of MIG profiles", i), strconv.Itoa(len(d.MIG.Profiles)), strconv.Itoa(count))
		}
	}
	return c.findings
}
