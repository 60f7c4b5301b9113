package devices

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/gpu/topology"
)

func TestAPricerCountsAPodOnceAndPricesWhenDue(t *testing.T) {
	p := NewPricer()
	half := topology.PodClass{GPUMilli: 500, GPUs: 1}
	for range 100 {
		p.Observe("the same", half)
	}
	if p.Due() || p.Latest().Prices != nil {
		t.Error("one pod is no mix")
	}
	for i := range firstPricing {
		p.Observe(types.UID(fmt.Sprint(i)), half)
	}
	if !p.Due() {
		t.Fatal("nothing is due after so many pods")
	}
	p.Reprice()
	if p.Due() || p.Latest().Prices == nil || p.Latest().Generation != 1 || p.Latest().Waste(400) != 400 {
		t.Errorf("%+v", p.Latest())
	}
}

// Pods are observed, and prices read, while Run makes new ones.
func TestAPricerRunsBesideDecisions(t *testing.T) {
	p := NewPricer()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 200 {
				p.Observe(types.UID(fmt.Sprint(w, "/", i)), topology.PodClass{GPUMilli: 100 * (1 + i%9), GPUs: 1, CPUMilli: 1000})
				p.Latest()
			}
		})
	}
	wg.Wait()
	for end := time.Now().Add(20 * time.Second); p.Due() || p.Latest().Prices == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody prices")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
