package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	dnsNames   = 1000
	dnsSockets = 8
	dnsWindow  = 16 // queries that each socket has under way
	loadRounds = 2
	loadTime   = 2 * time.Second
)

// dnsMeasurement asks for the addresses of 1,000 Services over UDP, Pintle and CoreDNS in turns, each
// in a process of its own, with the same load.
func dnsMeasurement() measurement {
	const name = "DNS over UDP, queries for A records of 1,000 Services"
	return measurement{table: "main", rows: []string{name}, run: func(ctx context.Context, w *workshop) ([]Row, error) {
		program, err := w.build(ctx, ".", "./subject/dns")
		if err != nil {
			return nil, err
		}
		ours, err := start(program)
		if err != nil {
			return nil, err
		}
		defer ours.stop()
		address, err := ours.line(ctx, 10*time.Second)
		if err != nil {
			return nil, err
		}
		row := Row{Row: name, Unit: "1/s", PeerName: "CoreDNS, its file plugin"}
		peer, peerAddress, err := startCoreDNS(ctx, w)
		if err != nil {
			row.PeerName = "CoreDNS can't run here: " + err.Error()
		} else {
			defer peer.terminate()
		}
		var rate, peerRate float64
		for range loadRounds {
			r, err := queries(ctx, address, loadTime)
			if err != nil {
				return nil, err
			}
			rate += r / loadRounds
			if peer == nil {
				continue
			}
			if r, err = queries(ctx, peerAddress, loadTime); err != nil {
				return nil, fmt.Errorf("CoreDNS: %w", err)
			}
			peerRate += r / loadRounds
		}
		row.Pintle = number(rate)
		if peer != nil {
			row.Peer = number(peerRate)
		}
		return []Row{row}, nil
	}}
}

func startCoreDNS(ctx context.Context, w *workshop) (*process, string, error) {
	program, err := w.build(ctx, "coredns", ".")
	if err != nil {
		return nil, "", err
	}
	dir, err := w.folder("coredns")
	if err != nil {
		return nil, "", err
	}
	var zone strings.Builder
	zone.WriteString("$ORIGIN cluster.local.\n@ 30 IN SOA ns.dns hostmaster 1 7200 1800 86400 30\n@ 30 IN NS ns.dns\nns.dns 30 IN A 127.0.0.1\n")
	for i := range dnsNames {
		fmt.Fprintf(&zone, "s%d.default.svc 30 IN A 10.96.%d.%d\n", i, 1+i>>8, i&255)
	}
	free, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	address := free.LocalAddr().String()
	free.Close()
	_, port, _ := net.SplitHostPort(address)
	zoneFile, conf := filepath.Join(dir, "zone"), filepath.Join(dir, "Corefile")
	corefile := fmt.Sprintf("cluster.local:%s {\n bind 127.0.0.1\n file %s\n}\n", port, zoneFile)
	for file, text := range map[string]string{zoneFile: zone.String(), conf: corefile} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return nil, "", err
		}
	}
	p, err := start(program, "-quiet", "-conf", conf)
	if err != nil {
		return nil, "", err
	}
	query := new(dns.Msg).SetQuestion("s1.default.svc.cluster.local.", dns.TypeA)
	client := &dns.Client{Timeout: 200 * time.Millisecond}
	for range 50 {
		if answer, _, err := client.ExchangeContext(ctx, query, address); err == nil && len(answer.Answer) == 1 {
			return p, address, nil
		}
		select {
		case <-p.ended:
			return nil, "", fmt.Errorf("it ended: %s", firstLines(p.stderr.String(), 3))
		case <-time.After(100 * time.Millisecond):
		}
	}
	p.terminate()
	return nil, "", fmt.Errorf("no answer within 5 s")
}

// queries loads the server for some time and returns the good answers per second.
func queries(ctx context.Context, address string, length time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var wg sync.WaitGroup
	good, errs := make([]int, dnsSockets), make([]error, dnsSockets)
	begin := time.Now()
	for i := range dnsSockets {
		wg.Go(func() { good[i], errs[i] = ask(ctx, address, i) })
	}
	wg.Wait()
	total := 0
	for i := range good {
		if errs[i] != nil {
			return 0, fmt.Errorf("DNS load: %w", errs[i])
		}
		total += good[i]
	}
	if total == 0 {
		return 0, fmt.Errorf("DNS load: %s gave no good answer", address)
	}
	return float64(total) / time.Since(begin).Seconds(), nil
}

// ask keeps a window of queries under way on one socket until ctx ends; what is lost is sent anew.
func ask(ctx context.Context, address string, seed int) (good int, err error) {
	conn, err := net.Dial("udp4", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	packets := make([][]byte, dnsNames)
	for i := range packets {
		query := new(dns.Msg).SetQuestion(fmt.Sprintf("s%d.default.svc.cluster.local.", i), dns.TypeA)
		query.Id = uint16(i)
		if packets[i], err = query.Pack(); err != nil {
			return 0, err
		}
	}
	next := seed * dnsNames / dnsSockets
	send := func() error {
		next++
		_, err := conn.Write(packets[next%dnsNames])
		return err
	}
	answer := make([]byte, 1500)
	for under := 0; ctx.Err() == nil; {
		for ; under < dnsWindow; under++ {
			if err := send(); err != nil {
				return good, err
			}
		}
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := conn.Read(answer)
		if err != nil {
			under = 0 // lost: send a new window
			continue
		}
		under--
		// Header: the reply code in byte 3's lower half, the count of answers in bytes 6 and 7.
		if n > 12 && answer[3]&0xf == 0 && answer[7] == 1 {
			good++
		}
	}
	return good, nil
}
