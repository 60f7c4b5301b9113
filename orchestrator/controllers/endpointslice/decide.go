// Package endpointslice publishes where the pods of a Service are: EndpointSlices, and the older
// Endpoints object beside them. A terminating pod is no longer ready in the first write after its
// deletion is seen; nothing is batched. Endpoints that somebody wrote for a Service without a selector are
// mirrored into slices.
package endpointslice

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

const (
	managedBy    = "endpointslice-controller.k8s.io"
	maxEndpoints = 100
	maxAddresses = 1000 // of an Endpoints object, as Kubernetes truncates it
)

type plan struct {
	create, update, remove []*discoveryv1.EndpointSlice
	endpoints              *corev1.Endpoints // nil: as it is
}

// target is one address of one pod.
type target struct {
	pod   *corev1.Pod
	ports []discoveryv1.EndpointPort
	ep    discoveryv1.Endpoint
	group string // address type and ports
	kind  discoveryv1.AddressType
}

func families(s *corev1.Service) []discoveryv1.AddressType {
	var out []discoveryv1.AddressType
	for _, f := range s.Spec.IPFamilies {
		out = append(out, discoveryv1.AddressType(f))
	}
	if len(out) == 0 {
		out = []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
		if a, err := netip.ParseAddr(s.Spec.ClusterIP); err == nil && a.Is6() {
			out[0] = discoveryv1.AddressTypeIPv6
		}
	}
	return out
}

func address(p *corev1.Pod, t discoveryv1.AddressType) string {
	ips := p.Status.PodIPs
	if len(ips) == 0 && p.Status.PodIP != "" {
		ips = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip.IP); err == nil && a.Is6() == (t == discoveryv1.AddressTypeIPv6) {
			return ip.IP
		}
	}
	return ""
}

// portOf finds the number of a target port in a pod; a named port may differ from pod to pod.
func portOf(p *corev1.Pod, sp *corev1.ServicePort) (int32, bool) {
	if sp.TargetPort.Type == intstr.Int {
		return cmp.Or(sp.TargetPort.IntVal, sp.Port), true
	}
	cs := slices.Clone(p.Spec.Containers)
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			cs = append(cs, c)
		}
	}
	for _, c := range cs {
		for _, cp := range c.Ports {
			if cp.Name == sp.TargetPort.StrVal && cmp.Or(cp.Protocol, corev1.ProtocolTCP) == cmp.Or(sp.Protocol, corev1.ProtocolTCP) {
				return cp.ContainerPort, true
			}
		}
	}
	return 0, false
}

func portsOf(s *corev1.Service, p *corev1.Pod) []discoveryv1.EndpointPort {
	ports := []discoveryv1.EndpointPort{}
	for i := range s.Spec.Ports {
		sp := &s.Spec.Ports[i]
		if n, ok := portOf(p, sp); ok {
			ports = append(ports, discoveryv1.EndpointPort{Name: ptr.To(sp.Name), Port: ptr.To(n),
				Protocol: ptr.To(cmp.Or(sp.Protocol, corev1.ProtocolTCP)), AppProtocol: sp.AppProtocol})
		}
	}
	return ports
}

func groupKey(t discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	ports = slices.Clone(ports)
	slices.SortFunc(ports, func(a, b discoveryv1.EndpointPort) int {
		return cmp.Compare(ptr.Deref(a.Name, ""), ptr.Deref(b.Name, ""))
	})
	b, _ := json.Marshal(ports)
	return string(t) + string(b)
}

func targets(s *corev1.Service, pods []*corev1.Pod, zones map[string]string) (out []target) {
	for _, p := range pods {
		if reconcile.PodTerminal(p) {
			continue
		}
		ready, _ := reconcile.PodReady(p)
		ending := p.DeletionTimestamp != nil
		for _, t := range families(s) {
			ip := address(p, t)
			if ip == "" {
				continue
			}
			ep := discoveryv1.Endpoint{Addresses: []string{ip},
				Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(s.Spec.PublishNotReadyAddresses || ready && !ending),
					Serving: ptr.To(ready), Terminating: ptr.To(ending)},
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID}}
			if n := p.Spec.NodeName; n != "" {
				ep.NodeName = ptr.To(n)
				if z := zones[n]; z != "" {
					ep.Zone = ptr.To(z)
				}
			}
			if p.Spec.Hostname != "" && p.Spec.Subdomain == s.Name {
				ep.Hostname = ptr.To(p.Spec.Hostname)
			}
			ports := portsOf(s, p)
			out = append(out, target{pod: p, ports: ports, ep: ep, kind: t, group: groupKey(t, ports)})
		}
	}
	slices.SortFunc(out, func(a, b target) int { return cmp.Compare(a.pod.Name, b.pod.Name) })
	return out
}

func sliceLabels(s *corev1.Service) map[string]string {
	l := maps.Clone(s.Labels)
	if l == nil {
		l = map[string]string{}
	}
	l[discoveryv1.LabelServiceName], l[discoveryv1.LabelManagedBy] = s.Name, managedBy
	delete(l, corev1.IsHeadlessService)
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		l[corev1.IsHeadlessService] = ""
	}
	return l
}

func emptySlice(s *corev1.Service, t discoveryv1.AddressType, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, GenerateName: s.Name + "-", Labels: sliceLabels(s),
			OwnerReferences: []metav1.OwnerReference{reconcile.ControllerRef(s, kind())}},
		AddressType: t, Ports: ports, Endpoints: []discoveryv1.Endpoint{}}
}

