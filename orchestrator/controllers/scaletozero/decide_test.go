package scaletozero

import (
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhenAWorkloadIsScaledToZeroAndBack(t *testing.T) {
	now := time.Unix(1e9, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	const after = 40 * time.Second // told every 10 s, and a second more: idle after 51 s
	one := func(last time.Duration, held int) []front {
		f := front{service: &corev1.Service{}, after: after, use: use{held: held, node: "n1"}}
		if last > 0 {
			f.use.last = ago(last)
		}
		return []front{f}
	}
	for name, c := range map[string]struct {
		replicas, before int32
		fronts           []front
		since            time.Duration
		want             int32 // -1: leave it
		again            time.Duration
		says             string
	}{
		"never used, just seen":            {replicas: 3, fronts: one(0, 0), since: 0, want: -1, again: 30 * time.Second},
		"never used":                       {replicas: 3, fronts: one(0, 0), since: time.Hour, want: 0, says: "Scaled down deployment/web from 3 to 0: no connection or request for 40s"},
		"used just now":                    {replicas: 3, fronts: one(time.Second, 0), since: time.Hour, want: -1, again: 30 * time.Second},
		"used 45 s ago":                    {replicas: 3, fronts: one(45*time.Second, 0), since: time.Hour, want: -1, again: 6 * time.Second},
		"used 51 s ago":                    {replicas: 3, fronts: one(51*time.Second, 0), since: time.Hour, want: 0},
		"used long ago, has just had pods": {replicas: 3, fronts: one(time.Hour, 0), since: 10 * time.Second, want: -1, again: 30 * time.Second},
		"one waits for its first pod":      {replicas: 3, fronts: one(time.Hour, 2), since: time.Hour, want: -1, again: 30 * time.Second},
		"at zero, nobody asks":             {fronts: one(time.Hour, 0), before: 3, want: -1},
		"at zero, two wait":                {fronts: one(time.Second, 2), before: 3, want: 3, says: "Scaled up deployment/web from 0 to 3: 2 wait on node n1 for a pod"},
		"at zero, whoever did that":        {fronts: one(time.Second, 1), want: 1},
		"another Service before it is used": {replicas: 3, fronts: append(one(time.Hour, 0), one(time.Second, 0)...), since: time.Hour,
			want: -1, again: 30 * time.Second},
		"another Service's wait": {fronts: append(one(time.Hour, 0), one(time.Second, 4)...), before: 2, want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			v := decide("deployment/web", c.replicas, c.before, c.fronts, ago(c.since), now)
			if v.change != (c.want >= 0) || v.change && v.replicas != c.want || !v.change && v.again != c.again || !strings.Contains(v.message, c.says) {
				t.Errorf("got %+v", v)
			}
		})
	}
}

func TestUseIsThatOfAllNodes(t *testing.T) {
	now := time.Unix(1e9, 0)
	lease := func(node, held string, ago time.Duration) *coordinationv1.Lease {
		at := metav1.NewMicroTime(now.Add(-ago))
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotationHeld: held}}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &node, RenewTime: &at}}
	}
	u := useOf([]*coordinationv1.Lease{lease("a", "0", time.Hour), lease("b", "2", 5*time.Second), lease("gone", "7", 2*time.Minute), lease("c", "nonsense", time.Minute), {}}, now)
	if u.held != 2 || u.node != "b" || !u.last.Equal(now.Add(-5*time.Second)) {
		t.Errorf("%+v", u)
	}
	if u := useOf(nil, now); !u.last.IsZero() || u.held != 0 {
		t.Errorf("%+v", u)
	}
}
