package examples

import (
	"maps"
	"slices"
	"testing"

	"github.com/pintle/pintle/policies/abi"
)

func gpuNode(name, resource string, have, used int64) *abi.Node {
	n := &abi.Node{Name: name, Allocatable: []abi.Quantity{{Name: "cpu", Milli: 64_000}}}
	if have > 0 {
		n.Allocatable = append(n.Allocatable, abi.Quantity{Name: resource, Milli: have})
		n.Requested = []abi.Quantity{{Name: resource, Milli: used}}
	}
	return n
}

func TestGPUBinpack(t *testing.T) {
	for _, resource := range []string{"nvidia.com/gpu", "nvidia.com/mig-1g.10gb"} {
		nodes := []*abi.Node{
			gpuNode("empty", resource, 8000, 0), gpuNode("half", resource, 8000, 4000), gpuNode("most", resource, 8000, 6000),
			gpuNode("full", resource, 8000, 8000), gpuNode("none", resource, 0, 0), gpuNode("small", resource, 4000, 1000),
		}
		t.Run(resource, func(t *testing.T) {
			each(t, "gpu-binpack", abi.Scheduling, func(t *testing.T, g *example) {
				g.mustSet(t, `{"resource": "`+resource+`"}`)
				if resource == "nvidia.com/gpu" {
					g.mustSet(t, ``)
				}
				const few = "too few free "
				for _, c := range []struct {
					name string
					want int64
					got  map[string]string
				}{
					{"the fullest goes first", 2000, map[string]string{
						"empty": "25", "half": "75", "most": "100", "small": "75", "full": few + resource, "none": few + resource}},
					{"a fraction", 500, map[string]string{
						"empty": "6", "half": "56", "most": "81", "small": "37", "full": few + resource, "none": few + resource}},
					{"more than any has", 9000, map[string]string{
						"empty": few + resource, "half": few + resource, "most": few + resource, "small": few + resource, "full": few + resource, "none": few + resource}},
					{"pods without GPUs keep off", 0, map[string]string{
						"empty": "0", "half": "0", "most": "0", "full": "0", "small": "0", "none": "100"}},
				} {
					p := &abi.Pod{Name: "p", Requests: []abi.Quantity{{Name: "cpu", Milli: 1000}, {Name: resource, Milli: c.want}}}
					if got := g.place(t, p, nodes...); !maps.Equal(got, c.got) {
						t.Errorf("%s: %v, want %v", c.name, got, c.got)
					}
				}
				g.refusesSettings(t, `{"resource": ""}`, "settings.resource: want the name of a resource")
				g.refusesSettings(t, `{"gpu": 1}`, `settings: unknown field "gpu"`)
			})
		})
	}
}

func TestCostAndCarbon(t *testing.T) {
	node := func(name, cost, carbon string) *abi.Node {
		labels := map[string]string{"pintle.dev/cost-per-hour": cost, "pintle.dev/carbon-intensity": carbon}
		maps.DeleteFunc(labels, func(_, v string) bool { return v == "" })
		return &abi.Node{Name: name, Labels: abi.Pairs(labels)}
	}
	nodes := []*abi.Node{node("cheap", "1.5", "400"), node("clean", "3.5", "20"), node("middle", "2.5", "210"), node("unknown", "", "much")}
	each(t, "cost-carbon", abi.Scheduling, func(t *testing.T, g *example) {
		for _, c := range []struct {
			settings string
			want     map[string]string
		}{
			{`{"cost": {}}`, map[string]string{"cheap": "100", "clean": "0", "middle": "50", "unknown": "0"}},
			{`{"carbon": {"weight": 2}}`, map[string]string{"cheap": "0", "clean": "100", "middle": "50", "unknown": "0"}},
			{`{"cost": {"weight": 3}, "carbon": {"weight": 1}}`, map[string]string{"cheap": "75", "clean": "25", "middle": "50", "unknown": "0"}},
			{`{"cost": {"max": 3}, "carbon": {"max": 300, "weight": 0}}`, map[string]string{
				"cheap": "carbon intensity above the limit or unknown", "clean": "cost above the limit or unknown", "middle": "100",
				"unknown": "cost above the limit or unknown"}},
			{`{"cost": {"weight": 0, "max": 3.0}}`, map[string]string{"cheap": "0", "clean": "cost above the limit or unknown", "middle": "0", "unknown": "cost above the limit or unknown"}},
			{`{"cost": {"label": "price"}}`, map[string]string{"cheap": "0", "clean": "0", "middle": "0", "unknown": "0"}},
		} {
			g.mustSet(t, c.settings)
			if got := g.place(t, &abi.Pod{Name: "p"}, nodes...); !maps.Equal(got, c.want) {
				t.Errorf("%s: %v, want %v", c.settings, got, c.want)
			}
		}
		for settings, why := range map[string]string{
			``:                         "weigh or limit cost, carbon or both",
			`{"cost": {"weight": 0}}`:  "weigh or limit cost, carbon or both",
			`{"price": {}}`:            `want cost and carbon, each {"label", "weight", "max"}`,
			`{"cost": 1}`:              `settings.cost: want {"label", "weight", "max"}`,
			`{"cost": {"weight": -1}}`: "settings.cost: want a label's key, and for weight and max numbers from 0 on",
			`{"carbon": {"max": "1"}}`: "settings.carbon: want a label's key, and for weight and max numbers from 0 on",
		} {
			g.refusesSettings(t, settings, why)
		}
	})
}

