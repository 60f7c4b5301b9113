package queues

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
)

const gpu = corev1.ResourceName("nvidia.com/gpu")

func start() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func cpus(n int64) Amounts { return Amounts{corev1.ResourceCPU: n * 1000} }

func TestQuotaIsLentAndNoMore(t *testing.T) {
	alone := []Spec{{Name: "a", Nominal: cpus(40)}}
	pair := []Spec{{Name: "a", Cohort: "all", Nominal: cpus(40)}, {Name: "b", Cohort: "all", Nominal: cpus(20)}}
	limited := []Spec{{Name: "a", Cohort: "all", Nominal: cpus(40), Limit: cpus(4)}, {Name: "b", Cohort: "all", Nominal: cpus(20)}}
	tests := map[string]struct {
		specs  []Spec
		used   map[string]Amounts
		want   Amounts
		denied string
		own    bool
	}{
		"within":                      {alone, map[string]Amounts{"a": cpus(38)}, cpus(2), "", false},
		"none left":                   {alone, map[string]Amounts{"a": cpus(40)}, cpus(2), "queue a: 40 of 40 cpu used, 2 wanted", false},
		"never":                       {alone, nil, cpus(41), "queue a: 41 cpu wanted, it can have 40 at most", false},
		"what isn't named is free":    {alone, map[string]Amounts{"a": cpus(40)}, Amounts{gpu: 8}, "", false},
		"borrowed":                    {pair, map[string]Amounts{"a": cpus(40), "b": cpus(18)}, cpus(2), "", false},
		"all is lent":                 {pair, map[string]Amounts{"a": cpus(40), "b": cpus(20)}, cpus(2), "queue a: 40 of 40 cpu used, 2 wanted, cohort all has none to lend", false},
		"too little to lend":          {pair, map[string]Amounts{"a": cpus(40), "b": cpus(19)}, cpus(2), "queue a: 40 of 40 cpu used, 2 wanted, cohort all has 1 to lend", false},
		"one's own is lent":           {pair, map[string]Amounts{"a": cpus(30), "b": cpus(30)}, cpus(2), "queue a: 30 of 40 cpu used, 2 wanted, cohort all has none to lend", true},
		"up to the limit":             {limited, map[string]Amounts{"a": cpus(42)}, cpus(2), "", false},
		"beyond the limit":            {limited, map[string]Amounts{"a": cpus(43)}, cpus(2), "queue a: 43 of 40 cpu used (it may borrow 4), 2 wanted", false},
		"never, with the limit":       {limited, nil, cpus(45), "queue a: 45 cpu wanted, it can have 44 at most", false},
		"the limit of the cohort":     {pair, nil, cpus(61), "queue a: 61 cpu wanted, it can have 60 at most", false},
		"the whole cohort":            {pair, nil, cpus(60), "", false},
		"none is named for the queue": {[]Spec{{Name: "a", Cohort: "all"}, pair[1]}, map[string]Amounts{"b": cpus(20)}, cpus(5), "", false},
		"two resources": {[]Spec{{Name: "a", Nominal: Amounts{corev1.ResourceCPU: 1500, corev1.ResourceMemory: 4 << 30}}}, map[string]Amounts{"a": {corev1.ResourceCPU: 1000, corev1.ResourceMemory: 4 << 30}},
			Amounts{corev1.ResourceCPU: 1000, corev1.ResourceMemory: 1 << 20}, "queue a: 1 of 1500m cpu used, 1 wanted; 4Gi of 4Gi memory used, 1Mi wanted", false},
	}
	for name, tt := range tests {
		b := NewBook()
		for _, s := range tt.specs {
			b.Set(s)
		}
		for queue, a := range tt.used {
			b.Use(queue, a, 1)
		}
		d := b.Admit(Want{Queue: "a", Name: "x", Amounts: tt.want}, start())
		switch {
		case d == nil && tt.denied != "", d != nil && (d.Error() != tt.denied || d.Own != tt.own):
			t.Errorf("%s: got %v (own %v), want %s (own %v)", name, d, d != nil && d.Own, tt.denied, tt.own)
		}
	}
}

func TestTheLeastShareGoesNext(t *testing.T) {
	b := NewBook()
	for _, s := range []Spec{{Name: "a", Cohort: "c", Nominal: Amounts{corev1.ResourceCPU: 10000, gpu: 4}}, {Name: "b", Cohort: "c", Nominal: Amounts{corev1.ResourceCPU: 10000, gpu: 4}, Weight: 3}, {Name: "z"}} {
		b.Set(s)
	}
	if next := b.Next([]string{"b", "a"}); next != "a" {
		t.Errorf("of equals %s goes first", next)
	}
	b.Use("a", Amounts{corev1.ResourceCPU: 5000, gpu: 1}, 1) // cpu dominates: a quarter
	b.Use("b", Amounts{corev1.ResourceCPU: 1000, gpu: 5}, 1) // GPUs dominate: 5/8, by 3
	if a, bb := b.Share("a"), b.Share("b"); a != 0.25 || bb != 5.0/8/3 {
		t.Errorf("the shares are %v and %v", a, bb)
	}
	if next := b.Next([]string{"a", "b"}); next != "b" {
		t.Errorf("%s goes next", next)
	}
	if b.Share("z") != 0 || b.Share("none") != 0 || b.Next(nil) != "" {
		t.Error("who uses nothing that is limited has a share")
	}
}

