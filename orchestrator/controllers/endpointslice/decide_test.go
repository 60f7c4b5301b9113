package endpointslice

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func aService(edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "s"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1",
		Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}}}}
	for _, f := range edit {
		f(s)
	}
	return s
}

func aPod(i int, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprintf("p%03d", i), UID: types.UID(fmt.Sprint("u", i))}, Spec: corev1.PodSpec{NodeName: "n1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.1.%d.%d", i/250, i%250+1),
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	for _, f := range edit {
		f(p)
	}
	return p
}

func notReady(p *corev1.Pod)    { p.Status.Conditions = nil }
func ending(p *corev1.Pod)      { p.DeletionTimestamp = ptr.To(metav1.NewTime(time.Unix(1, 0))) }
func noAddress(p *corev1.Pod)   { p.Status.PodIP = "" }
func ended(p *corev1.Pod)       { p.Status.Phase = corev1.PodSucceeded }
func publish(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }
func named(s *corev1.Service)   { s.Spec.Ports[0].TargetPort = intstr.FromString("web") }
func port(n int32) func(p *corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: n}}}}
	}
}
func dual(s *corev1.Service) {
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
}

func show(slicesOf []*discoveryv1.EndpointSlice) string {
	var out []string
	for _, es := range slicesOf {
		s := string(es.AddressType)
		for _, p := range es.Ports {
			s += fmt.Sprintf(" %s:%d", *p.Name, *p.Port)
		}
		for _, e := range es.Endpoints {
			s += " " + e.Addresses[0]
			for _, f := range []struct {
				on   *bool
				flag string
			}{{e.Conditions.Ready, "R"}, {e.Conditions.Serving, "S"}, {e.Conditions.Terminating, "T"}} {
				if *f.on {
					s += f.flag
				}
			}
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func TestDecidePublishesPods(t *testing.T) {
	for name, c := range map[string]struct {
		s                 *corev1.Service
		pods              []*corev1.Pod
		want              string
		ready, notReadies int // of the Endpoints object
	}{
		"none":                   {s: aService(), want: "IPv4"},
		"ready":                  {s: aService(), pods: []*corev1.Pod{aPod(0)}, want: "IPv4 http:8080 10.1.0.1RS", ready: 1},
		"not ready":              {s: aService(), pods: []*corev1.Pod{aPod(0, notReady)}, want: "IPv4 http:8080 10.1.0.1", notReadies: 1},
		"ending":                 {s: aService(), pods: []*corev1.Pod{aPod(0, ending)}, want: "IPv4 http:8080 10.1.0.1ST"},
		"ended":                  {s: aService(), pods: []*corev1.Pod{aPod(0, ended)}, want: "IPv4"},
		"without an address":     {s: aService(), pods: []*corev1.Pod{aPod(0, noAddress)}, want: "IPv4"},
		"publish not ready ones": {s: aService(publish), pods: []*corev1.Pod{aPod(0, notReady), aPod(1, ending)}, want: "IPv4 http:8080 10.1.0.1R 10.1.0.2RST", ready: 2},
		"named ports differ":     {s: aService(named), pods: []*corev1.Pod{aPod(0, port(81)), aPod(1, port(82)), aPod(2, port(81))}, want: "IPv4 http:81 10.1.0.1RS 10.1.0.3RS; IPv4 http:82 10.1.0.2RS", ready: 3},
		"two families": {s: aService(dual), pods: []*corev1.Pod{aPod(0, func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "10.1.0.1"}, {IP: "fd00::1"}} })},
			want: "IPv4 http:8080 10.1.0.1RS; IPv6 http:8080 fd00::1RS", ready: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := decide(c.s, c.pods, map[string]string{"n1": "z1"}, nil, nil)
			if got := show(p.create); got != c.want || len(p.update)+len(p.remove) > 0 {
				t.Errorf("creates %q, want %q", got, c.want)
			}
			var ready, not int
			for _, s := range p.endpoints.Subsets {
				ready, not = ready+len(s.Addresses), not+len(s.NotReadyAddresses)
			}
			if ready != c.ready || not != c.notReadies {
				t.Errorf("Endpoints: %d ready, %d not", ready, not)
			}
			for _, es := range p.create {
				for _, e := range es.Endpoints {
					if *e.NodeName != "n1" || *e.Zone != "z1" || e.TargetRef.Kind != "Pod" {
						t.Errorf("endpoint %+v", e)
					}
				}
			}
			// Decided again from what it made, nothing changes.
			for i, es := range p.create {
				es.Name = fmt.Sprint("web-", i)
			}
			if q := decide(c.s, c.pods, map[string]string{"n1": "z1"}, p.create, p.endpoints); len(q.create)+len(q.update)+len(q.remove) > 0 || q.endpoints != nil {
				t.Errorf("not stable: creates %s, updates %s, removes %s, endpoints %v", show(q.create), show(q.update), show(q.remove), q.endpoints)
			}
		})
	}
}

