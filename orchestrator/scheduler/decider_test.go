package scheduler

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/scheduler/framework"
	"github.com/pintle/pintle/orchestrator/scheduler/plugins"
)

// slots is a plugin that gives every pod a slot of its node: node label "slots" says which there are.
type slots struct{ broken string }

type slotLedger struct {
	there string
	taken map[string]bool
}

func (slots) Name() string { return "Slots" }

func (slots) NewLedger(string) framework.Ledger { return &slotLedger{taken: map[string]bool{}} }

func (l *slotLedger) SetNode(n *corev1.Node) {
	if l.there = ""; n != nil {
		l.there = n.Labels["slots"]
	}
}
func (l *slotLedger) AddPod(p *framework.Pod)    { l.taken[p.Annotations["slot"]] = true }
func (l *slotLedger) RemovePod(p *framework.Pod) { delete(l.taken, p.Annotations["slot"]) }

func (l *slotLedger) free() string {
	for _, slot := range l.there {
		if !l.taken[string(slot)] {
			return string(slot)
		}
	}
	return ""
}

func (s slots) Prepare(*framework.Pod, *framework.State) framework.Prepared {
	return framework.Prepared{Filter: func(n *framework.Node) []string {
		if n.Ledger("Slots").(*slotLedger).free() == "" {
			return []string{"no slot"}
		}
		return nil
	}}
}

func (s slots) Reserve(_ *framework.Pod, n *framework.Node) (map[string]string, error) {
	if n.Name == s.broken {
		return nil, errors.New("node(s) with broken slots")
	}
	return map[string]string{"slot": n.Ledger("Slots").(*slotLedger).free()}, nil
}

func withSlots(which string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels["slots"] = which }
}

func TestAPluginReservesOnTheChosenNodeAndKeepsItsLedger(t *testing.T) {
	d := NewDecider(Profile{Plugins: append(plugins.Default(), slots{broken: "bad"})})
	there := pod("there", "0", func(p *corev1.Pod) { p.Spec.NodeName, p.Annotations = "a", map[string]string{"slot": "2"} })
	d.SetPod(there) // before its node
	d.SetNode(node("a", "4", withSlots("123")))
	d.SetNode(node("bad", "64", withSlots("9")))
	for i, want := range []string{"1", "3"} {
		p := framework.NewPod(pod(string(rune('p'+i)), "1"))
		got, err := d.Decide(context.Background(), p)
		if err != nil || got.Node != "a" || got.Annotations["slot"] != want {
			t.Fatalf("%+v, %v: want slot %s of a", got, err, want)
		}
		if assumed := d.Assume(p, got); assumed.Annotations["slot"] != want || p.Annotations != nil {
			t.Fatal("the assumed copy has the annotations, and only it")
		}
	}
	p := framework.NewPod(pod("r", "1"))
	_, err := d.Decide(context.Background(), p)
	if want := "0/2 nodes are available: 1 no slot, 1 node(s) with broken slots."; err == nil || err.Error() != want {
		t.Fatalf("%v, want %s", err, want)
	}
	d.Forget("q")
	if got, err := d.Decide(context.Background(), p); err != nil || got.Annotations["slot"] != "3" {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestAnnotationsGoWithTheBinding(t *testing.T) {
	client := newFakeClient()
	client.put("nodes", node("a", "4", withSlots("7")), watch.Added)
	client.put("pods", pod("p", "1"), watch.Added)
	start(t, client, func(c *Config) { c.Plugins = append(plugins.Default(), slots{}) })
	<-client.bound
	p, err := client.Get(context.Background(), podsResource, "default", "p")
	if err != nil || p.GetAnnotations()["slot"] != "7" {
		t.Fatalf("%v, %v", p.GetAnnotations(), err)
	}
}

func TestEveryProfileHasItsOwnPluginsAndWeights(t *testing.T) {
	named := func(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.SchedulerName = name } }
	d := NewDecider(Profile{}, Profile{Name: "loose", Plugins: []framework.Plugin{plugins.NodeName{}}},
		Profile{Name: "even", Weights: map[string]int64{"NodeResourcesFit": 0, "NodeResourcesBalancedAllocation": 0}})
	d.SetNode(node("a", "4"))
	d.SetNode(node("b", "5"))
	d.SetNode(node("c", "1", func(n *corev1.Node) { n.Spec.Unschedulable = true }))
	for _, tc := range []struct {
		pod  *corev1.Pod
		want string
	}{
		{pod("p", "1"), "b"},
		{pod("p", "1", named("even")), "a"},
		{pod("p", "9", named("loose"), func(p *corev1.Pod) { p.Spec.Tolerations = nil }), "a"},
		{pod("p", "1", named("unknown")), "b"},
	} {
		got, err := d.Decide(context.Background(), framework.NewPod(tc.pod))
		if err != nil || got.Node != tc.want {
			t.Errorf("%s: %+v, %v, want %s", tc.pod.Spec.SchedulerName, got, err, tc.want)
		}
	}
}
