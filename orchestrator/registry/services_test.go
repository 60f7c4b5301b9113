package registry_test

import (
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/registry"
)

func service(name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta("default", name), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
}

func TestNoTwoServicesShareAnAddressOrANodePort(t *testing.T) {
	r := open(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	ips, ports := map[string]string{}, map[int32]string{}
	for n := range 100 {
		wg.Go(func() {
			s := service(fmt.Sprint("s", n))
			s.Spec.Type = corev1.ServiceTypeNodePort
			e, err := r.Create(t.Context(), core("services"), s, registry.CreateOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			s = e.Object().(*corev1.Service)
			mu.Lock()
			defer mu.Unlock()
			if other := ips[s.Spec.ClusterIP]; other != "" {
				t.Errorf("%s and %s share %s", s.Name, other, s.Spec.ClusterIP)
			}
			if other := ports[s.Spec.Ports[0].NodePort]; other != "" {
				t.Errorf("%s and %s share %d", s.Name, other, s.Spec.Ports[0].NodePort)
			}
			ips[s.Spec.ClusterIP], ports[s.Spec.Ports[0].NodePort] = s.Name, s.Name
		})
	}
	wg.Wait()
	for _, reserved := range []string{"10.9.0.0", "10.9.0.1", "10.9.0.10", "10.9.0.255"} {
		if ips[reserved] != "" {
			t.Errorf("%s was given to %s", reserved, ips[reserved])
		}
	}
}

func TestServiceAddresses(t *testing.T) {
	r := open(t)
	svcs := core("services")
	kubernetes := create(t, r, svcs, service("kubernetes"))
	if kubernetes.Spec.ClusterIP != "10.9.0.1" {
		t.Errorf("default/kubernetes has %s", kubernetes.Spec.ClusterIP)
	}
	dns := service("kube-dns")
	dns.Namespace = "kube-system"
	if dns = create(t, r, svcs, dns); dns.Spec.ClusterIP != "10.9.0.10" {
		t.Errorf("kube-dns has %s", dns.Spec.ClusterIP)
	}
	fixed := service("fixed")
	fixed.Spec.ClusterIP = "10.9.0.77"
	fixed = create(t, r, svcs, fixed)
	if len(fixed.Spec.ClusterIPs) != 1 || fixed.Spec.ClusterIPs[0] != "10.9.0.77" || len(fixed.Spec.IPFamilies) != 1 {
		t.Errorf("%+v", fixed.Spec)
	}
	again := service("again")
	again.Spec.ClusterIP = "10.9.0.77"
	_, err := r.Create(t.Context(), svcs, again, registry.CreateOptions{})
	refused(t, err, apierrors.IsInvalid, "provided IP is already allocated")
	again.Spec.ClusterIP = "10.8.0.1"
	_, err = r.Create(t.Context(), svcs, again, registry.CreateOptions{})
	refused(t, err, apierrors.IsInvalid, "The range of valid IPs is 10.9.0.0/24")

	if _, _, err := r.Delete(t.Context(), svcs, "default", "fixed", metav1.DeleteOptions{}, "me"); err != nil {
		t.Fatal(err)
	}
	again.Spec.ClusterIP = "10.9.0.77"
	create(t, r, svcs, again)

	headless := service("headless")
	headless.Spec.ClusterIP = "None"
	if headless = create(t, r, svcs, headless); headless.Spec.ClusterIP != "None" {
		t.Errorf("%+v", headless.Spec)
	}
}

func TestAServiceKeepsAndGivesBackWhatItsTypeNeeds(t *testing.T) {
	r := open(t)
	svcs := core("services")
	s := service("a")
	s.Spec.Type = corev1.ServiceTypeNodePort
	s = create(t, r, svcs, s)
	port, ip := s.Spec.Ports[0].NodePort, s.Spec.ClusterIP
	if port < 30000 || port > 32767 {
		t.Fatalf("node port %d", port)
	}
	// A client that knows nothing of what was allocated keeps it.
	bare := service("a")
	bare.Spec.Type = corev1.ServiceTypeNodePort
	if s = update(t, r, svcs, "", bare); s.Spec.Ports[0].NodePort != port || s.Spec.ClusterIP != ip {
		t.Errorf("%+v", s.Spec)
	}
	other := service("b")
	other.Spec.Type = corev1.ServiceTypeNodePort
	other.Spec.Ports[0].NodePort = port
	_, err := r.Create(t.Context(), svcs, other, registry.CreateOptions{})
	refused(t, err, apierrors.IsInvalid, "provided port is already allocated")

	s.Spec.Type = corev1.ServiceTypeClusterIP
	if s = update(t, r, svcs, "", s); s.Spec.Ports[0].NodePort != 0 || s.Spec.ClusterIP != ip {
		t.Errorf("%+v", s.Spec)
	}
	create(t, r, svcs, other)
	s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.9.0.200", nil
	_, err = r.Update(t.Context(), svcs, "", s, registry.UpdateOptions{})
	refused(t, err, apierrors.IsInvalid, "clusterIP")
}
