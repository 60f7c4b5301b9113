package orchestratortest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
