package api

import (
	"strconv"
	"testing"
)

func TestAddressRanges(t *testing.T) {
	for text, want := range map[string]string{
		"192.168.1.240-192.168.1.250": "192.168.1.240 192.168.1.250 11",
		"10.5.0.0/28":                 "10.5.0.1 10.5.0.14 14",
		"10.5.0.0/31":                 "10.5.0.0 10.5.0.1 2",
		"10.5.0.7/32":                 "10.5.0.7 10.5.0.7 1",
		"10.5.0.7":                    "10.5.0.7 10.5.0.7 1",
		"10.5.0.1/28":                 "must be an IPv4 CIDR, such as 10.5.0.0/28",
		"10.0.0.9-10.0.0.1":           "must not end before it begins",
		"10.0.0.0/8":                  "must not have more than 65536 addresses",
		"fd00::1":                     "must be an IPv4 range, such as 192.168.1.240-192.168.1.250, a CIDR or an address",
		"127.0.0.1":                   "must be unicast addresses that others reach: no loopback, link-local, multicast or broadcast address",
		"255.255.255.255":             "must be unicast addresses that others reach: no loopback, link-local, multicast or broadcast address",
		"here":                        "must be an IPv4 range, such as 192.168.1.240-192.168.1.250, a CIDR or an address",
		"223.255.255.250-224.0.0.1":   "must be unicast addresses that others reach: no loopback, link-local, multicast or broadcast address",
	} {
		r, err := ParseAddressRange(text)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = r.First.String() + " " + r.Last.String() + " " + strconv.FormatInt(r.Size(), 10)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestTheLoadBalancerClassStays(t *testing.T) {
	k := kindNamed("Service")
	of := func(kind, class string) Object {
		return made(k, decode(t, k, `{metadata: {name: x, namespace: n}, spec: {type: `+kind+class+`, ports: [{port: 80}]}}`))
	}
	wantErrors(t, problems(k, of("ClusterIP", ", loadBalancerClass: a/b")), "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'")
	wantErrors(t, problems(k, of("LoadBalancer", ", loadBalancerClass: a/b")))
	if errs := k.ValidateUpdate(of("LoadBalancer", ""), of("LoadBalancer", ", loadBalancerClass: a/b")); len(errs) != 1 {
		t.Errorf("a class was taken off: %v", errs)
	}
	if errs := k.ValidateUpdate(of("ClusterIP", ""), of("LoadBalancer", ", loadBalancerClass: a/b")); len(errs) != 0 {
		t.Errorf("a change of type: %v", errs)
	}
}
