package registry_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/registry"
)

func resources(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func quota(name string, hard ...string) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{ObjectMeta: meta("default", name), Spec: corev1.ResourceQuotaSpec{Hard: resources(hard...)}}
}

func asking(name string, requests ...string) *corev1.Pod {
	p := pod(name)
	p.Spec.Containers[0].Resources.Requests = resources(requests...)
	return p
}

func used(t *testing.T, r *registry.Registry, name, of string) string {
	t.Helper()
	e, err := r.Get(t.Context(), core("resourcequotas"), "default", name)
	if err != nil {
		t.Fatal(err)
	}
	q := e.Object().(*corev1.ResourceQuota).Status.Used[corev1.ResourceName(of)]
	return q.String()
}

func TestConcurrentCreationsNeverExceedAQuota(t *testing.T) {
	r := open(t)
	create(t, r, core("resourcequotas"), quota("q", "pods", "7", "requests.cpu", "1", "count/configmaps", "3"))
	var made, maps atomic.Int32
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() {
			_, err := r.Create(t.Context(), core("pods"), asking(fmt.Sprint("p", n), "cpu", "200m"), registry.CreateOptions{})
			switch {
			case err == nil:
				made.Add(1)
			case !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "exceeded quota: q, requested: requests.cpu=200m, used: requests.cpu="):
				t.Error(err)
			}
			if _, err := r.Create(t.Context(), core("configmaps"), configMap(fmt.Sprint("m", n)), registry.CreateOptions{}); err == nil {
				maps.Add(1)
			}
		})
	}
	wg.Wait()
	if made.Load() != 5 || used(t, r, "q", "pods") != "5" || used(t, r, "q", "requests.cpu") != "1" {
		t.Errorf("%d pods, %s and %s CPUs charged", made.Load(), used(t, r, "q", "pods"), used(t, r, "q", "requests.cpu"))
	}
	if maps.Load() != 3 || used(t, r, "q", "count/configmaps") != "3" {
		t.Errorf("%d config maps, %s charged", maps.Load(), used(t, r, "q", "count/configmaps"))
	}
}

func TestAQuotaCountsWhatWasThereAndWhatWasGivenBack(t *testing.T) {
	r := open(t)
	create(t, r, core("pods"), pod("before"))
	create(t, r, core("resourcequotas"), quota("q", "pods", "2"))
	create(t, r, core("pods"), pod("a"))
	_, err := r.Create(t.Context(), core("pods"), pod("b"), registry.CreateOptions{})
	refused(t, err, apierrors.IsForbidden, `pods "b" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2`)
	if _, _, err := r.Delete(t.Context(), core("pods"), "default", "before", metav1.DeleteOptions{}, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(t.Context(), core("pods"), pod("b"), registry.CreateOptions{DryRun: true}); err != nil {
		t.Errorf("a dry run after something was given back: %v", err)
	}
	create(t, r, core("pods"), pod("b"))
	if got := used(t, r, "q", "pods"); got != "2" {
		t.Errorf("%s charged", got)
	}
	ended := pod("b")
	ended.Status.Phase = corev1.PodSucceeded
	update(t, r, core("pods"), "status", ended)
	create(t, r, core("pods"), pod("c")) // one that has ended takes no place
}

func TestAPodInAComputeQuotaMustNameItsRequests(t *testing.T) {
	r := open(t)
	create(t, r, core("resourcequotas"), quota("compute", "requests.cpu", "1", "limits.memory", "1Gi"))
	p := asking("a", "cpu", "100m")
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Image: "i"})
	_, err := r.Create(t.Context(), core("pods"), p, registry.CreateOptions{})
	refused(t, err, apierrors.IsForbidden, `pods "a" is forbidden: failed quota: compute: must specify limits.memory for: c,d; requests.cpu for: d`)

	limits := &corev1.LimitRange{ObjectMeta: meta("default", "l"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
		Type: corev1.LimitTypeContainer, Default: resources("memory", "256Mi"), DefaultRequest: resources("cpu", "50m")}}}}
	create(t, r, core("limitranges"), limits)
	got := create(t, r, core("pods"), p)
	if c := got.Spec.Containers[1]; c.Resources.Requests.Cpu().String() != "50m" || c.Resources.Limits.Memory().String() != "256Mi" {
		t.Errorf("the defaults are %v", c.Resources)
	}
	want := "LimitRanger plugin set: memory request for container c; memory limit for container c; cpu, memory request for container d; memory limit for container d"
	if got.Annotations["kubernetes.io/limit-ranger"] != want {
		t.Errorf("told %q", got.Annotations["kubernetes.io/limit-ranger"])
	}
	if got := used(t, r, "compute", "limits.memory"); got != "512Mi" {
		t.Errorf("%s charged", got)
	}
}

