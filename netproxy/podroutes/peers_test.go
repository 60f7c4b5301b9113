package podroutes

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(name, at, pods string, age int) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(1000-age), 0))}, Spec: corev1.NodeSpec{PodCIDR: pods}}
	if at != "" {
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: at}}
	}
	return n
}

func TestPeersAreTheOthersThatCanBeReached(t *testing.T) {
	links := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, c := range []struct {
		name  string
		nodes []*corev1.Node
		want  []string
	}{
		{"itself alone", []*corev1.Node{node("a", "192.0.2.1", "10.1.0.0/24", 0)}, nil},
		{"a neighbour and one behind a router", []*corev1.Node{node("a", "192.0.2.1", "10.1.0.0/24", 0), node("c", "198.51.100.3", "10.1.2.0/24", 0), node("b", "192.0.2.2", "10.1.1.0/24", 0)},
			[]string{"b 192.0.2.2 10.1.1.0/24 near", "c 198.51.100.3 10.1.2.0/24 far"}},
		{"one that has not said where it is yet", []*corev1.Node{node("b", "", "10.1.1.0/24", 0), node("c", "192.0.2.3", "", 0)}, nil},
		{"two that claim one network: the older has it", []*corev1.Node{node("b", "192.0.2.2", "10.1.1.0/24", 1), node("c", "192.0.2.3", "10.1.0.0/16", 2)},
			[]string{"c 192.0.2.3 10.1.0.0/16 near"}},
		{"one that claims ours", []*corev1.Node{node("a", "192.0.2.1", "10.1.0.0/24", 2), node("b", "192.0.2.2", "10.1.0.0/24", 1)}, nil},
	} {
		var got []string
		for _, p := range peersOf("a", c.nodes, links) {
			got = append(got, fmt.Sprintf("%s %s %s %s", p.node, p.at, p.pods, map[bool]string{true: "near", false: "far"}[p.near]))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestNamesMakeTheTunnel(t *testing.T) {
	if id := tunnelID("c"); id <= 0 || id > 0xffffff || id == tunnelID("d") {
		t.Errorf("tunnel id %d", id)
	}
	mac := hardwareAddress("c", "a")
	if len(mac) != 6 || mac[0]&3 != 2 || mac.String() == hardwareAddress("c", "b").String() {
		t.Errorf("hardware address %s", mac)
	}
	if name := linkName("some-long-cluster-name"); len(name) > 15 {
		t.Errorf("link name %s is too long", name)
	}
}