// decide changes as few slices as it can: endpoints stay in the slice that they are in, new ones
// fill slices that change anyway, then those with room, then new ones.
func decide(s *corev1.Service, pods []*corev1.Pod, zones map[string]string, have []*discoveryv1.EndpointSlice, mirror *corev1.Endpoints) plan {
	var p plan
	want := targets(s, pods, zones)
	left := map[string]map[string]target{} // group → address+pod → target
	for _, t := range want {
		if left[t.group] == nil {
			left[t.group] = map[string]target{}
		}
		left[t.group][t.ep.Addresses[0]+string(t.pod.UID)] = t
	}
	labels := sliceLabels(s)
	type work struct {
		was, now *discoveryv1.EndpointSlice
		group    string
	}
	var slicesNow []*work
	for _, es := range have {
		if es.DeletionTimestamp != nil {
			continue
		}
		w := &work{was: es, now: es.DeepCopy(), group: groupKey(es.AddressType, es.Ports)}
		w.now.Labels, w.now.Endpoints = labels, []discoveryv1.Endpoint{}
		for _, ep := range es.Endpoints {
			if ep.TargetRef == nil || len(ep.Addresses) == 0 {
				continue
			}
			k := ep.Addresses[0] + string(ep.TargetRef.UID)
			if t, ok := left[w.group][k]; ok {
				w.now.Endpoints = append(w.now.Endpoints, t.ep)
				delete(left[w.group], k)
			}
		}
		slicesNow = append(slicesNow, w)
	}
	changed := func(w *work) bool { return w.was == nil || !apiequality.Semantic.DeepEqual(w.was, w.now) }
	slices.SortStableFunc(slicesNow, func(a, b *work) int { return boolRank(changed(a)) - boolRank(changed(b)) })
	for _, t := range want {
		if _, ok := left[t.group][t.ep.Addresses[0]+string(t.pod.UID)]; !ok {
			continue
		}
		var into *work
		for _, w := range slicesNow {
			if w.group == t.group && len(w.now.Endpoints) < maxEndpoints {
				into = w
				break
			}
		}
		if into == nil { // one that has emptied becomes the new one: watchers see a change instead of an end and a beginning
			for _, w := range slicesNow {
				if w.was != nil && w.now.AddressType == t.kind && len(w.now.Endpoints) == 0 {
					into, w.group, w.now.Ports = w, t.group, t.ports
					break
				}
			}
		}
		if into == nil {
			into = &work{now: emptySlice(s, t.kind, t.ports), group: t.group}
			slicesNow = append(slicesNow, into)
		}
		into.now.Endpoints = append(into.now.Endpoints, t.ep)
	}
	// One empty slice stays for each family without endpoints, so that readers can tell "none" from "not yet".
	for _, t := range families(s) {
		var keep *work
		filled := false
		for _, w := range slicesNow {
			if w.now.AddressType == t {
				filled = filled || len(w.now.Endpoints) > 0
				if keep == nil {
					keep = w
				}
			}
		}
		if !filled && keep == nil {
			slicesNow = append(slicesNow, &work{now: emptySlice(s, t, nil)})
		}
		for _, w := range slicesNow {
			if w.now.AddressType == t && len(w.now.Endpoints) == 0 && w.was != nil && (filled || w != keep) {
				p.remove = append(p.remove, w.was)
			}
		}
	}
	for _, w := range slicesNow {
		switch {
		case slices.Contains(p.remove, w.was) && w.was != nil:
		case w.was == nil:
			p.create = append(p.create, w.now)
		case !slices.Contains(families(s), w.now.AddressType):
			p.remove = append(p.remove, w.was)
		case changed(w):
			p.update = append(p.update, w.now)
		}
	}
	p.endpoints = mirrored(s, want, mirror)
	return p
}

func boolRank(b bool) int {
	if b {
		return 0
	}
	return 1
}

// mirrored makes the Endpoints object, or nil when have is right already.
func mirrored(s *corev1.Service, want []target, have *corev1.Endpoints) *corev1.Endpoints {
	e := &corev1.Endpoints{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Endpoints"},
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}
	if have != nil {
		e = have.DeepCopy()
	}
	labels := sliceLabels(s)
	delete(labels, discoveryv1.LabelServiceName)
	delete(labels, discoveryv1.LabelManagedBy)
	labels["endpoints.kubernetes.io/managed-by"] = "endpoint-controller"
	e.Labels, e.Subsets = labels, nil
	index := map[string]int{}
	family, count := families(s)[0], 0
	for _, t := range want {
		if t.kind != family || *t.ep.Conditions.Terminating && !s.Spec.PublishNotReadyAddresses || count >= maxAddresses {
			continue
		}
		count++
		i, ok := index[t.group]
		if !ok {
			i = len(e.Subsets)
			index[t.group] = i
			sub := corev1.EndpointSubset{}
			for _, p := range t.ports {
				sub.Ports = append(sub.Ports, corev1.EndpointPort{Name: *p.Name, Port: *p.Port, Protocol: *p.Protocol, AppProtocol: p.AppProtocol})
			}
			e.Subsets = append(e.Subsets, sub)
		}
		a := corev1.EndpointAddress{IP: t.ep.Addresses[0], NodeName: t.ep.NodeName, TargetRef: t.ep.TargetRef, Hostname: ptr.Deref(t.ep.Hostname, "")}
		if *t.ep.Conditions.Ready {
			e.Subsets[i].Addresses = append(e.Subsets[i].Addresses, a)
		} else {
			e.Subsets[i].NotReadyAddresses = append(e.Subsets[i].NotReadyAddresses, a)
		}
	}
	if have != nil && apiequality.Semantic.DeepEqual(e, have) {
		return nil
	}
	return e
}