func TestServicesAreChargedForWhatTheyBecome(t *testing.T) {
	r := open(t)
	create(t, r, core("resourcequotas"), quota("q", "services", "2", "services.nodeports", "2", "services.loadbalancers", "0"))
	s := create(t, r, core("services"), &corev1.Service{ObjectMeta: meta("default", "s"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}})
	s.Spec.Type = corev1.ServiceTypeNodePort
	s = update(t, r, core("services"), "", s)
	if got := used(t, r, "q", "services.nodeports"); got != "1" {
		t.Errorf("%s node ports charged", got)
	}
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	_, err := r.Update(t.Context(), core("services"), "", s, registry.UpdateOptions{})
	refused(t, err, apierrors.IsForbidden, "exceeded quota: q, requested: services.loadbalancers=1, used: services.loadbalancers=0, limited: services.loadbalancers=0")
}

func TestScopesSortPods(t *testing.T) {
	r := open(t)
	best, long := quota("best", "pods", "1"), quota("long", "pods", "1")
	best.Spec.Scopes = []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeBestEffort}
	long.Spec.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{
		{ScopeName: corev1.ResourceQuotaScopeNotBestEffort, Operator: corev1.ScopeSelectorOpExists},
		{ScopeName: corev1.ResourceQuotaScopeTerminating, Operator: corev1.ScopeSelectorOpExists}}}
	create(t, r, core("resourcequotas"), best)
	create(t, r, core("resourcequotas"), long)
	create(t, r, core("pods"), pod("a"))
	_, err := r.Create(t.Context(), core("pods"), pod("b"), registry.CreateOptions{})
	refused(t, err, apierrors.IsForbidden, "exceeded quota: best,")
	create(t, r, core("pods"), asking("c", "cpu", "1"))
	create(t, r, core("pods"), asking("d", "cpu", "1"))
	ends := func(name string) *corev1.Pod {
		p, deadline := asking(name, "cpu", "1"), int64(60)
		p.Spec.ActiveDeadlineSeconds = &deadline
		return p
	}
	create(t, r, core("pods"), ends("e"))
	_, err = r.Create(t.Context(), core("pods"), ends("f"), registry.CreateOptions{})
	refused(t, err, apierrors.IsForbidden, "exceeded quota: long,")
}

func TestLimitRangesRefuseWhatTheyDoNotAllow(t *testing.T) {
	r := open(t)
	create(t, r, core("limitranges"), &corev1.LimitRange{ObjectMeta: meta("default", "l"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
		{Type: corev1.LimitTypeContainer, Min: resources("memory", "100Mi"), Max: resources("memory", "1Gi"), MaxLimitRequestRatio: resources("memory", "2")},
		{Type: corev1.LimitTypePod, Max: resources("memory", "1500Mi")}}}})
	for name, c := range map[string]struct{ request, limit, want string }{
		"small":  {"50Mi", "100Mi", "minimum memory usage per Container is 100Mi, but request is 50Mi"},
		"large":  {"1Gi", "2Gi", "[maximum memory usage per Container is 1Gi, but limit is 2Gi, maximum memory usage per Pod is 1500Mi, but limit is 2Gi]"},
		"uneven": {"100Mi", "1Gi", "memory max limit to request ratio per Container is 2, but provided ratio is 10.240000"},
		"right":  {"512Mi", "1Gi", ""},
		"unsaid": {"", "", ""}, // the maximum is the default
	} {
		p := pod(name)
		if c.request != "" {
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: resources("memory", c.request), Limits: resources("memory", c.limit)}
		}
		_, err := r.Create(t.Context(), core("pods"), p, registry.CreateOptions{})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		refused(t, err, apierrors.IsForbidden, fmt.Sprintf("pods %q is forbidden: %s", name, c.want))
	}
}
