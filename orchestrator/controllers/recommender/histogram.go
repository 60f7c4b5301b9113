package recommender

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Buckets grow by a twentieth, from least on.
const (
	growth   = 1.05
	halfLife = 24 * time.Hour
	margin   = 1.15
	quantile = 0.95
)

// histogram counts samples by their size, newer ones with more weight. Weights are relative to Start, so that old ones
// needn't be touched.
type histogram struct {
	Least   float64         `json:"least"` // where the buckets begin
	Start   int64           `json:"start"` // Unix seconds
	Weights map[int]float64 `json:"weights,omitempty"`
}

func newHistogram(least float64, now time.Time) histogram {
	return histogram{Least: least, Start: now.Unix(), Weights: map[int]float64{}}
}

func (h *histogram) bucket(v float64) int {
	if v <= h.Least {
		return 0
	}
	return int(math.Log(v/h.Least)/math.Log(growth)) + 1
}

// top is the largest value of a bucket.
func (h *histogram) top(bucket int) float64 { return h.Least * math.Pow(growth, float64(bucket)) }

func (h *histogram) weight(at time.Time) float64 {
	return math.Exp2(float64(at.Unix()-h.Start) / halfLife.Seconds())
}

// add counts a sample, or with a share of -1 takes it back.
func (h *histogram) add(v float64, at time.Time, share float64) {
	w := h.weight(at)
	if w > 1<<40 { // weights are to stay small: what is left of the old ones counts from now on
		for b := range h.Weights {
			if h.Weights[b] /= w; h.Weights[b] < 1e-6 {
				delete(h.Weights, b)
			}
		}
		h.Start, w = at.Unix(), 1
	}
	b := h.bucket(v)
	if h.Weights[b] += share * w; h.Weights[b] < 1e-9 {
		delete(h.Weights, b)
	}
}

// percentile is the value that a share of the weight doesn't exceed; 0 without samples.
func (h *histogram) percentile(share float64) float64 {
	total := 0.0
	for _, w := range h.Weights {
		total += w
	}
	if total == 0 {
		return 0
	}
	sum := 0.0
	buckets := slices.Sorted(maps.Keys(h.Weights))
	for _, b := range buckets {
		if sum += h.Weights[b]; sum >= share*total*(1-1e-9) {
			return h.top(b)
		}
	}
	return h.top(buckets[len(buckets)-1])
}