func TestWhatIsLentIsTakenBackFromBorrowers(t *testing.T) {
	b := NewBook()
	b.Set(Spec{Name: "a", Cohort: "c", Nominal: cpus(10)})
	b.Set(Spec{Name: "b", Cohort: "c", Nominal: cpus(10)})
	b.Set(Spec{Name: "d", Cohort: "c", Nominal: cpus(10)})
	b.Set(Spec{Name: "e", Nominal: cpus(1)})
	b.Use("b", cpus(13), 1)
	b.Use("d", cpus(17), 1)
	b.Use("e", cpus(5), 1)
	units := []Lent{{"b", cpus(2)}, {"b", cpus(2)}, {"d", cpus(10)}, {"d", cpus(4)}, {"d", cpus(4)}, {"e", cpus(5)}, {"a", cpus(1)}, {"d", Amounts{gpu: 1}}}
	// d has the larger share; 4 of its 7 go in one piece, and the rest takes the next that is lent at all. b has lent 3.
	if got, want := b.Reclaimable(Want{Queue: "a", Amounts: cpus(10)}, units), []int{3, 2, 0, 1}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for name, w := range map[string]Want{"who would borrow": {Queue: "a", Amounts: cpus(11)}, "without a cohort": {Queue: "e", Amounts: cpus(1)},
		"what nobody has borrowed": {Queue: "a", Amounts: Amounts{gpu: 1}}} {
		if got := b.Reclaimable(w, units); len(got) > 0 {
			t.Errorf("%s reclaims %v", name, got)
		}
	}
}

func TestWhoHasWaitedLongIsWaitedFor(t *testing.T) {
	b := NewBook()
	b.Set(Spec{Name: "a", Cohort: "c", Nominal: cpus(10)})
	b.Set(Spec{Name: "b", Cohort: "c", Nominal: cpus(10)})
	b.Use("a", cpus(9), 1)
	b.Use("b", cpus(8), 1)
	gang := Want{Queue: "a", Name: "gang train", Amounts: cpus(4), Since: start()}
	small := func(queue string, n, priority int64) Want {
		return Want{Queue: queue, Name: "small", Amounts: cpus(n), Priority: int32(priority)}
	}
	deny := func(w Want, after time.Duration) *Denial {
		d := b.Admit(w, start().Add(after))
		b.Waits(w, d, start().Add(after))
		return d
	}
	if deny(gang, time.Second) == nil || deny(small("a", 1, 0), time.Second) != nil {
		t.Fatal("a moment after it came it's waited for, or isn't denied")
	}
	if deny(gang, Patience) == nil || b.Holder("b") != "gang train" {
		t.Fatal("it isn't waited for")
	}
	for name, tt := range map[string]struct {
		want   Want
		denied string
	}{
		"after it":                {small("a", 1, 0), "queue a: gang train has waited longer"},
		"more important":          {small("a", 1, 1), ""},
		"another queue's own":     {small("b", 2, 0), ""},
		"another queue's borrows": {small("b", 3, 0), "queue b: gang train of queue a has waited longer for what cohort c has to lend"},
		"another resource":        {Want{Queue: "b", Name: "gpus", Amounts: Amounts{gpu: 1}}, ""},
		"itself":                  {gang, "queue a: 9 of 10 cpu used, 4 wanted, cohort c has 3 to lend"},
	} {
		d := b.Admit(tt.want, start().Add(time.Minute))
		if d == nil && tt.denied != "" || d != nil && d.Error() != tt.denied {
			t.Errorf("%s: got %v, want %q", name, d, tt.denied)
		}
	}
	b.Done("b", "gang train") // another queue's of that name
	if b.Done("a", "another"); b.Holder("a") == "" {
		t.Error("somebody else's end is its")
	}
	if b.Done("a", "gang train"); b.Holder("a") != "" || deny(small("a", 1, 0), time.Minute) != nil {
		t.Error("it is waited for although it is done")
	}
	deny(gang, time.Hour)
	if b.Remove("a"); b.Holder("b") != "" {
		t.Error("somebody of a queue that is gone is waited for")
	}
	never := Want{Queue: "b", Name: "never", Amounts: cpus(100), Since: start()}
	if d := deny(never, time.Hour); d == nil || !d.Never || b.Holder("b") != "" {
		t.Error("somebody who never can have it is waited for")
	}
}

