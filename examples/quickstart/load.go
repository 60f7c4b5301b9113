package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// target is one way in to the application.
type target struct {
	name string
	url  string
	host string // Host header and SNI, when they differ from the URL's
	addr string // dialled instead of the URL's host and port, when set
	ca   *x509.CertPool
}

// transport makes its own connections: one for kept-alive requests, or a fresh one for each.
func (t target) transport(fresh bool) *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Transport{
		DisableKeepAlives:   fresh,
		MaxIdleConnsPerHost: 8,
		TLSClientConfig:     &tls.Config{RootCAs: t.ca, ServerName: t.host},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if t.addr != "" {
				addr = t.addr
			}
			return dialer.DialContext(ctx, network, addr)
		},
	}
}

// get sends one request and returns the first word of the answer (the version) and the rest (the
// pod). net/http itself sends a request again only on a kept-alive connection that was closed
// before any answer.
func (t target) get(ctx context.Context, client *http.Client) (version, pod string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return "", "", err
	}
	if t.host != "" {
		request.Host = t.host
	}
	response, err := client.Do(request)
	if err != nil {
		return "", "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return "", "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", "", fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(body)))
	}
	version, pod, _ = strings.Cut(strings.TrimSpace(string(body)), " ")
	return version, pod, nil
}

// load is constant traffic to the targets, half of it on kept-alive and half on fresh connections.
type load struct {
	mu       sync.Mutex
	requests int
	failed   int
	reasons  map[string]int
	versions map[string]int

	stop func()
	done sync.WaitGroup
}

// loadRate is how many requests are sent a second, over all targets.
const loadRate = 240

// startLoad begins sending until finish is called.
func startLoad(ctx context.Context, targets []target) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{reasons: map[string]int{}, versions: map[string]int{}, stop: cancel}
	streams := 2 * len(targets)
	for _, t := range targets {
		for _, fresh := range []bool{false, true} {
			l.done.Go(func() { l.stream(ctx, t, fresh, time.Second*time.Duration(streams)/loadRate) })
		}
	}
	return l
}

// stream sends one request per interval, without waiting for the answers of earlier ones.
func (l *load) stream(ctx context.Context, t target, fresh bool, interval time.Duration) {
	transport := t.transport(fresh)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	var flying sync.WaitGroup
	defer flying.Wait()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	kind := t.name + ", kept alive"
	if fresh {
		kind = t.name + ", fresh"
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		// Requests that are under way when the load ends are still waited for and counted.
		flying.Go(func() {
			version, _, err := t.get(context.WithoutCancel(ctx), client)
			l.count(kind, version, err)
		})
	}
}

func (l *load) count(kind, version string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	if err != nil {
		l.failed++
		reason := err.Error()
		if op := (*net.OpError)(nil); errors.As(err, &op) { // without the ports, which differ each time
			reason = op.Op + ": " + op.Err.Error()
		}
		l.reasons[kind+": "+reason]++
		return
	}
	l.versions[version]++
}

// finish ends the load and waits for the answers that are out.
func (l *load) finish() (requests, failed int, reasons map[string]int) {
	l.stop()
	l.done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests, l.failed, l.reasons
}