// apply carries a plan out.
func apply(have []*discoveryv1.EndpointSlice, p plan, serial *int) []*discoveryv1.EndpointSlice {
	have = slices.DeleteFunc(slices.Clone(have), func(es *discoveryv1.EndpointSlice) bool {
		return slices.ContainsFunc(p.remove, func(r *discoveryv1.EndpointSlice) bool { return r.Name == es.Name })
	})
	for i, es := range have {
		for _, u := range p.update {
			if u.Name == es.Name {
				have[i] = u
			}
		}
	}
	for _, es := range p.create {
		*serial++
		es.Name = fmt.Sprint("web-", *serial)
		have = append(have, es)
	}
	return have
}

func TestManyPodsFillSlicesAndAChangeTouchesOne(t *testing.T) {
	var pods []*corev1.Pod
	for i := range 250 {
		pods = append(pods, aPod(i))
	}
	serial := 0
	have := apply(nil, decide(aService(), pods, nil, nil, nil), &serial)
	if len(have) != 3 {
		t.Fatalf("%d slices for 250 pods", len(have))
	}
	ending(pods[120])
	p := decide(aService(), pods, nil, have, nil)
	if len(p.update) != 1 || len(p.create)+len(p.remove) > 0 {
		t.Errorf("one pod's end updates %d slices, creates %d, removes %d", len(p.update), len(p.create), len(p.remove))
	}
	have = apply(have, p, &serial)
	pods = append(pods[:120], append(pods[121:], aPod(250))...) // one gone, one new
	p = decide(aService(), pods, nil, have, nil)
	if len(p.update) != 1 || len(p.create)+len(p.remove) > 0 {
		t.Errorf("a replacement updates %d slices, creates %d, removes %d", len(p.update), len(p.create), len(p.remove))
	}
	have = apply(have, p, &serial)
	seen := map[string]int{}
	for _, es := range have {
		for _, e := range es.Endpoints {
			seen[e.Addresses[0]]++
		}
	}
	for a, n := range seen {
		if n != 1 {
			t.Errorf("%s stands in %d slices", a, n)
		}
	}
	if len(seen) != 250 {
		t.Errorf("%d endpoints", len(seen))
	}
}

func TestAnEmptiedSliceIsUsedAgain(t *testing.T) {
	serial := 0
	have := apply(nil, decide(aService(), nil, nil, nil, nil), &serial)
	p := decide(aService(), []*corev1.Pod{aPod(0)}, nil, have, nil)
	if len(p.update) != 1 || len(p.create)+len(p.remove) > 0 {
		t.Errorf("the first pod updates %d slices, creates %d, removes %d", len(p.update), len(p.create), len(p.remove))
	}
	have = apply(have, p, &serial)
	if p = decide(aService(), nil, nil, have, nil); len(p.update) != 1 || len(p.create)+len(p.remove) > 0 {
		t.Errorf("the last pod's end updates %d slices, creates %d, removes %d", len(p.update), len(p.create), len(p.remove))
	}
}

func TestDuplicatesOfALostAnswerAreMerged(t *testing.T) {
	pods := []*corev1.Pod{aPod(0), aPod(1)}
	serial := 0
	have := apply(nil, decide(aService(), pods, nil, nil, nil), &serial)
	again := apply(nil, decide(aService(), pods, nil, nil, nil), &serial)
	have = append(have, again...)
	have = apply(have, decide(aService(), pods, nil, have, nil), &serial)
	if len(have) != 1 || len(have[0].Endpoints) != 2 {
		t.Errorf("%s", show(have))
	}
}
