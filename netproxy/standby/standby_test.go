package standby

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pintle/pintle/netproxy/services"
)

func TestWhenUseIsTold(t *testing.T) {
	t0 := time.Unix(1e9, 0)
	at := func(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }
	const after = 20 * time.Second // told every 5 s
	for name, c := range map[string]struct {
		use  use
		now  float64
		due  bool
		next time.Time
	}{
		"never used":                 {use: use{}, now: 100},
		"the first use":              {use: use{active: 1, last: at(0)}, due: true},
		"used on":                    {use: use{active: 1, last: at(0), told: at(0), toldLast: at(0)}, now: 2, next: at(5)},
		"used on, told again":        {use: use{active: 1, last: at(0), told: at(0), toldLast: at(0)}, now: 5, due: true},
		"used since":                 {use: use{last: at(3), told: at(0), toldLast: at(0)}, now: 4, next: at(5)},
		"all told":                   {use: use{last: at(3), told: at(5), toldLast: at(3)}, now: 60},
		"one waits":                  {use: use{active: 1, held: 1, last: at(9), told: at(0), toldLast: at(0)}, now: 9, due: true},
		"one waits, told just now":   {use: use{active: 1, held: 1, last: at(9), told: at(8.5), toldLast: at(8)}, now: 9, next: at(9.5)},
		"more wait":                  {use: use{active: 9, held: 9, last: at(9), told: at(8), toldLast: at(8), toldHeld: 1}, now: 10, next: at(18)},
		"they wait for long":         {use: use{active: 9, held: 9, last: at(9), told: at(8), toldLast: at(8), toldHeld: 1}, now: 18, due: true},
		"they wait no longer":        {use: use{active: 9, last: at(9), told: at(8), toldLast: at(8), toldHeld: 9}, now: 10, due: true},
		"they wait no longer, early": {use: use{last: at(9), told: at(8.5), toldLast: at(8), toldHeld: 9}, now: 9, next: at(9.5)},
	} {
		t.Run(name, func(t *testing.T) {
			due, next := c.use.due(after, at(c.now))
			if due != c.due || !c.due && !next.Equal(c.next) {
				t.Errorf("due %v, next %v; want %v, %v", due, next.Sub(t0), c.due, c.next.Sub(t0))
			}
		})
	}
}

func service(eps ...netip.AddrPort) *services.Service {
	return &services.Service{Key: services.Key{Namespace: "d", Name: "web"}, UID: "u", ScaleToZero: 20 * time.Second,
		Ports: []services.Port{{Port: 80, Protocol: corev1.ProtocolTCP, Cluster: eps}}}
}

func TestWhatComesWaitsForAnEndpointWithinBoundsAndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		d := New(Config{Client: client, NodeName: "n.1", MaxHeld: 2})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- d.Run(ctx) }()
		none := service()
		d.Mark([]services.Change{{New: none}})
		d.Wake([]services.Change{{New: none}})
		if d.Of(services.Key{Namespace: "d", Name: "other"}) != nil {
			t.Error("another Service is held")
		}
		e := d.Of(none.Key)
		wait := func() chan error {
			ch := make(chan error, 1)
			go func() { defer e.Begin()(); ch <- e.Wait(ctx) }()
			return ch
		}
		a, b := wait(), wait()
		synctest.Wait()
		if err := e.Wait(ctx); !errors.Is(err, ErrFull) {
			t.Errorf("a third one: %v", err)
		}
		lease := func() (held string, used time.Time) {
			l, err := client.CoordinationV1().Leases("d").Get(ctx, "web.standby.n.1", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if l.Labels[LabelService] != "web" || len(l.OwnerReferences) != 1 || *l.Spec.HolderIdentity != "n.1" {
				t.Errorf("%+v", l)
			}
			return l.Annotations[AnnotationHeld], l.Spec.RenewTime.Time
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if held, _ := lease(); held == "0" { // 1 or 2: that more wait isn't told at once
			t.Errorf("the Lease says that %s wait", held)
		}
		one := service(netip.MustParseAddrPort("10.0.0.1:80"))
		d.Mark([]services.Change{{Old: none, New: one}})
		select {
		case <-a:
			t.Error("one went on before its endpoint was programmed")
		default:
		}
		d.Wake([]services.Change{{Old: none, New: one}})
		if err := errors.Join(<-a, <-b); err != nil {
			t.Error(err)
		}
		if err := e.Wait(ctx); err != nil {
			t.Errorf("with an endpoint: %v", err)
		}
		ended := time.Now()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if held, used := lease(); held != "0" || used.Before(ended.Add(-time.Second)) {
			t.Errorf("the Lease says that %s wait, and the last use was at %v", held, used)
		}

		d.Mark([]services.Change{{Old: one, New: none}})
		began := time.Now()
		if err := e.Wait(ctx); !errors.Is(err, ErrLate) || time.Since(began) != time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		c := wait()
		synctest.Wait()
		d.Mark([]services.Change{{Old: none}}) // deleted: it is refused as others are
		if err := <-c; err != nil {
			t.Error(err)
		}
		cancel()
		<-ran
	})
}