func TestAmounts(t *testing.T) {
	r := framework.FromList(corev1.ResourceList{"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("1Gi"), gpu: resource.MustParse("2")})
	a := AmountsOf(&r)
	if len(a) != 3 || a["cpu"] != 1500 || a["memory"] != 1<<30 || a[gpu] != 2 {
		t.Errorf("got %v", a)
	}
	list := AmountsOfList(corev1.ResourceList{"cpu": resource.MustParse("1500m"), gpu: resource.MustParse("0")})
	if n, ok := list[gpu]; !ok || n != 0 || list["cpu"] != 1500 {
		t.Errorf("got %v", list)
	}
	for r, want := range map[corev1.ResourceName]string{"cpu": "1500m", "memory": "1500", gpu: "1500"} {
		if q := Quantity(r, 1500); q.String() != want {
			t.Errorf("%s is %s", r, q.String())
		}
	}
}

// A cohort of queues with pods and gangs that come, wait by fair share, run and end, in random order; what is reclaimed ends.
// At no time does a queue use more than its quota and limit, or the cohort more than its queues'; who stays within its own quota
// goes on at once, if need be by taking back what it lent; and everybody who could ever go on does.
func TestNobodyHasTooMuchAndNobodyStarves(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 8))
		b := NewBook()
		var specs []Spec
		for i := range 2 + rnd.IntN(3) {
			s := Spec{Name: fmt.Sprint("q", i), Cohort: "c", Nominal: cpus(int64(5 + rnd.IntN(20))), Weight: int64(1 + rnd.IntN(3))}
			if rnd.IntN(2) == 0 {
				s.Limit = cpus(int64(rnd.IntN(10)))
			}
			specs = append(specs, s)
			b.Set(s)
		}
		type unit struct {
			Want
			ends time.Time
		}
		var waiting, running []*unit
		now, named := start(), 0
		held, heldSince := "", start()
		check := func() {
			t.Helper()
			var used, nominal int64
			for _, s := range specs {
				n := b.Used(s.Name)["cpu"]
				used, nominal = used+n, nominal+s.Nominal["cpu"]
				if limit, ok := s.Limit["cpu"]; ok && n > s.Nominal["cpu"]+limit {
					t.Fatalf("seed %d: %s uses %d of %d and %d", seed, s.Name, n, s.Nominal["cpu"], limit)
				}
			}
			if used > nominal {
				t.Fatalf("seed %d: the cohort uses %d of %d", seed, used, nominal)
			}
		}
		run := func(u *unit) {
			b.Use(u.Queue, u.Amounts, 1)
			b.Done(u.Queue, u.Name)
			u.ends = now.Add(time.Duration(1+rnd.IntN(20)) * time.Second)
			running = append(running, u)
			check()
		}
		// reclaim ends borrowers if that helps, and puts them back if not.
		reclaim := func(u *unit) *Denial {
			var lent []Lent
			for _, r := range running {
				lent = append(lent, Lent{r.Queue, r.Amounts})
			}
			gone := map[*unit]bool{}
			d := b.Admit(u.Want, now)
			for _, i := range b.Reclaimable(u.Want, lent) {
				b.Use(running[i].Queue, running[i].Amounts, -1)
				gone[running[i]] = true
				if d = b.Admit(u.Want, now); d == nil {
					break
				}
			}
			if d != nil {
				for r := range gone {
					b.Use(r.Queue, r.Amounts, 1)
				}
				return d
			}
			running = slices.DeleteFunc(running, func(r *unit) bool { return gone[r] })
			for r := range gone {
				waiting = append(waiting, r) // made anew, it waits from now on
				r.Since = now
			}
			return nil
		}
		for step := 0; step < 400 || len(waiting) > 0 && step < 10000; step++ {
			now = now.Add(time.Second)
			running = slices.DeleteFunc(running, func(u *unit) bool {
				if u.ends.After(now) {
					return false
				}
				b.Use(u.Queue, u.Amounts, -1)
				return true
			})
			for step < 400 && rnd.IntN(3) == 0 { // never enough for all
				named++
				s := specs[rnd.IntN(len(specs))]
				w := Want{Queue: s.Name, Name: fmt.Sprint("u", named), Amounts: cpus(int64(1 + rnd.IntN(4))), Since: now}
				if rnd.IntN(10) == 0 {
					w.Amounts = cpus(int64(5 + rnd.IntN(20)))
				}
				if d := b.Admit(w, now); d == nil || !d.Never {
					waiting = append(waiting, &unit{Want: w})
				}
			}
			tried := map[*unit]bool{}
			for {
				var queues []string
				heads := map[string]*unit{}
				for _, u := range waiting {
					if !tried[u] && (heads[u.Queue] == nil || u.Since.Before(heads[u.Queue].Since)) {
						heads[u.Queue] = u
					}
				}
				for name := range heads {
					queues = append(queues, name)
				}
				u := heads[b.Next(queues)]
				if u == nil {
					break
				}
				tried[u] = true
				d := b.Admit(u.Want, now)
				if d != nil && d.Own {
					h := b.holders[b.key(u.Queue)]
					if d = reclaim(u); d != nil && (h == nil || h.queue != u.Queue) {
						t.Fatalf("seed %d: %s of %s doesn't get back what it lent: %v", seed, u.Name, u.Queue, d)
					}
				}
				if b.Waits(u.Want, d, now); d == nil {
					waiting = slices.DeleteFunc(waiting, func(w *unit) bool { return w == u })
					run(u)
				}
			}
			// Who is waited for and asks for no more than its queue's own has it when the queue's others have ended.
			for _, u := range waiting {
				own := specs[slices.IndexFunc(specs, func(s Spec) bool { return s.Name == u.Queue })].Nominal
				if b.Holder(u.Queue) != u.Name || u.Amounts["cpu"] > own["cpu"] {
					continue
				}
				if held != u.Name {
					held, heldSince = u.Name, now
				} else if now.Sub(heldSince) > 20*time.Second {
					t.Fatalf("seed %d: %s of %s, %d cpu, is waited for since %v", seed, u.Name, u.Queue, u.Amounts["cpu"]/1000, now.Sub(heldSince))
				}
			}
		}
		if len(waiting) > 0 {
			t.Fatalf("seed %d: %d wait at the end", seed, len(waiting))
		}
	}
}

