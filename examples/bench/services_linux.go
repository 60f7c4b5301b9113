package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/netproxy/nft"
	"github.com/pintle/pintle/netproxy/services"
)

const manyServices = 10_000

// servicesMeasurement programs Services into nftables in a fresh network namespace: all at once, the
// median of three, then one more, the median of fifty.
func servicesMeasurement() measurement {
	const all, one = "10,000 Services x 3 endpoints into nftables", "one more Service on 10,000"
	return measurement{table: "main", rows: []string{all, one}, run: func(ctx context.Context, _ *workshop) ([]Row, error) {
		if os.Geteuid() != 0 {
			return nil, errors.New("needs root")
		}
		if err := nft.Available(); err != nil {
			return nil, err
		}
		var many, more []time.Duration
		ended := make(chan error, 1)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread and its namespace end with the goroutine
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				ended <- fmt.Errorf("new network namespace: %w", err)
				return
			}
			var err error
			many, more, err = programServices(ctx)
			ended <- err
		}()
		if err := <-ended; err != nil {
			return nil, err
		}
		return []Row{
			{Row: all, Unit: "ms", Pintle: number(milliseconds(median(many))), below: 300},
			{Row: one, Unit: "ms", Pintle: number(milliseconds(median(more))), below: 2},
		}, nil
	}}
}

func programServices(ctx context.Context) (many, more []time.Duration, err error) {
	changes := make([]services.Change, manyServices)
	for i := range changes {
		changes[i] = services.Change{New: serviceOfThree(i)}
	}
	for round := range 3 {
		p, err := nft.New(nft.Config{Name: "bench", ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, DNSServiceIP: netip.MustParseAddr("10.96.0.10")})
		if err != nil {
			return nil, nil, err
		}
		begin := time.Now()
		err = p.Apply(ctx, changes)
		many = append(many, time.Since(begin))
		for i := 0; err == nil && round == 2 && i < 50; i++ {
			change := []services.Change{{New: serviceOfThree(manyServices + i)}}
			begin := time.Now()
			err = p.Apply(ctx, change)
			more = append(more, time.Since(begin))
		}
		if err = errors.Join(err, p.Teardown(), p.Close()); err != nil {
			return nil, nil, err
		}
	}
	return many, more, nil
}

func serviceOfThree(i int) *services.Service {
	var endpoints []netip.AddrPort
	for e := range 3 {
		j := i*3 + e
		endpoints = append(endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(j >> 8), byte(j)}), 8080))
	}
	return &services.Service{Key: services.Key{Namespace: "default", Name: fmt.Sprint("s", i)},
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(1 + i>>8), byte(i)})},
		Ports:      []services.Port{{Protocol: corev1.ProtocolTCP, Port: 80, Cluster: endpoints, Internal: endpoints, External: endpoints}}}
}
