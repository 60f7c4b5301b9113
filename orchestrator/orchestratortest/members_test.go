package orchestratortest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/pintle/pintle/orchestrator/orchestratortest"
)

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func TestThreeMembersAreOneCluster(t *testing.T) {
	m := orchestratortest.StartMembers(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for i := range 3 {
		if _, err := m.Get(m.Name(i)).Client.CoreV1().ConfigMaps("default").Create(ctx, configMap(fmt.Sprint("by-", i)), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		list, err := m.Get(m.Name(i)).Client.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 4 { // kube-root-ca.crt too
			t.Errorf("member %d sees %d config maps", i, len(list.Items))
		}
	}
	leader := m.Leader()
	begun := time.Now()
	m.Stop(leader)
	for i := range 3 {
		if name := m.Name(i); name != leader {
			if _, err := m.Get(name).Client.CoreV1().ConfigMaps("default").Create(ctx, configMap("after-"+name), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s took a write %v after the leader began to stop", name, time.Since(begun).Round(time.Millisecond))
		}
	}
	back := m.Start(leader)
	if _, err := back.Client.CoreV1().ConfigMaps("default").Get(ctx, "after-"+m.Leader(), metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func TestMembersNeverGiveOneAddressTwice(t *testing.T) {
	m := orchestratortest.StartMembers(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	const each = 30
	var writers sync.WaitGroup
	for i := range 3 {
		client := m.Get(m.Name(i)).Client
		for k := range 3 {
			writers.Go(func() {
				for n := range each / 3 {
					s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s-%d-%d-%d", i, k, n)},
						Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}}}
					if _, err := client.CoreV1().Services("default").Create(ctx, s, metav1.CreateOptions{}); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	// And everybody asks for the same one.
	taken := make(chan string, 3)
	for i := range 3 {
		writers.Go(func() {
			s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("wanted-", i)},
				Spec: corev1.ServiceSpec{ClusterIP: "10.96.200.200", Ports: []corev1.ServicePort{{Port: 80}}}}
			if _, err := m.Get(m.Name(i)).Client.CoreV1().Services("default").Create(ctx, s, metav1.CreateOptions{}); err == nil {
				taken <- s.Name
			}
		})
	}
	writers.Wait()
	close(taken)
	var winners []string
	for name := range taken {
		winners = append(winners, name)
	}
	if len(winners) != 1 {
		t.Errorf("the same address was given to %v", winners)
	}
	list, err := m.Get(m.Name(0)).Client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ips, ports := map[string]string{}, map[int32]string{}
	for _, s := range list.Items {
		if other, twice := ips[s.Spec.ClusterIP]; twice {
			t.Errorf("%s and %s have %s", s.Name, other, s.Spec.ClusterIP)
		}
		ips[s.Spec.ClusterIP] = s.Name
		for _, p := range s.Spec.Ports {
			if p.NodePort == 0 {
				continue
			}
			if other, twice := ports[p.NodePort]; twice {
				t.Errorf("%s and %s have node port %d", s.Name, other, p.NodePort)
			}
			ports[p.NodePort] = s.Name
		}
	}
	if len(ports) != 3*each {
		t.Errorf("%d node ports for %d Services", len(ports), 3*each)
	}
}

func TestEveryMemberShowsTheMembers(t *testing.T) {
	m := orchestratortest.StartMembers(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	rest := m.Get("m2").RESTConfig()
	client, err := dynamic.NewForConfig(rest)
	if err != nil {
		t.Fatal(err)
	}
	members := client.Resource(schema.GroupVersionResource{Group: "cluster.pintle.dev", Version: "v1alpha1", Resource: "members"})
	show := func() map[string]string {
		list, err := members.List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, o := range list.Items {
			role, _, _ := unstructured.NestedString(o.Object, "status", "role")
			leader, _, _ := unstructured.NestedBool(o.Object, "status", "leader")
			if leader {
				role += ",Leader"
			}
			out[o.GetName()] = role
		}
		return out
	}
	until(t, "three voters, one of which leads", func() bool {
		s := show()
		return len(s) == 3 && strings.HasPrefix(s["m1"], "Voter") && strings.HasPrefix(s["m2"], "Voter") && strings.HasPrefix(s["m3"], "Voter")
	})
	// Whoever does not lead is asked to.
	leader := m.Leader()
	next := "m1"
	if leader == next {
		next = "m2"
	}
	patch := []byte(`{"metadata":{"annotations":{"cluster.pintle.dev/hand-over":"true"}}}`)
	if _, err := members.Patch(ctx, next, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, next+" leads", func() bool { return m.Leader() == next })
	// Who is deleted is out of the cluster, and the others go on.
	gone := "m3"
	if next == gone {
		gone = "m1"
	}
	if err := members.Delete(ctx, gone, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, gone+" is gone", func() bool {
		list, err := m.Get(next).Members(ctx)
		return err == nil && len(list) == 2 && len(show()) == 2
	})
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
