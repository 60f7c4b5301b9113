package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/scheduler"
	"github.com/pintle/pintle/policies/abi"
)

var _ scheduler.Policy = (*Engine)(nil)

func (c *cluster) scheduling(name string, change ...func(*api.SchedulingPolicySpec)) {
	c.t.Helper()
	p := &api.SchedulingPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: api.SchedulingPolicySpec{Module: "m"}}
	for _, f := range change {
		f(&p.Spec)
	}
	c.create("policy", "schedulingpolicies", p)
	c.eventually(func() string {
		if c.engine.table.Load().schedulingPolicy(name) == nil {
			return name + " is not there"
		}
		return ""
	})
}

func placement() *abi.Placement {
	table := abi.NewNodeTable()
	p := &abi.Placement{Pod: &abi.Pod{Name: "p", SchedulerName: "default-scheduler"}, Nodes: table}
	for n := range 4 {
		p.Rows = append(p.Rows, table.Set(&abi.Node{Name: fmt.Sprint("n", n)}))
	}
	return p
}

func TestSeveralPoliciesPlaceAsOne(t *testing.T) {
	c := start(t)
	asked := map[string][]uint32{}
	c.host.place = func(policy string, p *abi.Placement) error {
		asked[policy] = slices.Clone(p.Rows)
		p.Reasons = []string{"odd", "unwanted"}
		for i, row := range p.Rows {
			p.Scores[i] = int32(row) * 10
			switch {
			case policy == "a" && row == 0:
				p.Verdicts[i] = 2
			case policy == "b" && row == 2:
				p.Verdicts[i] = 7 // of which it says nothing
			case policy == "scores" && row == 3:
				p.Verdicts[i], p.Scores[i] = 1, 1000
			}
		}
		return nil
	}
	c.module("m", "")
	c.scheduling("a", func(s *api.SchedulingPolicySpec) { s.ExtensionPoints = []api.ExtensionPoint{api.PointFilter} })
	c.scheduling("b", func(s *api.SchedulingPolicySpec) { s.Weight = 3 })
	c.scheduling("other", func(s *api.SchedulingPolicySpec) { s.Profile = "gpu" })
	c.scheduling("scores", func(s *api.SchedulingPolicySpec) {
		s.ExtensionPoints, s.Weight = []api.ExtensionPoint{api.PointScore}, 2
	})
	p := placement()
	if err := c.engine.Place(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if want := map[string][]uint32{"a": {0, 1, 2, 3}, "b": {1, 2, 3}, "scores": {1, 3}}; fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
	if want := []string{"nodes rejected by policy a: unwanted", "nodes rejected by policy b: it gives no reason"}; !slices.Equal(p.Reasons, want) {
		t.Errorf("reasons %q, want %q", p.Reasons, want)
	}
	if want := []uint32{1, 0, 2, 0}; !slices.Equal(p.Verdicts, want) {
		t.Errorf("verdicts %v, want %v", p.Verdicts, want)
	}
	if want := []int32{0, 10*3 + 10*2, 0, 30*3 + 100*2}; !slices.Equal(p.Scores, want) {
		t.Errorf("scores %v, want %v", p.Scores, want)
	}
	for profile, want := range map[string]bool{"default-scheduler": true, "gpu": true, "nobody": false} {
		if got := c.engine.Has(profile, ""); got != want {
			t.Errorf("%s is taken: %v", profile, got)
		}
	}
	if c.engine.Has("default-scheduler", hookPermit) != true || slices.Contains(c.engine.Permitters("default-scheduler"), "a") {
		t.Errorf("permitters are %v", c.engine.Permitters("default-scheduler"))
	}
	if key := c.engine.QueueKey(t.Context(), &abi.Pod{Name: "12345", SchedulerName: "default-scheduler"}); key != 5 {
		t.Errorf("queue key %d", key)
	}
	if r := c.engine.PostFilter(t.Context(), &abi.PostFilterRequest{Pod: p.Pod}); r.Message != "policy b: buy a node" || r.Nominate != "n1" {
		t.Errorf("%+v", r)
	}
}

func TestASchedulingPolicyThatFailsHoldsThePodOrNot(t *testing.T) {
	c := start(t)
	c.host.place = func(string, *abi.Placement) error { return errors.New("it trapped") }
	c.module("m", "")
	c.scheduling("p")
	c.eventually(func() string {
		if err := c.engine.Place(t.Context(), placement()); err == nil || err.Error() != `scheduling policy "p" could not decide: it trapped` {
			return fmt.Sprint("got ", err)
		}
		return ""
	})
	changed := c.engine.Changed()
	o, err := c.Get(t.Context(), schedulingGVR(), "", "p")
	if err != nil {
		t.Fatal(err)
	}
	p := o.DeepCopyObject().(*api.SchedulingPolicy)
	p.Spec.FailurePolicy = api.PolicyIgnore
	p.ResourceVersion = ""
	if _, err := c.Update(t.Context(), schedulingGVR(), "", p); err != nil {
		t.Fatal(err)
	}
	<-changed
	c.eventually(func() string {
		if err := c.engine.Place(t.Context(), placement()); err != nil {
			return err.Error()
		}
		return ""
	})
	c.scheduling("lost", func(s *api.SchedulingPolicySpec) { s.Module = "nowhere" })
	if err := c.engine.Place(t.Context(), placement()); err == nil || !strings.Contains(err.Error(), `there is no PolicyModule "nowhere"`) {
		t.Errorf("got %v", err)
	}
}

// A status that is written, or an admission policy, is no change for pods that wait.
func TestPodsAreWokenByWhatConcernsThemAlone(t *testing.T) {
	c := start(t)
	c.module("m", "")
	c.scheduling("p")
	c.eventually(func() string {
		o, err := c.Get(t.Context(), schedulingGVR(), "", "p")
		if err != nil || len(o.(*api.SchedulingPolicy).Status.Conditions) == 0 {
			return "no status"
		}
		return ""
	})
	changed := c.engine.Changed()
	c.policy("a", "m")
	c.decides("a", reasonDeciding)
	select {
	case <-changed:
		t.Error("an admission policy wakes pods")
	default:
	}
	mergePatch(t, c, modulesGVR(), "m", func(o api.Object) { o.(*api.PolicyModule).Spec.Source.Inline = wasm("new") })
	<-changed
}
