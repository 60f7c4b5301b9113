package netproxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pintle/pintle/netproxy/services"
	"github.com/pintle/pintle/netproxy/standby"
)

// crowd makes n requests at once and returns what failed of them.
func crowd(t *testing.T, n int, request func() (string, error)) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			if got, err := request(); err != nil || got != "hello" {
				errs[i] = fmt.Errorf("%q %w", got, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// demand waits until the Lease says that some wait.
func demand(t *testing.T, client *fake.Clientset) *coordinationv1.Lease {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		l, err := client.CoordinationV1().Leases("default").Get(context.Background(), standby.LeaseName("web", "n"), metav1.GetOptions{})
		if err == nil && l.Annotations[standby.AnnotationHeld] != "0" {
			return l
		}
	}
	t.Fatal("nothing says that connections wait")
	return nil
}

func setEndpoints(t *testing.T, client *fake.Clientset, sl *discoveryv1.EndpointSlice) {
	t.Helper()
	if _, err := client.DiscoveryV1().EndpointSlices("default").Update(context.Background(), sl, metav1.UpdateOptions{}); err != nil {
		t.Error(err)
	}
}

// compiled waits until the ingress, which is compiled beside the Services, serves the host.
func compiled(t *testing.T, at string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		c := http.Client{Timeout: 20 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
		if resp, err := c.Get("http://" + at + "/"); err != nil { // it is held
			return
		} else {
			resp.Body.Close()
		}
	}
	t.Fatal("the ingress doesn't serve")
}

// 50 clients each, of the Service and of the Ingress, come while there is no pod. None fails.
func TestUserspaceAndIngressHoldWhatComesForAServiceAtZero(t *testing.T) {
	addr := server(t)
	svc, sl, ing := objects(addr)
	svc.Annotations = map[string]string{services.AnnotationScaleToZero: "1m"}
	ready := sl.DeepCopy()
	sl.Endpoints = nil
	client := fake.NewClientset(svc, sl, ing)
	p := run(t, Config{Client: client, Name: "zero", NodeName: "n", Mode: Userspace, HoldFor: 3 * time.Second, Ingress: IngressConfig{HTTPAddress: "127.0.0.1:0"}})
	var direct, through string
	for _, m := range p.Mapping() {
		switch m.Address {
		case netip.MustParseAddrPort("10.96.33.7:80"):
			direct = m.StandIn.String()
		case netip.MustParseAddrPort("0.0.0.0:80"):
			through = m.StandIn.String()
		}
	}
	compiled(t, through)
	done := make(chan error, 2)
	for _, url := range []string{direct, through} {
		go func() {
			done <- crowd(t, 50, func() (string, error) { return get(t, "http://"+url+"/") })
		}()
	}
	if l := demand(t, client); l.Spec.RenewTime == nil {
		t.Errorf("%+v", l)
	}
	setEndpoints(t, client, ready)
	if err := errors.Join(<-done, <-done); err != nil {
		t.Error(err)
	}
	// It goes to zero again: the next ones wait again, and are told when it is too long.
	setEndpoints(t, client, sl)
	if err := p.Drained(context.Background(), addr.Addr()); err != nil {
		t.Error(err)
	}
	if got, err := get(t, "http://"+through+"/"); err != nil || !strings.Contains(got, "no pod of this Service became ready in time") {
		t.Errorf("%q %v", got, err)
	}
	if got, err := get(t, "http://"+direct+"/"); err == nil {
		t.Errorf("without a pod: %q", got)
	}
}
