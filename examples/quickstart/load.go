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

	began time.Time
	ended time.Time // of the sending; the last answers come later
	stop  func()
	done  sync.WaitGroup
}

// loadRate is how many requests are sent a second, over all targets; leastRate is how many make the load
// one that counts.
const (
	loadRate  = 240
	leastRate = 200
)

// flyingMost is how many requests of one stream wait for their answers at a time. A host that answers
// more slowly than that gets fewer requests, as of clients that wait, and the rate says so; more and
// more of them would only wait in its queues until they time out.
const flyingMost = 16

// startLoad begins sending until finish is called.
func startLoad(ctx context.Context, targets []target) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{reasons: map[string]int{}, versions: map[string]int{}, began: time.Now(), stop: cancel}
	streams := 2 * len(targets)
	for _, t := range targets {
		for _, fresh := range []bool{false, true} {
			l.done.Go(func() { l.stream(ctx, t, fresh, time.Second*time.Duration(streams)/loadRate) })
		}
	}
	return l
}

// stream sends one request per interval, without waiting for the answers of earlier ones, unless
// flyingMost of them are out.
func (l *load) stream(ctx context.Context, t target, fresh bool, interval time.Duration) {
	transport := t.transport(fresh)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	var flying sync.WaitGroup
	defer flying.Wait()
	places := make(chan struct{}, flyingMost)
	began, sent := time.Now(), 0
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
		// A busy host delivers some ticks late, and then drops others: what they stood for is sent now.
		for due := int(time.Since(began) / interval); sent < due; sent++ {
			select {
			case places <- struct{}{}:
			default:
				sent = due - 1 // nobody waits to be sent later
				continue
			}
			// Requests that are under way when the load ends are still waited for and counted.
			flying.Go(func() {
				defer func() { <-places }()
				version, _, err := t.get(context.WithoutCancel(ctx), client)
				l.count(kind, version, err)
			})
		}
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

// finish ends the load and waits for the answers that are out. rate is how many requests were sent a second.
func (l *load) finish() (requests, failed int, rate float64, reasons map[string]int) {
	l.stop()
	l.ended = time.Now()
	l.done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests, l.failed, float64(l.requests) / l.ended.Sub(l.began).Seconds(), l.reasons
}

// slowError says that the host could not carry the load. No request failed for it.
type slowError struct {
	step string
	rate float64
}

func (e *slowError) Error() string {
	return fmt.Sprintf("%s: no request failed, but only %.0f/s could be sent instead of at least %d: this host is too busy for the story; tell it again when it has a core to spare", e.step, e.rate, leastRate)
}