func TestGang(t *testing.T) {
	member := func(uid, namespace, group, least string) *abi.Pod {
		return &abi.Pod{UID: uid, Name: uid, Namespace: namespace, Labels: abi.Pairs(map[string]string{
			"pod-group.scheduling.sigs.k8s.io/name": group, "pod-group.scheduling.sigs.k8s.io/min-available": least})}
	}
	each(t, "gang", abi.Scheduling, func(t *testing.T, g *example) {
		permit := func(pod *abi.Pod, waiting ...*abi.Pod) *abi.PermitResponse {
			t.Helper()
			r := &abi.PermitRequest{Pod: pod, Node: "n"}
			for _, w := range waiting {
				r.Waiting = append(r.Waiting, abi.Waiting{Pod: w, Node: "m"})
			}
			response, _, err := host.Permit(t.Context(), g.name, r)
			if err != nil {
				t.Fatal(err)
			}
			return response
		}
		check := func(what string, got *abi.PermitResponse, decision abi.Decision, timeout int64, reason string, allow ...string) {
			t.Helper()
			if got.Decision != decision || got.TimeoutMs != timeout || got.Reason != reason || !slices.Equal(got.Allow, allow) || got.Reject != nil {
				t.Errorf("%s: %+v", what, got)
			}
		}
		g.mustSet(t, `{"timeoutSeconds": 30}`)
		check("no group", permit(&abi.Pod{UID: "x"}), abi.Allow, 0, "")
		check("alone in its group", permit(member("a", "n", "train", "1")), abi.Allow, 0, "")
		check("the first of three", permit(member("a", "n", "train", "3")), abi.Wait, 30_000, `gang "train": 1 of 3 pods have a place`)
		a, b := member("a", "n", "train", "3"), member("b", "n", "train", "3")
		others := []*abi.Pod{member("x", "other", "train", "3"), member("y", "n", "infer", "3"), {UID: "z", Namespace: "n"}}
		check("others don't count", permit(member("c", "n", "train", "3"), append(others, a)...), abi.Wait, 30_000, `gang "train": 2 of 3 pods have a place`)
		check("the last lets all go", permit(member("c", "n", "train", "3"), append(others, a, b)...), abi.Allow, 0, "", "a", "b")
		check("itself doesn't count twice", permit(a, a), abi.Wait, 30_000, `gang "train": 1 of 3 pods have a place`)
		for _, least := range []string{"", "0", "-1", "many", "1000000000000"} {
			check("a number that is none", permit(member("a", "n", "train", least)), abi.Deny, 0,
				`label pod-group.scheduling.sigs.k8s.io/min-available: want the group's number of pods, not "`+least+`"`)
		}

		running := func(uid, group, node, phase string) string {
			return `{"metadata":{"uid":"` + uid + `","labels":{"pod-group.scheduling.sigs.k8s.io/name":"` + group + `"}},"spec":{"nodeName":"` + node + `"},"status":{"phase":"` + phase + `"}}`
		}
		objects.Store("/v1/pods/n/", `{"kind":"List","items":[`+running("r", "train", "n1", "Running")+`,`+running("s", "train", "n1", "Succeeded")+`,`+
			running("t", "train", "", "Pending")+`,`+running("u", "infer", "n1", "Running")+`]}`)
		check("pods aren't seen without the capability", permit(b, a), abi.Wait, 30_000, `gang "train": 2 of 3 pods have a place`)
		g.mustSet(t, ``, "read:/pods")
		check("one runs already", permit(b, a), abi.Allow, 0, "", "a")
		check("and is enough for nothing more", permit(b), abi.Wait, 60_000, `gang "train": 2 of 3 pods have a place`)

		g.mustSet(t, `{"nameLabel": "job", "minLabel": "size"}`)
		named := &abi.Pod{UID: "a", Labels: abi.Pairs(map[string]string{"job": "j", "size": "2"})}
		check("labels of one's own", permit(named), abi.Wait, 60_000, `gang "j": 1 of 2 pods have a place`)
		g.refusesSettings(t, `{"timeoutSeconds": 0}`, "settings.timeoutSeconds: want a number from 1 to 86400")
		g.refusesSettings(t, `{"nameLabel": 1}`, "settings.nameLabel: want a label's key")
		g.refusesSettings(t, `{"min": 1}`, `settings: unknown field "min"`)
	})
}