// A training gang of 64 pods comes to a cluster that interactive pods of another team keep full, which come and go
// without end. It gets its quota, and they go on beside it.
func TestATrainingGangAndInteractivePodsShareACluster(t *testing.T) {
	const most = 100 // GPUs of all queues
	for _, tt := range []struct {
		name                        string
		training, interactive, idle int64 // GPUs of each queue's own; the last one uses none
		within                      time.Duration
	}{
		{"of its own quota", 64, 36, 0, time.Second},
		{"with borrowed quota", 32, 28, 40, 3 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBook()
			for name, n := range map[string]int64{"training": tt.training, "interactive": tt.interactive, "idle": tt.idle} {
				b.Set(Spec{Name: name, Cohort: "all", Nominal: Amounts{gpu: n}})
			}
			type notebook struct{ ends time.Time }
			var notebooks []notebook
			rnd := rand.New(rand.NewPCG(1, 9))
			now := start()
			gang := Want{Queue: "training", Name: "gang train", Amounts: Amounts{gpu: 64}, Since: start().Add(10 * time.Minute)}
			runs, before, during := false, 0, 0
			for now.Before(start().Add(time.Hour)) {
				now = now.Add(time.Second)
				notebooks = slices.DeleteFunc(notebooks, func(n notebook) bool {
					if n.ends.After(now) {
						return false
					}
					b.Use("interactive", Amounts{gpu: 1}, -1)
					return true
				})
				if !runs && !now.Before(gang.Since) {
					d := b.Admit(gang, now)
					if d != nil && d.Own {
						units := make([]Lent, len(notebooks))
						for i := range units {
							units[i] = Lent{"interactive", Amounts{gpu: 1}}
						}
						for range b.Reclaimable(gang, units) {
							notebooks = notebooks[1:]
							b.Use("interactive", Amounts{gpu: 1}, -1)
						}
						d = b.Admit(gang, now)
					}
					if b.Waits(gang, d, now); d == nil {
						b.Use("training", gang.Amounts, 1)
						b.Done("training", gang.Name)
						if runs = true; now.Sub(gang.Since) > tt.within {
							t.Errorf("it waited for %v", now.Sub(gang.Since))
						}
					}
				}
				for range 8 {
					w := Want{Queue: "interactive", Name: "notebook", Amounts: Amounts{gpu: 1}, Since: now}
					if b.Admit(w, now) == nil {
						b.Use("interactive", w.Amounts, 1)
						notebooks = append(notebooks, notebook{now.Add(time.Duration(30+rnd.IntN(60)) * time.Second)})
						if runs {
							during++
						} else {
							before++
						}
					}
				}
				if used := b.Used("interactive")[gpu] + b.Used("training")[gpu]; used > most {
					t.Fatalf("%d GPUs are used", used)
				}
			}
			if !runs || before == 0 || during == 0 {
				t.Errorf("the gang runs: %v; notebooks before: %d, beside it: %d", runs, before, during)
			}
			t.Logf("%d notebooks before the gang, %d beside it", before, during)
		})
	}
}
